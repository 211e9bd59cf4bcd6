"""Short turns of the interpreter while a thread works, so that the serving loop gets its own in time.

Python's switch interval is one for the whole process: whoever works in a thread of ours asks for short turns here, and
the usual interval comes back when the last of them is done.  A short interval is of no use while the kernel lets the
other thread run on, so such threads also come after the serving loop where both want one core.  Used by
`dataplane.agent` and `dataplane.gateway.merging`.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SECONDS: Final = 0.0005
"""Measured: a build beside a loaded loop costs it 8 ms at the 99th percentile with the usual 5 ms, 4.5 ms with this."""

NICE: Final = 10
"""How much nicer than the serving loop's a thread is that comes after it.

Measured, 25 builds beside a loop that never rests, all on one core: 50 to 57 holds of the loop longer than 2 ms without
this, 7 to 15 with it, whatever the switch interval; with 5, no less than without.
"""
_WORK_SECONDS: Final = 0.001
_REST_SECONDS: Final = 0.0005

_mine = threading.local()
_lock = threading.Lock()
_usual: list[float] = []


def wanted() -> bool:
    """Whether somebody works in short turns just now, for the sake of requests."""
    return bool(_usual)


def come_after() -> None:
    """From now on this thread, for good, gets what the others leave of a core; not the main thread, which serves."""
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread() or hasattr(_mine, "nice"):
        return  # elsewhere a priority is the whole process's
    thread = threading.get_native_id()
    _mine.nice = min(os.getpriority(os.PRIO_PROCESS, thread) + NICE, 19)
    os.setpriority(os.PRIO_PROCESS, thread, _mine.nice)


def rest() -> None:
    """Hand the interpreter over for half a millisecond, if this thread worked a whole one beside requests."""
    if not wanted() or threading.current_thread() is threading.main_thread():
        return
    if time.monotonic() - getattr(_mine, "rested", 0.0) > _WORK_SECONDS:
        time.sleep(_REST_SECONDS)
        _mine.rested = time.monotonic()


@contextmanager
def short() -> Iterator[None]:
    """While inside, a thread that wants the interpreter waits at most about `SECONDS` for it."""
    come_after()
    with _lock:
        _usual.append(sys.getswitchinterval() if not _usual else _usual[0])
        sys.setswitchinterval(SECONDS)
    try:
        yield
    finally:
        with _lock:
            usual = _usual.pop()
            if not _usual:
                sys.setswitchinterval(usual)
