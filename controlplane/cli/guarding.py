"""The guard: a small process that outlives `modplane up` just long enough to end what `up` started.

Children of `up` end by themselves when their standard input ends; a NATS server does not, and a hung child cannot.
So `up` tells the guard each process group that it starts and each that is gone (``+PID`` and ``-PID``, one a line).
When the guard's own input ends, `up` is dead, however it died: the guard ends what is left, first politely.  It holds
the data folder's lock meanwhile (an inherited descriptor), so a new `up` waits for it.

Run as a file, ``python guarding.py GRACE``: it imports the standard library only and starts in milliseconds.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

GRACE_SECONDS: Final = 20.0
"""How long processes may drain after `up` died.  Default 20 s: an idle worker needs one."""
_STEP: Final = 0.05


def main(grace: float) -> None:
    """Read process ids until the input ends, then end those that are left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    alive: list[int] = []
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            alive.append(pid)
        elif pid in alive:
            alive.remove(pid)
    end(alive, grace)


def end(groups: list[int], grace: float) -> None:
    """End process groups: the first one (NATS, which the others speak to) last, all within about ``grace`` s."""
    deadline = time.monotonic() + grace
    for group in (groups[1:], groups[:1]):
        for pid in group:
            _send(pid, signal.SIGTERM)
        while any(map(runs, group)) and time.monotonic() < deadline:
            time.sleep(_STEP)
    for pid in groups:
        _send(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    main(float(sys.argv[1]))
