"""Where the system is, and how to be let in: ``endpoints.json``, which `modplane up` writes and every client reads.

Written whole or not at all; removed by a clean stop.  Clients look at ``--server``, then ``MODPLANE_SERVER``,
then here, and never at defaults.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = "endpoints.json"
DATA_DIR: Final = ".modplane"
"""Default folder, in the working folder."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs of a running system."""

    control_plane: str
    data_plane: str
    nats: str
    workers: tuple[str, ...] = ()
    """Each worker's own address, in slot order."""
    token_file: str = ""
    """Path of the file with an administrator's token."""
    kubeconfig: str = ""
    """Path of a file for kubectl: address, authority and the administrator's token."""
    ca_file: str = ""
    """Path of the certificate authority that signed the control plane's certificate."""

    def wire(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "controlPlane": self.control_plane,
            "dataPlane": self.data_plane,
            "nats": self.nats,
            "workers": list(self.workers),
            **{key: path for key, path in self._files().items() if path},
        }

    def _files(self) -> dict[str, str]:
        return {"tokenFile": self.token_file, "kubeconfig": self.kubeconfig, "caFile": self.ca_file}


def path(data_dir: Path) -> Path:
    """The file of a data folder."""
    return data_dir / FILE


def write(data_dir: Path, found: Endpoints) -> None:
    """Put the file in place by one rename; OSError, then it stays as it was."""
    fresh = data_dir / f".{FILE}.{os.getpid()}"
    try:
        fresh.touch(mode=0o600)  # the address of NATS has a password in it
        fresh.write_text(json.dumps(found.wire(), indent=2) + "\n")
        fresh.replace(path(data_dir))
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def token(found: Endpoints) -> str:
    """The administrator's token, empty when there is none to read."""
    try:
        return Path(found.token_file).read_text().strip() if found.token_file else ""
    except OSError:
        return ""


def remove(data_dir: Path) -> None:
    """Say that nothing runs here any more."""
    path(data_dir).unlink(missing_ok=True)


def read(data_dir: Path) -> Endpoints | None:
    """What the file says; None if there is no readable one."""
    try:
        found = json.loads(path(data_dir).read_text())
        return Endpoints(
            control_plane=str(found["controlPlane"]),
            data_plane=str(found["dataPlane"]),
            nats=str(found["nats"]),
            workers=tuple(str(worker) for worker in found.get("workers", ())),
            token_file=str(found.get("tokenFile", "")),
            kubeconfig=str(found.get("kubeconfig", "")),
            ca_file=str(found.get("caFile", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
