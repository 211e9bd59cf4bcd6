"""The ASGI application of a worker: one canonical path, one look at the snapshot, then the module or our own answer.

A request under ``/api/v1/modules/{version}/{namespace}/`` goes: path check → snapshot → matcher →
`dataplane.gateway.entering`, which asks who calls and lets the call into the module.  Everything else is a host page
(`dataplane.gateway.pages`).

Always: whether a module answers, which route, and under which policy is decided here, before any module code runs.  The
hot path allocates the visit, the scope copy and nothing else worth naming.
"""

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from dataplane.gateway import answering, auditing, deciding, entering, hosting, limiting, paths
from dataplane.gateway.serving import Target
from dataplane.gateway.snapshots import Namespace
from dataplane.telemetry import meters, tracing
from schemas import names
from schemas.kits.clocks import Clock, SystemClock
from schemas.paths import WEBSOCKET

Pages = Callable[[Scope, Receive, Send, str], Awaitable[bool]]
"""Answers a host page by its path and says whether there is one."""

_PREFIX = f"{names.MODULES_PREFIX}/"
_START = len(_PREFIX)
_HEALTH = "/health"
_DESCRIPTIONS = frozenset({"/openapi.json", "/docs"})
"""Of one namespace: the host's pages, narrowed to its modules, unless a module has such a route itself."""


class Dispatcher:
    """Pure ASGI: no framework stands between the server and a module."""

    def __init__(
        self,
        host: hosting.Host,
        pages: Pages,
        clock: Clock | None = None,
        gate: deciding.Gate | None = None,
        trail: auditing.Trail | None = None,
    ) -> None:
        """``gate`` None: nobody is believed, so only open routes answer.  ``trail`` None: decisions are not kept."""
        self._host = host
        self._pages = pages
        clock = clock or SystemClock()
        self._now = clock.monotonic
        self._entrance = entering.Entrance(
            gate or deciding.closed(clock), limiting.Deadlines(clock), trail or auditing.Trail(), host.accesses
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request or WebSocket."""
        tracing.current.set(scope)
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if not paths.is_plain(raw) and (reason := paths.refusal(raw)) is not None:
            self._strayed(scope)
            await answering.problem(scope, receive, send, 400, reason)
            return
        root: str = scope.get("root_path", "")
        path: str = scope["path"]
        if root and path.startswith(root):
            path = path[len(root) :]
        if not path.startswith(_PREFIX):
            if not await self._pages(scope, receive, send, path):
                self._strayed(scope)
                await answering.problem(scope, receive, send, 404, "there is no such page on this worker")
            return
        middle = path.find("/", _START)
        end = path.find("/", middle + 1) if middle > 0 else -1
        key = (path[_START:middle], path[middle + 1 : end] if end > 0 else path[middle + 1 :])
        snapshot = self._host.snapshot
        namespace = snapshot.table.get(key)
        if namespace is None:
            self._strayed(scope)
            await answering.problem(scope, receive, send, 404, "no module serves this version and namespace")
            return
        route_path = path[end:] if end > 0 else ""
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        target = namespace.matcher.find(method, route_path) if route_path != _HEALTH else None  # ours, templates or not
        if target is None:
            await _unmatched(scope, receive, send, namespace, route_path, self._now())
            return
        if tracing.SPAN in scope:
            _reached(scope[tracing.SPAN], target)
        await self._entrance.receive(
            entering.Visit(scope, receive, send, root, snapshot, target, target.methods[method], self._now())
        )

    def _strayed(self, scope: Scope) -> None:
        """Count a call to an address that is no module's."""
        now = self._now()
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        self._host.book.stray[method].ended(now, now, meters.CLIENT_ERROR)


def _reached(call: tracing.Call, target: Target) -> None:
    served = target.served
    call.reach(served.name, served.desired.version, served.generation, served.prefix + target.template)


async def _unmatched(scope: Scope, receive: Receive, send: Send, namespace: Namespace, path: str, began: float) -> None:
    """No route answers: the namespace's health, 405 with Allow, a redirect to the other slash form, or 404."""
    http = scope["type"] == "http"
    if http and path == _HEALTH:
        await _health(scope, receive, send, namespace)
        return
    allowed = namespace.matcher.allowed(path) if http else []
    if http and not allowed and path in _DESCRIPTIONS:
        await _described(scope, send, namespace, path)
        return
    method = scope["method"] if http else WEBSOCKET
    namespace.members[0].other[method].ended(began, began, meters.CLIENT_ERROR)
    if allowed:
        detail = f"{scope['method']} is not allowed here; allowed: {', '.join(allowed)}"
        await answering.problem(scope, receive, send, 405, detail, [(b"allow", ", ".join(allowed).encode())])
        return
    other = paths.with_other_slash(path)
    if http and path != "/" and other and namespace.matcher.allowed(other):
        await answering.redirect(scope, send, paths.raw_with_other_slash(scope["raw_path"]))
        return
    await answering.problem(scope, receive, send, 404, "no route of this namespace has this path")


async def _described(scope: Scope, send: Send, namespace: Namespace, page: str) -> None:
    """The place where the host describes exactly the modules of this namespace."""
    modules = "&".join(f"module={member.name}" for member in namespace.members)
    location = f"{scope.get('root_path', '')}{page}?{modules}".encode()
    await answering.respond(send, 307, b"", headers=[(b"location", location)])


async def _health(scope: Scope, receive: Receive, send: Send, namespace: Namespace) -> None:
    if scope["method"] not in {"GET", "HEAD"}:
        await answering.problem(scope, receive, send, 405, "allowed: GET, HEAD", [(b"allow", b"GET, HEAD")])
    elif namespace.healthy:
        await answering.answer_json(send, {"status": "healthy"})
    else:
        await answering.answer_json(send, {"status": "unhealthy"}, 503)
