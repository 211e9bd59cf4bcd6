"""``python -m dataplane inspect``: everything imported once, inspections in forks.

Reads `InspectionRequest` as JSON lines on standard input, writes a hello line and then `InspectionReport` lines on
standard output, in the order in which they end.  One thread, so that forking is safe; a child that does not answer
in its time, answers too much or leaves processes behind is killed with its group.  Ends with standard input.

A request that waits alone has a child of its own; of many each child takes some.  What holds for a child's later
requests: only a good answer counts.  Code that failed, crashed or hung behind another's is inspected again by itself,
so that nobody answers for what another module did.

One child waits in reserve, forked and warm before it is needed: its fork and its page faults are nobody's wait.
Measured: fork, page faults and exit 13 ms, ten plain routes 6 ms, against 350 ms for a fresh process.
"""

import contextlib
import gc
import json
import os
import re
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dataplane.inspection import children
from dataplane.runtime import assembling, collecting, hosts
from dataplane.runtime.importing import Code
from dataplane.sdk import BaseModuleRouter, ModuleMetadata
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

_SLOTS: Final = 2
"""Children at once: more would take the machine from those who serve."""
_BATCH: Final = 8
"""Requests for one child at most."""
_SLOW_SECONDS: Final = 0.1
"""Behind an inspection that takes longer nobody waits for company."""
_CHUNK: Final = 1 << 16
_TAIL: Final = 1 << 16
_FRAME: Final = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)


@dataclass(slots=True)
class _Child:
    """One child and what it was asked."""

    pid: int
    exit_fd: int
    request_fd: int
    """Closed once it was asked."""
    answer_fd: int
    output_fd: int
    requests: deque[InspectionRequest] = field(default_factory=deque)
    """The first is under way, the others wait for it."""
    started: float = 0.0
    """When the present inspection began."""
    answer: bytearray = field(default_factory=bytearray)
    fresh: bool = True
    """Whether no other code ran in this child before the present one."""

    @property
    def request(self) -> InspectionRequest:
        """The one under way."""
        return self.requests[0]

    @property
    def deadline(self) -> float:
        return self.started + self.request.timeout_seconds

    @property
    def size(self) -> int:
        """Of the present frame, as far as it is known."""
        return 4 + int.from_bytes(self.answer[:4], "big")

    @property
    def too_long(self) -> bool:
        """Whether the frame is larger than a frame may be."""
        return len(self.answer) >= 4 and self.size > 4 + children.ANSWER_MAX

    def complete(self) -> bool:
        """Whether the whole frame arrived, or as much as is read of one that is too long."""
        return self.too_long or (len(self.answer) >= 4 and len(self.answer) >= self.size)


