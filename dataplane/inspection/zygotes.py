"""``python -m dataplane inspect``: everything imported once, inspections in forks.

Reads `InspectionRequest` as JSON lines on standard input, writes a hello line and then `InspectionReport` lines on
standard output, in the order in which they end.  One thread, so that forking is safe; who begins when is the business
of `lanes`, one child that of `minding`.  A child that does not answer in its time, answers too much or leaves processes
behind is killed with all that it started.  Ends with standard input.

What holds for a child's later requests: only a good answer counts.  Code that failed, crashed or hung behind another's
is inspected again by itself, so that nobody answers for what another module did.

A child that left no trace rests for a moment, in case that another request comes (`lanes.STAY_SECONDS`).  Another one
waits in reserve, forked and warm before it is needed: its fork and its page faults are nobody's wait.  It is made when
nothing was asked for a while, not beside the inspection that took the last one, nor beside what follows it.
Measured: fork, page faults and exit 13 ms, ten plain routes 6 ms, against 350 ms for a fresh process.
"""

import gc
import itertools
import json
import os
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dataplane.inspection import confining, lanes, minding, surroundings, verdicts
from dataplane.runtime import assembling, collecting, hosts
from dataplane.runtime.importing import Code, library
from dataplane.sdk import BaseModuleRouter, ModuleMetadata
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

_CHUNK: Final = 1 << 16
_SWEEP_SECONDS: Final = 0.02
"""How soon we look again for processes that were killed and are not gone yet."""


