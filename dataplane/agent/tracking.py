"""The steps of each change on this worker, in the trace of whoever asked for it: load, warm, start, swap, save, tell.

    document with ``traceparent`` ──arrived──▶ steps while `applying` places it ──acknowledged──▶ a collector, and
    ``modplane.steps.<worker>``, where the control plane keeps them for ``modplane trace``

Always: a module that was not just asked for (a start, a snapshot read anew) is nobody's change and has no steps; what
cannot be told is dropped, since nothing depends on it.  Bounded by the modules on their way.
Runs on the agent's loop; driven by `following`, `applying` and `reporting`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog
from nats.errors import Error as NatsError

from schemas import names
from schemas.kits import buckets, tracecontext, tracing
from schemas.kits.natslink import LinkError, NatsLink
from schemas.kits.tasks import Tasks
from schemas.kits.tracecontext import Traceparent
from schemas.kits.tracing import Kind, Tracer
from schemas.reports import WorkerReport
from schemas.traces import TEXT_MAX, Step, StepReport

logger = structlog.get_logger("dataplane.agent.tracking")

FRESH_SECONDS: Final = 60.0
"""A document that stood longer in the bucket when it was read is nobody's change any more."""
UNDER_WAY: Final = 10_000
_PREFIX: Final = names.module_key("")
_PART: Final = 500
_LINKS: Final = 16


class _Done(NamedTuple):
    name: str
    start: int
    end: int
    error: str = ""


class _Change:
    """One module's change on its way."""

    def __init__(self, parent: Traceparent) -> None:
        self.parent = parent
        self.at = tracecontext.child(parent)
        self.start = tracing.now()
        self.steps: list[_Done] = []
        self.order: tuple[int, int] | None = None
        """Of the document, once it is placed or refused."""
        self.placed_at = 0
        self.error = ""


class Tracks:
    """What this worker did for whose change."""

    def __init__(self, link: NatsLink, tasks: Tasks, tracer: Tracer, *, worker: str, boot: str) -> None:
        self._link = link
        self._tasks = tasks
        self._tracer = tracer
        self._worker = worker
        self._boot = boot
        self._changes: dict[str, _Change] = {}

    def arrived(self, entry: buckets.Entry) -> None:
        """A document came."""
        if not entry.key.startswith(_PREFIX) or entry.operation is not buckets.Operation.PUT:
            return
        parent = tracecontext.read_traceparent(entry.headers.get("traceparent", ""))
        if parent is None or time.time() - entry.stored_at > FRESH_SECONDS or len(self._changes) >= UNDER_WAY:
            return
        self._changes[entry.key.removeprefix(_PREFIX)] = _Change(parent)

    @contextmanager
    def step(self, module: str, name: str) -> Iterator[None]:
        """A block that is a step of a module's change, if it is on its way."""
        change = self._changes.get(module)
        if change is None:
            yield
            return
        start, error = tracing.now(), ""
        try:
            yield
        except BaseException as raised:
            error = getattr(raised, "reason", "") or type(raised).__qualname__
            raise
        finally:
            change.steps.append(_Done(name, start, tracing.now(), error))

    def split(self, module: str, name: str, moment: int) -> None:
        """The last step took until ``moment`` (nanoseconds since 1970); what came after is a step called ``name``."""
        change = self._changes.get(module)
        if change is not None and change.steps:
            last = change.steps.pop()
            moment = min(max(moment, last.start), last.end)
            change.steps += [last._replace(end=moment, error=""), _Done(name, moment, last.end, last.error)]

    def placed(self, module: str, order: tuple[int, int], error: str = "") -> None:
        """The change is in place, or refused; now it has to be saved and told."""
        change = self._changes.get(module)
        if change is not None and change.order is None:
            change.order, change.error, change.placed_at = order, error, tracing.now()

    def gone(self, module: str) -> None:
        """Nobody wants the module any more."""
        self._changes.pop(module, None)

    def told(self, report: WorkerReport, made_at: int) -> None:
        """A report has reached NATS: changes that it covers are over."""
        applied = (report.applied_epoch, report.applied_revision)
        over = {
            module: change
            for module, change in self._changes.items()
            if change.order is not None and change.order <= applied
        }
        if not over:
            return
        others = tuple(change.parent for change in over.values())
        found: list[Step] = []
        for module, change in over.items():
            del self._changes[module]
            found += self._finished(module, change, made_at, others)
        for start in range(0, len(found), _PART):
            self._tasks.start(self._send(found[start : start + _PART]), "tell steps")

    def _finished(self, module: str, change: _Change, made_at: int, others: tuple[Traceparent, ...]) -> list[Step]:
        end = tracing.now()
        labels: tracing.Attributes = {"modplane.module": module, "modplane.worker": self._worker}
        trace = change.parent.trace_id
        links = tuple(other for other in others if other.trace_id != trace)[:_LINKS]
        parts = [
            *change.steps,
            _Done("save", change.placed_at, max(made_at, change.placed_at)),
            _Done("acknowledge", made_at, end),
        ]
        spans = [
            tracing.Span(
                "apply",
                change.at,
                change.parent.span_id,
                change.start,
                end,
                Kind.CONSUMER,
                labels,
                error=change.error,
                remote=True,
            )
        ]
        for part in parts:
            at = tracecontext.child(change.at)
            joined = links if part.name == "acknowledge" else ()
            spans.append(
                tracing.Span(
                    part.name, at, change.at.span_id, part.start, part.end, Kind.INTERNAL, labels, joined, part.error
                )
            )
        for span in spans:
            self._tracer.end(span)
        return [self._step(module, span) for span in spans]

    def _step(self, module: str, span: tracing.Span) -> Step:
        return Step.model_construct(  # of our own words, so nothing of it has to be looked at
            trace=span.at.trace_id,
            id=span.at.span_id,
            parent=span.parent,
            name=span.name,
            who=self._worker,
            module=module,
            start=span.start // 1000,
            micros=max(span.end - span.start, 0) // 1000,
            error=span.error[:TEXT_MAX],
        )

    async def _send(self, steps: list[Step]) -> None:
        body = StepReport(worker=self._worker, boot=self._boot, steps=steps).model_dump_json(by_alias=True).encode()
        try:
            await self._link.call(
                lambda session: session.client.publish(names.steps_subject(self._worker), body), deadline=2.0
            )
        except (NatsError, LinkError, TimeoutError, OSError) as error:
            logger.debug("steps not told", error=f"{type(error).__name__}: {error}", steps=len(steps))
