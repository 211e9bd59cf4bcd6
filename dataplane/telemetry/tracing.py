"""Spans of requests: one for the call, children for who calls, the handler, and what the module does on its way.

    server ──▶ `Traced` (only where tracing is on) ──▶ dispatcher ──▶ module ──▶ `dataplane.sdk.tracing`

Always: a request that is not recorded costs one look at its headers; one that is recorded costs the serving loop a few
objects, and everything else happens in the thread that sends (`schemas.kits.otlp`).  What a caller writes becomes
neither a name nor a label: names are route templates, texts are cut off.  Names and attributes are those of
OpenTelemetry's stable semantic conventions for HTTP.  ``url.query`` is left out, since credentials stand in queries.

`current` is the scope of the request that a task works for; logs, the audit trail and modules find its trace there.
"""

from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.kits import tracecontext, tracing
from schemas.kits.tracecontext import Carried, Traceparent
from schemas.kits.tracing import Kind, Tracer

SPAN: Final = "modplane.span"
"""The scope's key of the request's `Call`; absent when it is not recorded."""
_POSITION: Final = "modplane.trace"
_UNRECORDED: Final = "modplane.unrecorded"
"""The scope's key that says: looked at, and not recorded."""
_REQUEST: Final = "modplane.request"
SPANS_MAX: Final = 64
"""Spans of one request that a module may make; more are counted on the request's span."""
ATTRIBUTES_MAX: Final = 16
"""Attributes of a span that a module makes."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})

current: Final[ContextVar[Scope | None]] = ContextVar("modplane_request", default=None)
"""The scope of the request that runs here, as the server made it."""


def position(scope: Scope) -> Carried:
    """Where a request stands in its trace: what its own work has as parent, and what goes on with it.

    Recorded: its handler.  Not recorded: what the caller sent, or a trace that begins here.
    """
    call: Call | None = scope.get(SPAN)
    if call is not None:
        return call.carried()
    known: Carried | None = scope.get(_POSITION)
    if known is None:
        known = tracecontext.read(scope["headers"])
        if _UNRECORDED in scope:
            known = _unrecorded(known)
        if known.parent is None:
            known = known._replace(parent=tracecontext.start())
        scope[_POSITION] = known
    return known


def request_id(scope: Scope) -> str:
    """What a caller calls its request (``x-request-id``), if that is a word; else a word of our own."""
    known: str | None = scope.get(_REQUEST)
    if known is None:
        known = scope[_REQUEST] = tracecontext.request_id(scope["headers"])
    return known


def begin(scope: Scope) -> int:
    """The moment, for a span that begins within a recorded request; 0 when this one is not."""
    return tracing.now() if SPAN in scope else 0


def trace_id() -> str | None:
    """The trace of the request that runs here; None: no request does."""
    scope = current.get()
    if scope is None:
        return None
    parent = position(scope).parent
    return None if parent is None else parent.trace_id


class Call:
    """A request that is recorded, while it runs; on the serving loop, but for `make` and `add`."""

    __slots__ = (
        "_attributes",
        "_bag",
        "_handler",
        "_made",
        "_parent",
        "_scope",
        "_start",
        "_state",
        "_tracer",
        "at",
        "labels",
        "status",
    )

    def __init__(self, tracer: Tracer, scope: Scope, carried: Carried, at: Traceparent) -> None:
        self.at = at
        self.status = 0
        self.labels: dict[str, str | int] = {}
        """What says of which module a span is."""
        self._tracer = tracer
        self._scope = scope
        self._parent = carried.parent
        self._state = carried.state
        self._bag = carried.baggage
        self._start = tracing.now()
        self._attributes: tracing.Attributes = {}
        self._handler: Traceparent | None = None
        self._made = 0

    def reach(self, module: str, version: str, generation: int, route: str) -> None:
        """The route that answers, by its template."""
        self.labels = {"modplane.module": module, "modplane.module.version": version, "modplane.generation": generation}
        self._attributes["http.route"] = route

    def carried(self) -> Carried:
        """What goes on from here."""
        return Carried(self._handler or self.at, self._state, self._bag)

    def authenticated(self, start: int, status: int) -> None:
        """It was decided who calls, and whether they may."""
        failed = "" if status == 200 else str(status)
        at, decided = tracecontext.child(self.at), {"modplane.decision": status}
        self._tracer.end(
            tracing.Span(
                "authenticate",
                at,
                self.at.span_id,
                start,
                tracing.now(),
                Kind.INTERNAL,
                decided,
                (),
                failed,
                self._state,
            )
        )

    def handle(self) -> int:
        """The module's application begins; returns the moment for `handled`."""
        self._handler = tracecontext.child(self.at)
        return tracing.now()

    def handled(self, start: int) -> None:
        """It has ended."""
        at = self._handler or tracecontext.child(self.at)
        self._tracer.end(
            tracing.Span("handle", at, self.at.span_id, start, tracing.now(), Kind.INTERNAL, {}, (), "", self._state)
        )

    def make(self, parent: Traceparent | None) -> Traceparent | None:
        """The position of one more span of the module's own; None: it has made enough."""
        self._made += 1
        return None if self._made > SPANS_MAX else tracecontext.child(parent or self._handler or self.at)

    def add(
        self,
        name: str,
        at: Traceparent,
        parent: Traceparent | None,
        start: int,
        *,
        kind: Kind,
        attributes: Mapping[str, Any],
        error: str,
    ) -> None:
        """A span of the module's own has ended; from any thread."""
        own = tracing.cut(attributes, ATTRIBUTES_MAX)
        self._tracer.end(
            tracing.Span(
                name[: tracing.TEXT_MAX] or "span",
                at,
                (parent or self._handler or self.at).span_id,
                start,
                tracing.now(),
                kind,
                {**own, **self.labels},
                error=error[: tracing.TEXT_MAX],
                state=self._state,
            )
        )

    def end(self, error: str = "") -> None:
        """The request is over."""
        scope, attributes, parent = self._scope, self._attributes, self._parent
        method = scope.get("method", "GET")
        verb = method if method in _METHODS else "_OTHER"
        route = attributes.get("http.route")
        attributes["http.request.method"] = verb
        attributes["url.path"] = scope["path"][: tracing.TEXT_MAX]
        attributes["url.scheme"] = scope.get("scheme", "http")
        attributes.update(self.labels)
        if verb == "_OTHER":
            verb, attributes["http.request.method_original"] = "HTTP", method[: tracing.TEXT_MAX]
        if client := scope.get("client"):
            attributes["client.address"] = client[0]
        for name, value in scope["headers"]:
            if name == b"user-agent":
                attributes["user_agent.original"] = value[: tracing.TEXT_MAX].decode("latin-1")
        if self.status:
            attributes["http.response.status_code"] = self.status
        if self._made > SPANS_MAX:
            attributes["modplane.spans.dropped"] = self._made - SPANS_MAX
        failed = error or (str(self.status) if self.status >= 500 else "")
        if failed:
            attributes["error.type"] = failed
        self._tracer.end(
            tracing.Span(
                f"{verb} {route}" if route else verb,
                self.at,
                "" if parent is None else parent.span_id,
                self._start,
                tracing.now(),
                Kind.SERVER,
                attributes,
                (),
                failed,
                self._state,
                remote=True,
            )
        )