class Zygote:
    """Forks children for requests; ``requests_fd`` and ``reports_fd`` are its only two doors."""

    def __init__(self, requests_fd: int, reports_fd: int) -> None:
        self._requests_fd = requests_fd
        self._reports_fd = reports_fd
        self._host = surroundings.Host()
        self._selector = selectors.DefaultSelector()
        self._input = bytearray()
        self._lanes = lanes.Lanes()
        self._children: dict[lanes.Run, minding.Child] = {}
        self._reserve: minding.Child | None = None
        self._dying: set[minding.Child] = set()
        """Killed, and not gone yet: nobody waits for that."""
        self._numbers = itertools.count()
        self._strays = False

    def run(self) -> None:
        """Serve until the requests end; children still running then are killed."""
        self._selector.register(self._requests_fd, selectors.EVENT_READ, None)
        self._write({"event": "hello", "hostVersion": hosts.host_version()})
        open_ = True
        while open_:
            self._provide()
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    open_ = self._read_requests()
                elif key.data is self._reserve:
                    self._replace()
                else:
                    self._hear(key.data, key.fd)
            self._expire()
            if self._strays:
                self._sweep()
            while run := self._lanes.resume(time.monotonic()):
                self._children[run].ask(run.request)
            while run := self._lanes.begin(time.monotonic()):
                self._begin(run)
        self._close()

    def _close(self) -> None:
        reserve = [self._reserve] if self._reserve else []
        for child in [*self._children.values(), *self._dying, *reserve]:
            child.kill()
            child.bury()
        minding.sweep(())

    def _patience(self) -> float | None:
        now, moment = time.monotonic(), self._lanes.next_moment()
        waits = [] if moment is None else [max(0.0, moment - now)]
        if self._reserve is None and (moment := self._lanes.reserve_at()) is not None:
            waits.append(max(0.0, moment - now))
        return min([*waits, *([_SWEEP_SECONDS] if self._strays else [])], default=None)

    def _provide(self) -> None:
        """Have a child in reserve, unless somebody waits or has asked just now."""
        moment = self._lanes.reserve_at()
        if self._reserve is None and moment is not None and moment <= time.monotonic():
            self._reserve = self._fork(warm)

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
            self._lanes.ask(InspectionRequest.model_validate_json(line), time.monotonic())
        except ValidationError as error:
            self._write({"event": "refused", "message": f"not an inspection request: {error}"})

    def _fork(self, prepare: Callable[[], None] = lambda: None) -> minding.Child:
        child = minding.fork(next(self._numbers), self._host, prepare)
        self._selector.register(child.exit_fd, selectors.EVENT_READ, child)
        self._selector.register(child.answer_fd, selectors.EVENT_READ, child)
        return child

    def _begin(self, run: lanes.Run) -> None:
        child, self._reserve = self._reserve or self._fork(), None
        self._children[run] = child
        if run.lane is not lanes.Lane.QUICK:
            child.slow_down()
        child.ask(run.request)

    def _replace(self) -> None:
        """The child in reserve died before it was asked: somebody outside ended it."""
        child, self._reserve = self._reserve, None
        if child is not None:
            self._kill(child)

    def _hear(self, child: minding.Child, fd: int) -> None:
        if child in self._dying:
            if fd == child.exit_fd:
                self._bury(child)
            return
        run = next(run for run, each in self._children.items() if each is child)
        closed = child.drain()
        if run in self._lanes.resting:
            self._part(run)  # nobody asked it anything
            return
        if child.complete() and not child.too_long:
            self._answered(run, child)
        elif child.complete():
            self._finish(run, verdicts.too_long(run.request))
        elif fd == child.exit_fd:
            self._finish(run, verdicts.died(run.request, child.output_fd, child.status()))
        elif closed:
            self._selector.unregister(child.answer_fd)

    def _answered(self, run: lanes.Run, child: minding.Child) -> None:
        answer, clean, busy = child.take()
        try:
            report = InspectionReport.model_validate_json(answer)
        except ValidationError:
            report, clean = verdicts.unreadable(run.request), False
        self._tell(run, report)  # first: ending a process takes longer than a plain module's inspection
        if clean and self._lanes.follow(run, time.monotonic()):
            child.ask(run.request)
        elif not (clean and self._lanes.rest(run, time.monotonic())):
            child.untidy = busy
            self._part(run)

    def _expire(self) -> None:
        now = time.monotonic()
        for run in self._lanes.rested(now):
            self._kill(self._children.pop(run))
        for run in self._lanes.late(now):
            self._finish(run, verdicts.timed_out(run.request, self._children[run].output_fd))
        for run in self._lanes.overdue(now):
            self._lanes.excuse(run, self._children[run].waited())
        for run, stays in list(self._lanes.slowed(now)):
            if stays:
                self._children[run].slow_down()
            else:
                self._children[run].untidy = True
                self._part(run)

    def _finish(self, run: lanes.Run, report: InspectionReport) -> None:
        """There will be no answer: that is one."""
        self._tell(run, report)
        self._children[run].untidy = True
        self._part(run)

    def _part(self, run: lanes.Run) -> None:
        self._lanes.end(run)
        self._kill(self._children.pop(run))

    def _tell(self, run: lanes.Run, report: InspectionReport) -> None:
        if report.outcome is not InspectionOutcome.OK and not run.fresh:
            self._lanes.repeat(run)
            return
        more = {
            "id": run.request.id,
            "host_version": hosts.host_version(),
            "duration_seconds": round(time.monotonic() - run.started, 6),
        }
        self._send(report.model_copy(update=more).model_dump_json(by_alias=True).encode())

    def _kill(self, child: minding.Child) -> None:
        child.kill()
        self._dying.add(child)
        if child.answer_fd in self._selector.get_map():
            self._selector.unregister(child.answer_fd)

    def _bury(self, child: minding.Child) -> None:
        self._selector.unregister(child.exit_fd)
        self._dying.discard(child)
        child.bury()
        self._strays |= child.untidy

    def _sweep(self) -> None:
        reserve = [self._reserve] if self._reserve else []
        self._strays = minding.sweep({child.pid for child in [*self._children.values(), *self._dying, *reserve]})

    def _write(self, document: dict[str, Any]) -> None:
        self._send(json.dumps(document, separators=(",", ":")).encode())

    def _send(self, document: bytes) -> None:
        line = document + b"\n"
        while line:
            line = line[os.write(self._reports_fd, line) :]


def main() -> int:
    """Warm up, then serve standard input and output."""
    reports_fd = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    confining.reap()
    warm()
    zygote = Zygote(0, reports_fd)
    gc.collect()
    gc.freeze()
    zygote.run()
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
    library.acquire(nowhere)
    library.release(nowhere)
    module = assembling.instantiate(Warm, nowhere)
    app = assembling.application(module, "0.0.0")
    module.register_routes(app.router)
    collecting.collect(app, nowhere)
    app.build_middleware_stack()
