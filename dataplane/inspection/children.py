"""The throw-away child: confines itself, examines, answers each request in a length-framed message, and is gone.

A child takes one request after the other as it gets them, since making and ending a process costs more than a plain
module's inspection; each answer says whether another one may follow, that is, whether the code left everything as it
found it (`surroundings`).  Forked by `dataplane.inspection.minding`; nothing here returns to the caller's code.  What
the examined code prints goes to a file in memory, whose tail tells the author where a crash or a hang happened.
"""

import enum
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from dataplane.inspection import confining, examining, surroundings
from schemas.inspections import InspectionOutcome, InspectionRequest

ANSWER_MAX: Final = 4 << 20
"""Bytes; a longer answer is not read."""

HEAD: Final = 5
"""Bytes before an answer: four for its length, big-endian, one `After`."""


class After(enum.IntEnum):
    """What an answer says of the child that gives it."""

    CLEAN = 0
    """The code left everything as it found it: another request may follow."""
    USED = 1
    """The next one would find something that this one left."""
    BUSY = 2
    """It left processes behind."""


class Exit(enum.IntEnum):
    """Codes with which a child ends by itself, beside 0."""

    BROKEN = 70
    """The inspection itself could not go on after the code had run."""
    LOST = 71
    """The descriptors that requests and answers go through are not ours any more."""


_ANSWER_FD: Final = 3
_REQUEST_FD: Final = 4
_SHOWN: Final = 5
_HOST_CHANGED: Final = "HostChanged"

_exit, _fstat, _getpid, _read, _write = os._exit, os.fstat, os.getpid, os.read, os.write
"""As they are before an author's code exchanges them."""
_len: Final = len


def run(
    request_fd: int, answer_fd: int, output_fd: int, number: int, host: surroundings.Host, prepare: Callable[[], None]
) -> NoReturn:
    """Prepare, examine what comes on ``request_fd`` (JSON lines until its end), and end the process.

    Answers go to ``answer_fd``, all other output to ``output_fd``.
    """
    code: int = Exit.BROKEN
    try:
        _isolate(request_fd, answer_fd, output_fd)
        confining.confine(number)
        faulthandler.enable(file=2)
        prepare()
        host.changed()
        code = _serve(host)
    finally:
        _exit(code)


def _isolate(request_fd: int, answer_fd: int, output_fd: int) -> None:
    """Let go of all that is the parent's."""
    os.setsid()
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


def _serve(host: surroundings.Host) -> int:
    own, doors = _getpid(), _doors()
    before = surroundings.State()
    while line := _line():
        request = InspectionRequest.model_validate_json(line)
        confining.allow(request.timeout_seconds)
        faulthandler.dump_traceback_later(request.timeout_seconds * 0.3, repeat=True, file=2)
        answer, after = _answer(request, host, before)
        if _getpid() != own:
            return 0  # the code forked, and this is not the process that was asked
        if _doors() != doors:
            return Exit.LOST
        faulthandler.cancel_dump_traceback_later()
        _send(_len(answer).to_bytes(4, "big") + after.to_bytes(1, "big") + answer)
        if after is not After.CLEAN:
            return 0
    return 0


def _line() -> bytes:
    """The next request; empty at the end of them."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = _read(_REQUEST_FD, 1 << 16)
        if not chunk:
            return b""
        line += chunk
    return line


def _answer(request: InspectionRequest, host: surroundings.Host, before: surroundings.State) -> tuple[bytes, After]:
    try:
        report = examining.examine(request)
        now = surroundings.State()
        changed = [*host.changed(), *now.harm(before)]
        clean = not changed and now.same(before)
        if changed and report.outcome is InspectionOutcome.OK:
            answer = _refusal(changed)
        else:
            answer = report.model_dump_json(by_alias=True).encode()
    except BaseException:
        clean, changed = False, host.changed()
        if not changed:
            raise
        answer = _refusal(changed)
    if surroundings.has_children():
        return answer, After.BUSY
    return answer, After.CLEAN if clean else After.USED


def _refusal(changed: list[str]) -> bytes:
    """The report on code that changed ``changed``, made without what it may have changed."""
    more = f" and {_len(changed) - _SHOWN} more" if _len(changed) > _SHOWN else ""
    told = ", ".join(changed[:_SHOWN]).encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    return (
        f'{{"id":"","outcome":"failed","reason":"{_HOST_CHANGED}","message":"the code changes what every module of a '
        f'worker runs on: {told}{more}; change nothing outside your own source"}}'
    ).encode()


def _doors() -> tuple[int, int]:
    """Which pipes requests come from and answers go to; (0, 0) if one of them is closed."""
    try:
        return _fstat(_REQUEST_FD).st_ino, _fstat(_ANSWER_FD).st_ino
    except OSError:
        return 0, 0


def _send(frame: bytes) -> None:
    while frame:
        frame = frame[_write(_ANSWER_FD, frame) :]
