"""Short turns of the interpreter while a thread works, so that the serving loop gets its own in time.

Where loop and thread share a core, the interpreter's switch interval does not help: whoever the kernel wakes while the
loop has let go of the interpreter for a moment keeps the core for a time slice (4 ms measured), and the loop does not
even wait for the interpreter meanwhile.  So long work of ours is done in steps with a `rest` between them.

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

_WORK_SECONDS: Final = 0.0005
_REST_SECONDS: Final = 0.0005
_OFFER_SECONDS: Final = 0.00001
"""Who waits for the interpreter or for this core has them after so long (the kernel makes about 0.07 ms of it)."""
_PEACE_SECONDS: Final = 0.001
"""Work until the next offer, when the last one was not taken."""

_mine = threading.local()
_lock = threading.Lock()
_usual: list[float] = []


def wanted() -> bool:
    """Whether somebody works in short turns just now, for the sake of requests."""
    return bool(_usual)


def rest() -> None:
    """Hand interpreter and core over, if this thread worked for half a millisecond: what comes between our steps.

    Whether the serving loop wants them shows when it gets them: a loop that has run meanwhile has requests, and gets
    half a millisecond each time; one that has not is asked again after more work.  To look at what it did while this
    thread worked is no proof: on one core it cannot have run.
    """
    if not wanted() or threading.current_thread() is threading.main_thread():
        return
    if time.thread_time() < getattr(_mine, "due", 0.0):
        return
    before = served_seconds()
    time.sleep(_REST_SECONDS if getattr(_mine, "busy", False) else _OFFER_SECONDS)
    _mine.busy = served_seconds() != before
    _mine.due = time.thread_time() + (_WORK_SECONDS if _mine.busy else _PEACE_SECONDS)


def served_seconds() -> float:
    """How long the thread of the serving loop has run so far; NaN (which equals nothing) where nobody tells."""
    ident = threading.main_thread().ident
    if ident is None or not hasattr(time, "pthread_getcpuclockid"):
        return math.nan
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


def begin() -> None:
    """From now on there are requests: short turns until the process ends."""
    with _lock:
        _usual.append(sys.getswitchinterval())
        sys.setswitchinterval(SECONDS)


@contextmanager
def short() -> Iterator[None]:
    """While inside, a thread that wants the interpreter waits at most about `SECONDS` for it."""
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
