"""From the gateway's match straight to the module's route: no second search, and no layer that has nothing to do.

A FastAPI application goes through eight layers to its router, which tries its routes one after another.  The gateway
has found the route already, among the same routes in the same order, so that one is asked first.  Of the layers only
two do something for a request that goes well, and `Way` does it for them: the route finds the application's exception
handlers and a place for files that are to be closed.  The others matter once an exception leaves the route: it is
raised again behind them, so that the application's handlers take it as ever.

Always: what a module can see is as FastAPI has it.  Where the route does not fit after all, and where a module has
middleware of its own, which may change the path on the way, the application is called whole.  Made by
`dataplane.gateway.serving`, gone by `dataplane.gateway.entering`.
"""

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

_ERROR: Final = "modplane.error"
_FILES: Final = "fastapi_middleware_astack"
"""The scope's key under which FastAPI's routes look for the place of files."""
_HANDLERS: Final = "starlette.exception_handlers"
_CRASHES: Final = (500, Exception)
"""The keys of the handler that is asked last."""


class Way:
    """The way into one application, whose handlers are all in place."""

    __slots__ = ("_app", "_behind", "_handlers", "_router")

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._router = app.router
        named = {key: handler for key, handler in app.exception_handlers.items() if key not in _CRASHES}
        last = [handler for key, handler in app.exception_handlers.items() if key in _CRASHES]
        layer = ExceptionMiddleware(_raise, handlers=named)
        self._behind = ServerErrorMiddleware(layer, handler=last[-1] if last else None)
        kinds = {HTTPException: layer.http_exception, WebSocketException: layer.websocket_exception}
        kinds |= {key: handler for key, handler in named.items() if not isinstance(key, int)}
        self._handlers = (kinds, {key: handler for key, handler in named.items() if isinstance(key, int)})

    async def go(
        self, route: BaseRoute | None, scope: Scope, receive: Receive, send: Send, silent: Callable[[], bool]
    ) -> None:
        """Run the application, by the short way if ``route`` fits; ``silent``: whether it has not answered yet."""
        match, found = (Match.NONE, {}) if route is None else route.matches(scope)
        if route is None or match is not Match.FULL:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        scope["router"] = self._router
        scope[_HANDLERS] = self._handlers
        scope.update(found)
        try:
            async with AsyncExitStack() as files:
                scope[_FILES] = files
                await route.handle(scope, receive, send)
        except Exception as error:
            if not silent():
                raise
            scope[_ERROR] = error
            await self._behind(scope, receive, send)


def direct(app: FastAPI) -> Collection[BaseRoute]:
    """The routes to which there is a short way."""
    return () if app.user_middleware else app.router.routes


async def _raise(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where the router stood."""
    error: Any = scope.pop(_ERROR)
    raise error