class Zygote:
    """Forks children for requests; ``requests_fd`` and ``reports_fd`` are its only two doors."""

    def __init__(self, requests_fd: int, reports_fd: int) -> None:
        self._requests_fd = requests_fd
        self._reports_fd = reports_fd
        self._selector = selectors.DefaultSelector()
        self._input = bytearray()
        self._waiting: deque[InspectionRequest] = deque()
        self._alone: deque[InspectionRequest] = deque()
        """Those that went wrong behind others and are inspected again."""
        self._running: dict[int, _Child] = {}
        self._reserve: _Child | None = None

    def run(self) -> None:
        """Serve until the requests end; children still running then are killed."""
        self._selector.register(self._requests_fd, selectors.EVENT_READ, None)
        self._write({"event": "hello", "hostVersion": hosts.host_version()})
        open_ = True
        self._reserve = self._fork(warm)
        while open_:
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    open_ = self._read_requests()
                elif key.data.pid in self._running:
                    self._hear(key.data, key.fd)
                elif key.data is self._reserve and key.fd == key.data.exit_fd:
                    self._replace()
            self._expire()
            while batch := self._next():
                self._ask(batch)
            if self._reserve is None and not self._waiting:
                self._reserve = self._fork(warm)
        for child in [*self._running.values(), *([self._reserve] if self._reserve else [])]:
            self._end(child)

    def _patience(self) -> float | None:
        moments = [child.deadline for child in self._running.values()]
        if self._waiting and 0 < len(self._running) < _SLOTS:
            moments.append(self._latest() + _SLOW_SECONDS)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _latest(self) -> float:
        """When the youngest of the inspections under way began."""
        return max(child.started for child in self._running.values())

    def _read_requests(self) -> bool:
        chunk = os.read(self._requests_fd, _CHUNK)
        self._input += chunk
        *lines, rest = bytes(self._input).split(b"\n")
        self._input = bytearray(rest)
        for line in lines:
            if line.strip():
                self._accept(line)
        return bool(chunk)

    def _accept(self, line: bytes) -> None:
        try:
            self._waiting.append(InspectionRequest.model_validate_json(line))
        except ValidationError as error:
            self._write({"event": "refused", "message": f"not an inspection request: {error}"})

    def _next(self) -> deque[InspectionRequest]:
        """What a child is to be asked now; nothing: there is none, no child may be made, or a few wait for company."""
        if len(self._running) >= _SLOTS:
            return deque()
        if self._alone:
            return deque([self._alone.popleft()])
        if self._running and len(self._waiting) < _BATCH and time.monotonic() < self._latest() + _SLOW_SECONDS:
            return deque()
        return deque(self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH)))

    def _fork(self, prepare: Callable[[], None] = lambda: None) -> _Child:
        """A child that prepares itself and waits to be asked."""
        theirs, request_fd = os.pipe()
        answer_fd, writer = os.pipe()
        os.set_blocking(answer_fd, False)
        output_fd = os.memfd_create("output")
        pid = os.fork()
        if pid == 0:
            children.run(theirs, writer, output_fd, prepare)
        os.close(theirs)
        os.close(writer)
        child = _Child(pid, os.pidfd_open(pid), request_fd, answer_fd, output_fd)
        self._selector.register(child.exit_fd, selectors.EVENT_READ, child)
        self._selector.register(child.answer_fd, selectors.EVENT_READ, child)
        return child

    def _ask(self, batch: deque[InspectionRequest]) -> None:
        child, self._reserve = self._reserve or self._fork(), None
        child.requests, child.started = batch, time.monotonic()
        self._running[child.pid] = child
        # a child that is gone already is heard of in a moment, and its requests with it
        with contextlib.suppress(BrokenPipeError), os.fdopen(child.request_fd, "wb") as pipe:
            pipe.writelines(request.model_dump_json(by_alias=True).encode() + b"\n" for request in batch)

    def _replace(self) -> None:
        """The child in reserve died before it was asked: somebody outside ended it."""
        child, self._reserve = self._reserve, None
        if child is not None:
            self._end(child)
            os.close(child.request_fd)
            os.close(child.output_fd)

    def _hear(self, child: _Child, fd: int) -> None:
        closed = _drain(child)
        while len(child.requests) > 1 and child.complete() and not child.too_long:
            self._answered(child)
        if child.complete() or fd == child.exit_fd:
            self._finish(child, timed_out=False)
        elif closed:
            self._selector.unregister(child.answer_fd)

    def _expire(self) -> None:
        now = time.monotonic()
        for child in [child for child in self._running.values() if child.deadline <= now]:
            self._finish(child, timed_out=True)

    def _answered(self, child: _Child) -> None:
        """One of several is done; the child is at the next."""
        self._tell(child, _read(child))
        del child.answer[: child.size]
        child.requests.popleft()
        child.started, child.fresh = time.monotonic(), False

    def _finish(self, child: _Child, *, timed_out: bool) -> None:
        if child.complete() and not child.too_long:
            self._tell(child, _read(child))  # first: ending a process takes longer than a plain module's inspection
            self._end(child)
        else:
            self._tell(child, _report(child, self._end(child), timed_out=timed_out))
        os.close(child.output_fd)
        child.requests.popleft()
        self._waiting.extendleft(reversed(child.requests))

    def _tell(self, child: _Child, report: InspectionReport) -> None:
        if report.outcome is not InspectionOutcome.OK and not child.fresh:
            self._alone.append(child.request)
            return
        spent = time.monotonic() - child.started
        self._write(
            report.model_copy(
                update={"host_version": hosts.host_version(), "duration_seconds": round(spent, 6)}
            ).model_dump(mode="json", by_alias=True)
        )

    def _end(self, child: _Child) -> int:
        """Kill the child's group and return how the child ended.

        Killed before it is reaped: until then its group's id cannot be another's, and a child that ended by itself
        keeps its own status.
        """
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        self._running.pop(child.pid, None)
        for fd in (child.exit_fd, child.answer_fd):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)
        return status

    def _write(self, document: dict[str, Any]) -> None:
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._reports_fd, line) :]


