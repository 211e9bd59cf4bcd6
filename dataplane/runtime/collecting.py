"""Read the routes that a module registered, in its own order, as plain values.

FastAPI's included routers are a lazy tree; `iter_route_contexts` is its public way to walk it (and builds what a
first request would else build).  Called by inspection and by `dataplane.runtime.assembling`, so that both planes
see the same routes of the same code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Host, Mount, WebSocketRoute

from dataplane.errors import LoadFailed
from dataplane.runtime.explaining import place_of_code
from dataplane.runtime.importing import Code
from dataplane.sdk import declaring
from schemas import names, paths
from schemas.policies import AuthRequirement

_REST = "{path:path}"


@dataclass(frozen=True, slots=True)
class CollectedRoute:
    """One route as the code registers it."""

    methods: tuple[str, ...]
    """Sorted; ``WEBSOCKET`` for a WebSocket, ``*`` for a mounted application."""
    path: str
    name: str
    endpoint: Callable[..., Any] | None
    auth: AuthRequirement | None
    location: str
    """``file:line`` of the handler in the author's source; empty if it is not theirs."""

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        """What makes two routes the same for the claims."""
        return (self.methods, self.path)


def collect(app: FastAPI, code: Code) -> list[CollectedRoute]:
    """Every route of ``app``; LoadFailed (``RouteRefused``) for one that a module may not have."""
    return [_collected(context, code) for context in iter_route_contexts(app.router.routes)]


def _collected(context: RouteContext, code: Code) -> CollectedRoute:
    original = context.original_route
    endpoint = context.endpoint
    location = _location(endpoint, code)
    path = context.path or ""
    if isinstance(original, Host):
        raise _refused(location, f"the host route {original.host!r}", "modules are addressed by path only")
    if isinstance(original, Mount):
        return _mounted(path, context.name or "", location)
    if not path.startswith("/"):
        raise _refused(location, f"the route path {path!r}", "begin it with '/'; the module's root is '/'")
    if path in names.RESERVED_ROUTES:
        raise _refused(location, f"the route {path!r}", "the gateway answers it: override check_health() instead")
    methods = (paths.WEBSOCKET,) if isinstance(original, WebSocketRoute) else tuple(sorted(context.methods or ()))
    return CollectedRoute(
        methods=methods,
        path=path,
        name=context.name or "",
        endpoint=endpoint,
        auth=declaring.declared(endpoint),
        location=location,
    )


def _mounted(path: str, name: str, location: str) -> CollectedRoute:
    if not path.strip("/"):
        raise _refused(location, "a mount at the module's root", "mount it below a path of its own, such as '/files'")
    return CollectedRoute(
        methods=(paths.ANY_METHOD,),
        path=f"{path}/{_REST}",
        name=name,
        endpoint=None,
        auth=None,
        location=location,
    )


def _location(endpoint: object, code: Code) -> str:
    while hasattr(endpoint, "__wrapped__") or hasattr(endpoint, "func"):
        endpoint = getattr(endpoint, "__wrapped__", None) or getattr(endpoint, "func", None)
    definition = getattr(endpoint, "__code__", None)
    return place_of_code(definition, code) if definition is not None else ""


def _refused(location: str, what: str, advice: str) -> LoadFailed:
    place = f"{location}: " if location else ""
    return LoadFailed("RouteRefused", f"{place}{what} is not allowed; {advice}")
