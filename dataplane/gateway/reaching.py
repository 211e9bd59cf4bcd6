"""From the gateway's match straight to the module's route, without a second search.

A FastAPI router tries its routes one after another, which costs more than a microsecond each.  The gateway has found
the route already, among the same routes in the same order, so the router is asked to try that one first; if it does
not fit after all, the router searches as ever.  A module with middleware of its own gets no such hint, since its
middleware may change the path on the way.  Installed by `dataplane.gateway.serving`, given by
`dataplane.gateway.entering`.
"""

from collections.abc import Iterable
from typing import Final

from fastapi import FastAPI
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

ROUTE: Final = "modplane.route"
"""The scope's key of the route that the gateway found."""


class _Straight:
    """Stands where the router stood; pure ASGI."""

    def __init__(self, app: FastAPI) -> None:
        self._router = app.router
        self._search = app.router.middleware_stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: BaseRoute | None = scope.pop(ROUTE, None)
        if route is not None:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["router"] = self._router
                scope.update(found)
                await route.handle(scope, receive, send)
                return
        await self._search(scope, receive, send)


def straighten(app: FastAPI) -> Iterable[BaseRoute]:
    """Let the application take hints; returns the routes that may be hinted at."""
    if app.user_middleware:
        return []
    app.router.middleware_stack = _Straight(app)
    return list(app.router.routes)
