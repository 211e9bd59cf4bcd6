"""Spans of a change: from the call that asks for it, through transaction, inspection and reconciling, to NATS.

    who asks (`begin`) ──▶ `span` within `span` ──┬─▶ a collector, where tracing is on (`schemas.kits.tracing`)
                                                   └─▶ steps, kept for ``modplane trace``

`current` says where a task stands in its trace; what is stored takes it along (`controlplane.store.tracking`), and who
goes on with it later, in another task, process or life of this one, begins under what was stored.
Always: work that belongs to no trace costs a look at a context variable; steps wait in bounded memory, and what does
not fit is dropped and counted.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from schemas.kits import tracecontext, tracing
from schemas.kits.tracecontext import Carried, Traceparent
from schemas.kits.tracing import Kind, Tracer
from schemas.traces import TEXT_MAX, Step

WHO: Final = "controlplane"
ROOM: Final = 10_000
"""Steps that wait to be kept."""
ATTRIBUTES_MAX: Final = 16
LINKS_MAX: Final = 16

current: Final[ContextVar[Traceparent | None]] = ContextVar("modplane_trace", default=None)
"""The span that runs here."""
request_id: Final[ContextVar[str]] = ContextVar("modplane_request", default="")
"""What the request that runs here is called (``x-request-id``, or a word of our own)."""


def bound() -> dict[str, str]:
    """What a line of the log says of the trace in which it is written."""
    at, request = current.get(), request_id.get()
    found = {} if at is None else {"trace_id": at.trace_id}
    return {**found, "request_id": request} if request else found


class Book:
    """The process's tracer, and the steps that wait to be kept."""

    def __init__(self) -> None:
        self.tracer: Tracer = tracing.OFF
        self.dropped = 0
        self._steps: deque[Step] = deque()

    def note(self, step: Step) -> None:
        """Have a step kept."""
        if len(self._steps) >= ROOM:
            self.dropped += 1
        else:
            self._steps.append(step)

    def take(self, most: int) -> list[Step]:
        """The steps that wait longest."""
        return [self._steps.popleft() for _ in range(min(most, len(self._steps)))]

    def wire(self) -> dict[str, Any]:
        """For the information page."""
        return self.tracer.wire() | {"stepsDropped": self.dropped}


book: Final = Book()
"""Of this process; `controlplane.app` gives it its tracer."""


@contextmanager
def within(at: Traceparent | None) -> Iterator[None]:
    """A block that goes on in a trace that was stored."""
    token = current.set(at)
    try:
        yield
    finally:
        current.reset(token)


@contextmanager
def begin(name: str, carried: Carried = tracecontext.NOTHING, kind: Kind = Kind.INTERNAL) -> Iterator[Traceparent]:
    """A span that begins a trace here, or goes on in the caller's."""
    parent = carried.parent
    at = book.tracer.root(parent)
    with _running(name, at, parent, kind=kind, state=carried.state, remote=parent is not None):
        yield at


@contextmanager
def begin_unless(name: str) -> Iterator[Traceparent | None]:
    """A span that begins a trace, unless this task is in one."""
    if current.get() is None:
        with begin(name) as at:
            yield at
    else:
        yield current.get()


@contextmanager
def span(
    name: str,
    *,
    parent: Traceparent | None = None,
    module: str = "",
    kind: Kind = Kind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    links: tuple[Traceparent, ...] = (),
    start: int = 0,
) -> Iterator[Traceparent | None]:
    """A span under ``parent``, or under the one that runs; without either nothing at all.

    ``start``: when it began, nanoseconds since 1970, if that was before.
    """
    above = parent or current.get()
    if above is None:
        yield None
        return
    at = tracecontext.child(above)
    with _running(name, at, above, module=module, kind=kind, attributes=attributes, links=links, start=start):
        yield at


@contextmanager
def _running(
    name: str,
    at: Traceparent,
    parent: Traceparent | None,
    *,
    module: str = "",
    kind: Kind = Kind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    links: tuple[Traceparent, ...] = (),
    start: int = 0,
    state: tracecontext.Members = (),
    remote: bool = False,
) -> Iterator[None]:
    start = start or tracing.now()
    token = current.set(at)
    error = ""
    try:
        yield
    except BaseException as raised:
        error = type(raised).__qualname__
        raise
    finally:
        current.reset(token)
        labels = {**(attributes or {}), **({"modplane.module": module} if module else {})}
        finish(
            tracing.Span(
                name,
                at,
                "" if parent is None else parent.span_id,
                start,
                tracing.now(),
                kind,
                tracing.cut(labels, ATTRIBUTES_MAX),
                links[:LINKS_MAX],
                error,
                state,
                remote,
            ),
            module,
        )


def finish(done: tracing.Span, module: str = "") -> None:
    """A span is over: to the collector, if it is sampled, and to the steps that are kept."""
    book.tracer.end(done)
    book.note(
        Step.model_construct(
            trace=done.at.trace_id,
            id=done.at.span_id,
            parent=done.parent,
            name=done.name[:TEXT_MAX],
            who=WHO,
            module=module,
            start=done.start // 1000,
            micros=max(done.end - done.start, 0) // 1000,
            error=done.error[:TEXT_MAX],
        )
    )
