"""What to tell an author whose code gave no answer: how its process ended, and where it was then.

Pure, but for reading what the child printed.  Called by `dataplane.inspection.zygotes`.
"""

import os
import re
import signal
from pathlib import Path
from typing import Final

from dataplane.inspection import children, confining
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

_TAIL: Final = 1 << 16
_FRAME: Final = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)


def timed_out(request: InspectionRequest, output_fd: int) -> InspectionReport:
    """The code was still at it when its time was over."""
    return _report(
        request,
        InspectionOutcome.TIMED_OUT,
        "InspectionTimedOut",
        f"{_where(request, output_fd)}the import did not finish within {request.timeout_seconds:g} s; "
        "do slow work in on_startup(), not at import",
    )


def too_long(request: InspectionRequest) -> InspectionReport:
    """The answer is longer than an answer may be."""
    return _report(
        request,
        InspectionOutcome.CRASHED,
        "AnswerTooLong",
        f"the answer is longer than {children.ANSWER_MAX >> 20} MiB; register fewer routes per module",
    )


def unreadable(request: InspectionRequest) -> InspectionReport:
    """What arrived is no answer."""
    return _report(
        request,
        InspectionOutcome.CRASHED,
        "AnswerUnreadable",
        "the code wrote into our answer; a module must leave file descriptors alone that it did not open",
    )


def died(request: InspectionRequest, output_fd: int, status: int) -> InspectionReport:
    """The process ended without an answer; ``status``: its exit code, or minus the signal."""
    if status == -signal.SIGXCPU:
        return timed_out(request, output_fd)
    if status == children.Exit.LOST:
        reason = "AnswerLost"
        message = (
            "the code closed or replaced a file descriptor that it did not open, so that its inspection cannot answer; "
            "on a worker that would be a caller's connection"
        )
    elif status == children.Exit.BROKEN:
        reason = "InspectionFailed"
        message = (
            f"the inspection could not go on after the code had run{_last_words(output_fd)}; a module must not change "
            f"what its host runs on, nor take all memory ({confining.MEMORY >> 30} GiB)"
        )
    else:
        reason = "ProcessDied"
        how = f"ended with exit code {status}" if status >= 0 else f"was ended by signal {signal.Signals(-status).name}"
        message = (
            f"{_where(request, output_fd)}the process that imported the code {how}; "
            "a module must not end or crash its host"
        )
    return _report(request, InspectionOutcome.CRASHED, reason, message)


def _report(request: InspectionRequest, outcome: InspectionOutcome, reason: str, message: str) -> InspectionReport:
    return InspectionReport(id=request.id, outcome=outcome, reason=reason, message=message)


def _where(request: InspectionRequest, output_fd: int) -> str:
    """The author's innermost line in the last traceback that the child's fault handler wrote, and a colon."""
    tail = _printed(output_fd)
    last = tail[max(tail.rfind("(most recent call first)"), 0) :]
    for filename, line in _FRAME.findall(last):
        path = Path(filename)
        if path.is_relative_to(request.root):
            return f"{path.relative_to(request.root).as_posix()}:{line}: "
    return ""


def _last_words(output_fd: int) -> str:
    words = _printed(output_fd).strip().rpartition("\n")[2]
    return f" ({words[:200]})" if words else ""


def _printed(output_fd: int) -> str:
    size = os.fstat(output_fd).st_size
    return os.pread(output_fd, _TAIL, max(0, size - _TAIL)).decode(errors="replace")
