"""Short turns of the interpreter while a thread works, so that the serving loop gets its own in time.

Python's switch interval is one for the whole process: whoever works in a thread of ours asks for short turns here, and
the usual interval comes back when the last of them is done.  Such threads keep the usual priority: one that came after
others would hold the interpreter while it waits for a core, and the serving loop with it (measured beside two busy
programs on two cores: the loop's wait at the 99th percentile grows from 6 to 20 ms with a niceness of 10).  Used by
`dataplane.agent` and `dataplane.gateway.merging`.
"""

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SECONDS: Final = 0.0005
"""Measured: a build beside a loaded loop costs it 8 ms at the 99th percentile with the usual 5 ms, 4.5 ms with this."""

_WORK_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.0005

_mine = threading.local()
_lock = threading.Lock()
_usual: list[float] = []


def wanted() -> bool:
    """Whether somebody works in short turns just now, for the sake of requests."""
    return bool(_usual)


def rest() -> None:
    """Hand the interpreter over for half a millisecond, if this thread worked a whole one and the serving loop, too.

    A loop that did nothing meanwhile has nothing to catch up with; what comes now gets its turn after `SECONDS`.
    """
    if not wanted() or threading.current_thread() is threading.main_thread():
        return
    if time.monotonic() - getattr(_mine, "rested", 0.0) > _WORK_SECONDS:
        if served_seconds() != getattr(_mine, "served", None):
            time.sleep(_REST_SECONDS)
        _begin()


def _begin() -> None:
    _mine.rested, _mine.served = time.monotonic(), served_seconds()


def served_seconds() -> float:
    """How long the thread of the serving loop has run so far; NaN (which equals nothing) where nobody tells."""
    ident = threading.main_thread().ident
    if ident is None or not hasattr(time, "pthread_getcpuclockid"):
        return math.nan
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


@contextmanager
def short() -> Iterator[None]:
    """While inside, a thread that wants the interpreter waits at most about `SECONDS` for it."""
    with _lock:
        _usual.append(sys.getswitchinterval() if not _usual else _usual[0])
        sys.setswitchinterval(SECONDS)
    _begin()
    try:
        yield
    finally:
        with _lock:
            usual = _usual.pop()
            if not _usual:
                sys.setswitchinterval(usual)
