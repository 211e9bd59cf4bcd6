"""The caller as a FastAPI dependency: from the gateway's scope, never from a header."""

from typing import Any

from fastapi import APIRouter, WebSocket

from dataplane.sdk import CurrentPrincipal, Principal, optional_principal
from dataplane.sdk.calling import PRINCIPAL
from tests.doubles.asgi import call
from tests.doubles.modules import FakeInstance

ADA = Principal(issuer="i", subject="ada", organisation="acme", expires=2_000_000_000.0)


def routes(router: APIRouter) -> None:
    @router.get("/me")
    async def me(caller: CurrentPrincipal) -> str:
        return caller.subject

    @router.get("/maybe")
    async def maybe(socket: Any = None) -> str:
        return "open"

    @router.websocket("/live")
    async def live(socket: WebSocket, caller: CurrentPrincipal) -> None:
        raise AssertionError(caller)


async def test_a_handler_gets_who_the_gateway_let_in() -> None:
    app = FakeInstance(routes).app

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, PRINCIPAL: ADA}, receive, send)

    assert (await call(guarded, "GET", "/me")).json == "ada"


async def test_without_a_caller_the_handler_does_not_run() -> None:
    answer = await call(FakeInstance(routes).app, "GET", "/me", headers={"x-user": "ada", "modplane.principal": "ada"})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="modplane"'


def test_an_open_route_has_no_caller() -> None:
    from fastapi.requests import HTTPConnection

    assert optional_principal(HTTPConnection({"type": "http"})) is None
    assert optional_principal(HTTPConnection({"type": "http", PRINCIPAL: ADA})) is ADA
