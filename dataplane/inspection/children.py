"""The throw-away child: limits itself, examines, answers each request in a length-framed message, and is gone.

A child takes several requests that wait, since making and ending a process costs more than a plain module's inspection;
it goes no further than the first one whose code leaves something behind that the next one would find.  Forked by
`dataplane.inspection.zygotes`; nothing here returns to the caller's code.  What the examined code prints goes to a
file in memory, whose tail tells the author where a crash or a hang happened.
"""

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from dataplane.inspection import examining
from schemas.inspections import InspectionRequest

ANSWER_MAX: Final = 4 << 20
"""Bytes; a longer answer is not read."""

_ANSWER_FD: Final = 3
_REQUEST_FD: Final = 4
_MEMORY: Final = 2 << 30
_FILE: Final = 16 << 20
_FILES: Final = 256
_GRACE: Final = 2
"""Seconds of processor time beyond the time that an inspection has."""
_DIE_WITH_PARENT: Final = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def run(request_fd: int, answer_fd: int, output_fd: int, prepare: Callable[[], None]) -> NoReturn:
    """Prepare, examine what comes on ``request_fd`` (JSON lines until its end), and end the process.

    Answers go to ``answer_fd``, all other output to ``output_fd``.
    """
    code = 1
    try:
        request_fd = _isolate(request_fd, answer_fd, output_fd)
        faulthandler.enable(file=2)
        prepare()
        with os.fdopen(request_fd, "rb") as lines:
            requests = [InspectionRequest.model_validate_json(line) for line in lines]
        _limit(sum(request.timeout_seconds for request in requests))
        before = _surroundings()
        for request in requests:
            _allow(request.timeout_seconds)
            answer = examining.examine(request).model_dump_json(by_alias=True).encode()
            _send(len(answer).to_bytes(4, "big") + answer)
            if _surroundings() != before:
                break
        code = 0
    finally:
        os._exit(code)


def _isolate(request_fd: int, answer_fd: int, output_fd: int) -> int:
    """Let go of all that is the parent's; the descriptor under which requests come from now on."""
    parent = os.getppid()
    os.setsid()
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    requests, answers = os.dup(request_fd), os.dup(answer_fd)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    high = max(requests, answers, _REQUEST_FD) + 1
    os.dup2(requests, high)
    os.dup2(answers, _ANSWER_FD, inheritable=False)
    os.dup2(high, _REQUEST_FD, inheritable=False)
    os.closerange(_REQUEST_FD + 1, 1 << 16)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # our own start-up made them text files
    gc.disable()
    return _REQUEST_FD


def _limit(seconds: float) -> None:
    with open("/proc/self/statm", "rb") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    for what, wanted in (
        (resource.RLIMIT_AS, mapped + _MEMORY),
        (resource.RLIMIT_CPU, int(seconds) + 2 * _GRACE),
        (resource.RLIMIT_FSIZE, _FILE),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (most, most))


def _allow(seconds: float) -> None:
    """Give the next inspection its time: the processor's, and for a last word about where it hangs."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(int(time.process_time() + seconds) + _GRACE, hard), hard))
    faulthandler.dump_traceback_later(seconds * 0.8, file=2)


def _surroundings() -> tuple[object, ...]:
    """What code finds when it is imported, beside the host's own modules."""
    return threading.active_count(), os.getcwd(), dict(os.environ), list(sys.path)


def _send(frame: bytes) -> None:
    while frame:
        frame = frame[os.write(_ANSWER_FD, frame) :]