def _drain(child: _Child) -> bool:
    """Read what has arrived; True if the child closed its side."""
    while len(child.answer) <= children.ANSWER_MAX:
        try:
            chunk = os.read(child.answer_fd, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            return True
        child.answer += chunk
    return False


def _read(child: _Child) -> InspectionReport:
    """The report that arrived whole."""
    try:
        report = InspectionReport.model_validate_json(bytes(child.answer[4 : child.size]))
    except ValidationError:
        return _failure(child, InspectionOutcome.CRASHED, "AnswerUnreadable", "the code wrote into our answer")
    return report.model_copy(update={"id": child.request.id})


def _report(child: _Child, status: int, *, timed_out: bool) -> InspectionReport:
    if child.too_long:
        return _failure(
            child,
            InspectionOutcome.CRASHED,
            "AnswerTooLong",
            f"the answer is longer than {children.ANSWER_MAX >> 20} MiB; register fewer routes per module",
        )
    place = _last_place(child)
    where = f"{place}: " if place else ""
    if timed_out or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return _failure(
            child,
            InspectionOutcome.TIMED_OUT,
            "InspectionTimedOut",
            f"{where}the import did not finish within {child.request.timeout_seconds:g} s; "
            "do slow work in on_startup(), not at import",
        )
    how = (
        f"was ended by signal {signal.Signals(os.WTERMSIG(status)).name}"
        if os.WIFSIGNALED(status)
        else f"ended with exit code {os.waitstatus_to_exitcode(status)}"
    )
    return _failure(
        child,
        InspectionOutcome.CRASHED,
        "ProcessDied",
        f"{where}the process that imported the code {how}; a module must not end or crash its host",
    )


def _failure(child: _Child, outcome: InspectionOutcome, reason: str, message: str) -> InspectionReport:
    return InspectionReport(id=child.request.id, outcome=outcome, reason=reason, message=message)


def _last_place(child: _Child) -> str:
    """The author's innermost line in the last traceback that the child's fault handler wrote."""
    size = os.fstat(child.output_fd).st_size
    tail = os.pread(child.output_fd, _TAIL, max(0, size - _TAIL)).decode(errors="replace")
    last = tail[max(tail.rfind("(most recent call first)"), 0) :]
    for filename, line in _FRAME.findall(last):
        path = Path(filename)
        if path.is_relative_to(child.request.root):
            return f"{path.relative_to(child.request.root).as_posix()}:{line}"
    return ""


def main() -> int:
    """Warm up, then serve standard input and output."""
    reports_fd = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    warm()
    gc.collect()
    gc.freeze()
    Zygote(0, reports_fd).run()
    return 0


def warm() -> None:
    """Build one application: in the zygote for the imports and caches, in a child for memory pages of its own."""

    class Item(BaseModel):
        name: str

    class Warm(BaseModuleRouter):
        metadata = ModuleMetadata(module_id="warm")

        def register_routes(self, router: Any) -> None:
            def item(item: Item, q: str = "") -> Item:
                return item

            router.add_api_route("/items/{name}", item, methods=["POST"])

    nowhere = Code("warm", "sha256:" + "0" * 64, Path("/nonexistent"))
    module = assembling.instantiate(Warm, nowhere)
    app = assembling.application(module, "0.0.0")
    module.register_routes(app.router)
    collecting.collect(app, nowhere)
    app.build_middleware_stack()
