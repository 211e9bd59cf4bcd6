"""Verifies an audit trail that lies there, without a control plane: one of a stopped system, or a copy of it.

Prints what the walk found as one JSON object, and changes nothing.  Called by `controlplane.__main__`, for
``modplane audit verify --file``.
"""

import json
import sys
from pathlib import Path

from controlplane import errors
from controlplane.audit import verifying
from controlplane.audit.sealing import Seals
from schemas.kits.signatures import TrustedKeys


def main(file: str, keys: str) -> int:
    """Walk along ``file``, believing the checkpoints that are signed with ``keys``; returns the exit code."""
    try:
        with verifying.opened(Path(file)) as database:
            found = verifying.verify(database, Seals(TrustedKeys(Path(keys))))
    except errors.ModplaneError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write(json.dumps(found.wire() | {"second_place": "not asked: the file alone was looked at"}) + "\n")
    return 0
