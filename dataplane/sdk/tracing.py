"""The trace of the call that a module answers: its id, headers for calls to others, and spans of the module's own.

Works in handlers, dependencies and what they start, also in ``def`` handlers.  Costs next to nothing while the call is
not recorded.  Bounded: so many spans a call, so many attributes a span (`dataplane.telemetry.tracing`), so that no
module fills the collector.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final

from dataplane.telemetry import tracing as requests
from schemas.kits import tracecontext, tracing
from schemas.kits.tracecontext import Traceparent

_inner: Final[ContextVar[Traceparent | None]] = ContextVar("modplane_span", default=None)
"""The module's own span that runs here."""


def trace_id() -> str | None:
    """The id of the trace that this call belongs to, 32 hexadecimal digits; None outside of a call."""
    return requests.trace_id()


def trace_headers() -> dict[str, str]:
    """Headers that carry the trace on: give them to every call to somebody else.  Empty outside of a call.

    ``await client.get(url, headers=trace_headers())``
    """
    scope = requests.current.get()
    if scope is None:
        return {}
    carried = requests.position(scope)
    inner = _inner.get()
    return tracecontext.write(carried if inner is None else carried._replace(parent=inner))


def span(name: str, **attributes: str | bool | float) -> AbstractContextManager[None]:
    """A span of the module's own around a block; an exception marks it as failed and goes on.

    ``with span("price", market="emea"): ...``
    """
    return _made(name, tracing.Kind.INTERNAL, attributes)


@contextmanager
def outgoing_call(name: str, **attributes: str | bool | float) -> Iterator[dict[str, str]]:
    """A span around a call to somebody else; gives the headers that carry the trace there.

    ``with outgoing_call("GET rates") as headers: await client.get(url, headers=headers)``
    """
    with _made(name, tracing.Kind.CLIENT, attributes):
        yield trace_headers()


@contextmanager
def _made(name: str, kind: tracing.Kind, attributes: dict[str, str | bool | float]) -> Iterator[None]:
    scope = requests.current.get()
    call: requests.Call | None = None if scope is None else scope.get(requests.SPAN)
    parent = _inner.get()
    at = None if call is None else call.make(parent)
    if call is None or at is None:
        yield
        return
    start, error = tracing.now(), ""
    token = _inner.set(at)
    try:
        yield
    except BaseException as raised:
        error = type(raised).__qualname__
        raise
    finally:
        _inner.reset(token)
        call.add(name, at, parent, start, kind=kind, attributes=attributes, error=error)
