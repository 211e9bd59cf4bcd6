"""The span of each call of the API: of every change, and of reads where somebody collects spans.

Always: a change begins a trace, or goes on in its caller's; names are the addresses' templates; watches are left out,
since they last for hours.  Called by `controlplane.api.apps`, before anything is asked of the caller.
"""

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.telemetry import tracing
from schemas import kinds, names
from schemas.kits import tracecontext
from schemas.kits import tracing as kit
from schemas.kits.tracecontext import Carried, Traceparent

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_METHODS: Final = _READING | {"POST", "PUT", "PATCH", "DELETE"}
_FIXED: Final = frozenset({"modules", "routing", "system", "workers", "events", "audit"})


class Traced:
    """An application whose calls are traced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        tracing.request_id.set(tracecontext.request_id(scope["headers"]))
        reads = scope["method"] in _READING
        if reads and (not tracing.book.tracer.on or b"watch=" in scope["query_string"]):
            await self._app(scope, receive, send)
            return
        carried = tracecontext.read(scope["headers"])
        at = tracing.book.tracer.root(carried.parent)
        start, status, error = kit.now(), 0, ""

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with tracing.within(None if reads else at):
                await self._app(scope, receive, told)
        except BaseException as raised:
            error = type(raised).__qualname__
            raise
        finally:
            span = _span(scope, carried, at, start, status, error)
            if reads:
                tracing.book.tracer.end(span)
            else:
                tracing.finish(span)


def _span(scope: Scope, carried: Carried, at: Traceparent, start: int, status: int, error: str) -> kit.Span:
    method, route = scope["method"], route_of(scope["path"])
    known = method if method in _METHODS else "_OTHER"
    failed = error or (str(status) if status >= 500 else "")
    attributes: dict[str, Any] = {
        "http.request.method": known,
        "http.route": route,
        "http.response.status_code": status,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        **({"error.type": failed} if failed else {}),
    }
    return kit.Span(
        f"{'HTTP' if known == '_OTHER' else known} {route}",
        at,
        "" if carried.parent is None else carried.parent.span_id,
        start,
        kit.now(),
        kit.Kind.SERVER,
        kit.cut(attributes, len(attributes)),
        error=failed,
        state=carried.state,
        remote=carried.parent is not None,
    )


def route_of(path: str) -> str:
    """The template of an address: nothing of it is a caller's words."""
    for prefix in (names.API_PREFIX, names.MANAGEMENT_PREFIX):
        if path.startswith(f"{prefix}/"):
            parts = path.removeprefix(f"{prefix}/").split("/")
            known = [_word(part, place, parts[0]) for place, part in enumerate(parts[:4])]
            return "/".join((prefix, *known))
    return path if path in {"/health", "/ready", "/metrics", "/modules/system/info"} else "/{path}"


def _word(part: str, place: int, first: str) -> str:
    if place == 0:
        return part if part in kinds.BY_PLURAL or part in _FIXED or part == "apply" else "{resource}"
    if place == 1:
        fixed = {"discover", "metrics", "registration-history"} if first == "modules" else {"conflicts", "health"}
        return part if part in fixed else "{name}"
    return part if part in {"status", "trace", "logs"} else "{part}"
