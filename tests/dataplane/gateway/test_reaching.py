"""The route that the gateway found runs without another search, and the search is still there for who changes paths."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from dataplane.gateway import reaching, serving
from tests.doubles.asgi import call
from tests.doubles.modules import FakeInstance

PREFIX = "/api/v1/modules/v1/shop"
asked: list[str] = []


class Counting(APIRoute):
    """Tells each time that it is asked whether it matches."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        asked.append(self.path)
        return super().matches(scope)


def many(router: APIRouter) -> None:
    router.route_class = Counting
    for number in range(20):
        router.add_api_route(f"/r{number}", _answer, methods=["GET"])
    for number in range(20):
        router.add_api_route(f"/t{number}/{{item}}", _answer, methods=["GET"])


async def _answer(request: Request) -> dict[str, Any]:
    return {
        "route": request.scope["route"].path,
        "parameters": request.path_params,
        "router": request.scope["router"] is request.app.router,
    }


async def test_the_last_of_many_routes_is_asked_alone(gateway: Any) -> None:
    await gateway.install(many)
    for path, route, parameters in (("/r19", "/r19", {}), ("/t19/x", "/t19/{item}", {"item": "x"})):
        asked.clear()
        answer = await call(gateway.app, "GET", PREFIX + path)
        assert answer.json == {"route": route, "parameters": parameters, "router": True}
        assert asked == [route]


async def test_a_route_that_does_not_fit_is_not_taken(gateway: Any) -> None:
    instance = await gateway.install(many)
    wrong = next(route for route in instance.app.router.routes if getattr(route, "path", "") == "/r3")
    way = reaching.Way(instance.app)

    async def misled(scope: Scope, receive: Receive, send: Send) -> None:
        await way.go(wrong, scope, receive, send, lambda: True)

    assert (await call(misled, "GET", "/r4")).json["route"] == "/r4"
    assert (await call(misled, "POST", "/r3")).status == 405


async def test_a_module_may_have_its_own_word_for_any_failure(gateway: Any, now: datetime) -> None:
    def register(router: APIRouter) -> None:
        @router.get("/fails")
        async def fails() -> None:
            raise RuntimeError("broken")

        @router.get("/fails-late")
        async def fails_late() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                yield b"first"
                raise RuntimeError("broken")

            return StreamingResponse(pieces())

    async def own(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"sorry, {request.scope['route'].path}: {error}", 500)

    for key in (500, Exception):
        instance = FakeInstance(register)
        instance.app.add_exception_handler(key, own)
        await gateway.host.install(serving.serve(instance, now))
        answer = await call(gateway.app, "GET", f"{PREFIX}/fails")
        assert (answer.status, answer.body) == (500, b"sorry, /fails: broken")
        answer = await call(gateway.app, "GET", f"{PREFIX}/fails-late")
        assert (answer.status, answer.body) == (200, b"first")


class _Moved:
    """Middleware of a module's author: the old name of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].replace("/items/old", "/items/new")
        await self._app(scope, receive, send)


async def test_middleware_that_changes_the_path_is_followed(gateway: Any, now: datetime) -> None:
    def register(router: APIRouter) -> None:
        router.add_api_route("/items/{item}", lambda item: f"any {item}", methods=["GET"])
        router.add_api_route("/items/new", lambda: "the new one", methods=["GET"])

    instance = FakeInstance(register)
    instance.app.add_middleware(_Moved)
    await gateway.host.install(serving.serve(instance, now))
    assert (await call(gateway.app, "GET", f"{PREFIX}/items/old")).json == "the new one"
    assert (await call(gateway.app, "GET", f"{PREFIX}/items/other")).json == "any other"
