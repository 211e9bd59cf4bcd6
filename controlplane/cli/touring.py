"""The tour: what to type to see tenants, a flag, and the audit trail of what they decide.

A folder of modules that has a folder ``_tour`` (discovery leaves what begins with an underscore alone) has manifests
there, of tenants, a module and a flag; this repository's examples do.  Pure but for looking whether it is there.
Printed by `controlplane.cli.greeting`; the README shows the same, and a journey types it.
"""

import os
import shlex
from pathlib import Path
from typing import Final

from schemas.names import MODULES_PREFIX

FOLDER: Final = "_tour"
FLAG: Final = "flag.yaml"
MODULE: Final = "team-dashboard"
_PATH: Final = f"{MODULES_PREFIX}/v1/{MODULE}/dashboard/overview"
_MAY: Final = "--permission read_analytics"


def lines(modules: Path, data_plane: str, program: str) -> list[str]:
    """What to type, each call with what comes of it; nothing without a tour."""
    folder = modules / FOLDER
    if not (folder / FLAG).is_file():
        return []
    here = os.path.relpath(folder)
    where, flag = shlex.quote(here), shlex.quote(os.path.join(here, FLAG))

    def call(who: str = "") -> str:
        return f"curl -i {data_plane}{_PATH}" + (f' -H "authorization: Bearer ${who}"' if who else "")

    return [
        f"{program} apply -f {where} --wait",
        f"ADA=$({program} token create --sub ada --org acme {_MAY})",
        f"BOB=$({program} token create --sub bob --org globex {_MAY})",
        f"{call()}   # 401: no token",
        f"{call('ADA')}   # 200",
        f"{call('BOB')}   # 403: another organisation",
        f"sed s/ENABLED/DISABLED/ {flag} | {program} apply --wait -f -",
        f"{call('ADA')}   # 403: the flag is off",
        f"{program} apply --wait -f {flag}",
        f"{call('ADA')}   # 200",
        f"{program} audit --module {MODULE}",
    ]
