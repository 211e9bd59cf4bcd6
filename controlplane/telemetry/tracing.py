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
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
_NOTHING: Final = nullcontext()
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


class Running:
    """The block in which a span runs; a class of its own, since a change has ten of them."""

    __slots__ = ("_at", "_attributes", "_kind", "_links", "_module", "_name", "_parent", "_start", "_state", "_token")

    def __init__(
        self,
        name: str,
        at: Traceparent,
        parent: Traceparent | None,
        kind: Kind,
        *,
        module: str = "",
        attributes: Mapping[str, Any] | None = None,
        links: tuple[Traceparent, ...] = (),
        start: int = 0,
        state: tracecontext.Members | None = None,
    ) -> None:
        self._name = name
        self._at = at
        self._parent = parent
        self._kind = kind
        self._module = module
        self._attributes = attributes
        self._links = links
        self._start = start
        self._state = state
        """Of a caller; None: the parent is a span of this process."""

    def __enter__(self) -> Traceparent:
        """Stand in the span."""
        self._start = self._start or tracing.now()
        self._token = current.set(self._at)
        return self._at

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        """The span is over."""
        current.reset(self._token)
        error = "" if raised is None else raised.__qualname__
        end = tracing.now()
        parent = "" if self._parent is None else self._parent.span_id
        if self._at.sampled:
            labels = {**(self._attributes or {}), **({"modplane.module": self._module} if self._module else {})}
            book.tracer.end(
                tracing.Span(
                    self._name,
                    self._at,
                    parent,
                    self._start,
                    end,
                    self._kind,
                    tracing.cut(labels, ATTRIBUTES_MAX),
                    self._links[:LINKS_MAX],
                    error,
                    self._state or (),
                    self._state is not None and self._parent is not None,
                )
            )
        _keep(self._at, parent, self._name, self._module, self._start, end, error)


def begin(name: str, carried: Carried = tracecontext.NOTHING, kind: Kind = Kind.INTERNAL) -> Running:
    """A span that begins a trace here, or goes on in the caller's."""
    return Running(name, book.tracer.root(carried.parent), carried.parent, kind, state=carried.state)


@contextmanager
def begin_unless(name: str) -> Iterator[Traceparent | None]:
    """A span that begins a trace, unless this task is in one."""
    if current.get() is None:
        with begin(name) as at:
            yield at
    else:
        yield current.get()


def span(
    name: str,
    *,
    parent: Traceparent | None = None,
    module: str = "",
    kind: Kind = Kind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    links: tuple[Traceparent, ...] = (),
    start: int = 0,
) -> AbstractContextManager[Traceparent | None]:
    """A span under ``parent``, or under the one that runs; without either nothing at all.

    ``start``: when it began, nanoseconds since 1970, if that was before.
    """
    above = parent or current.get()
    if above is None:
        return _NOTHING
    at = tracecontext.child(above)
    return Running(name, at, above, kind, module=module, attributes=attributes, links=links, start=start)


def finish(done: tracing.Span, module: str = "") -> None:
    """A span is over: to the collector, if it is sampled, and to the steps that are kept."""
    book.tracer.end(done)
    _keep(done.at, done.parent, done.name, module, done.start, done.end, done.error)


def _keep(at: Traceparent, parent: str, name: str, module: str, start: int, end: int, error: str) -> None:
    book.note(
        Step.unchecked(
            trace=at.trace_id,
            id=at.span_id,
            parent=parent,
            name=name[:TEXT_MAX],
            who=WHO,
            module=module,
            start=start // 1000,
            micros=max(end - start, 0) // 1000,
            error=error[:TEXT_MAX],
        )
    )
