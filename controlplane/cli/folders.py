"""The data folder of `modplane up`: made, checked, and held by one `up` at a time.

The lock is a flock on ``up.lock``; it goes with the last process that holds the descriptor, so a killed `up` never
leaves it behind, and the guard keeps it until the last child is gone.
"""

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from controlplane.cli import exits, guarding

LOCK: Final = "up.lock"
"""`schemas.kits.tokens.development` looks whether somebody holds it."""
LOGS: Final = "logs"
_STEP: Final = 0.05


class DataFolder:
    """A data folder that is ours until the process ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        """Descriptor whose holders hold the folder."""

    @property
    def logs(self) -> Path:
        """Where the children's logs are."""
        return self.path / LOGS

    def release(self) -> None:
        """Give the folder back."""
        os.close(self.lock)


def take(path: Path, *, patience: float = guarding.GRACE_SECONDS + 10) -> DataFolder:
    """Make the folder if need be and hold it.

    Waits up to ``patience`` seconds for what a killed `up` left behind.  Raises `exits.Exit` with code 3 when the
    folder cannot be written or a living `up` holds it.
    """
    path = path.absolute()
    try:
        (path / LOGS).mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        probe = path / f".probe.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise exits.refused(
            f"cannot write to the data folder {path}: {_why(error)}",
            hint="Make it writable, or choose another folder with --data-dir.",
        ) from error
    _hold(path, lock, patience)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return DataFolder(path, lock)


def _hold(path: Path, lock: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise exits.refused(f"cannot lock {path / LOCK}: {_why(error)}") from error
        else:
            return
        holder = _holder(lock)
        if holder is not None and guarding.runs(holder):
            os.close(lock)
            raise exits.refused(
                f"another `modplane up` (process {holder}) runs on {path}",
                hint=f"Stop it (Ctrl-C there, or kill {holder}), or give this one its own --data-dir and ports.",
            )
        if time.monotonic() > deadline:
            os.close(lock)
            raise exits.refused(
                f"processes of an earlier `modplane up` still hold {path}",
                hint=f"See who: fuser -v {path / LOCK}. Stop them, or choose another folder with --data-dir.",
            )
        time.sleep(_STEP)


def _holder(lock: int) -> int | None:
    try:
        return int(os.pread(lock, 32, 0))
    except ValueError:
        return None


def _why(error: OSError) -> str:
    return error.strerror or str(error)