class Traced:
    """An ASGI application whose requests are recorded, as many of them as the sampler wants."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request or WebSocket."""
        found, sampling = tracecontext.fields(scope["headers"]), self._tracer.sampling
        if not (sampling.parent_decides and tracecontext.unsampled(found)):
            carried = tracecontext.read_fields(found)
            if sampling.wants(carried.parent):
                return self._recorded(scope, receive, send, carried)
        scope[_UNRECORDED] = True
        return self._app(scope, receive, send)

    async def _recorded(self, scope: Scope, receive: Receive, send: Send, carried: Carried) -> None:
        call = scope[SPAN] = Call(self._tracer, scope, carried, _recorded(carried.parent))

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            elif message["type"] == "websocket.accept":
                call.status = 101
            elif message["type"] == "websocket.http.response.start":
                call.status = message["status"]
            await send(message)

        error = ""
        try:
            await self._app(scope, receive, told)
        except BaseException as raised:
            error = type(raised).__qualname__
            raise
        finally:
            call.end(error)


def traced(app: ASGIApp, tracer: Tracer) -> ASGIApp:
    """The application, recorded where tracing is on; else itself, so that nothing is paid for."""
    return Traced(app, tracer) if tracer.on else app


def _recorded(parent: Traceparent | None) -> Traceparent:
    if parent is None:
        return tracecontext.start(tracecontext.RANDOM | tracecontext.SAMPLED)
    return Traceparent(parent.trace_id, tracecontext.new_span_id(), parent.flags | tracecontext.SAMPLED)


def _unrecorded(carried: Carried) -> Carried:
    """Not recorded: our own position, which says so to whoever comes further on."""
    parent = carried.parent
    if parent is None:
        return carried
    at = Traceparent(parent.trace_id, tracecontext.new_span_id(), parent.flags & ~tracecontext.SAMPLED)
    return carried._replace(parent=at)
