"""Each call is counted once, in the series of its route, as what its caller saw."""

import asyncio
import contextlib
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, BackgroundTasks, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from starlette.types import Message

from dataplane.telemetry import meters
from schemas.measures import OTHER
from schemas.module import Limits
from tests.doubles.asgi import Socket, call, http_scope
from tests.doubles.polling import until

PREFIX = "/api/v1/modules/v1/shop"
Counts = dict[tuple[str, str], list[int]]


class Shop:
    """Handlers that end in every way."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

    def register(self, router: APIRouter) -> None:
        @router.api_route("/things/{thing}", methods=["GET", "PUT"])
        async def thing(thing: str, request: Request) -> dict[str, int]:
            return {"size": len(await request.body())}

        @router.get("/answers/{status}")
        async def answers(status: int) -> None:
            raise HTTPException(status)

        @router.get("/fails")
        async def fails() -> None:
            raise RuntimeError("secret")

        @router.get("/late")
        async def late(tasks: BackgroundTasks) -> str:
            def fail() -> None:
                raise RuntimeError("after the answer")

            tasks.add_task(fail)
            return "ok"

        @router.get("/stream")
        async def stream() -> StreamingResponse:
            async def pieces() -> Any:
                yield b"12345"
                yield b"678"

            return StreamingResponse(pieces())

        @router.get("/slow")
        async def slow() -> str:
            self.entered.set()
            await self.gate.wait()
            return "done"

        @router.websocket("/live")
        async def live(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text("hello")
            await socket.close()


def counts(gateway: Any) -> Counts:
    """Outcomes of every series that was called."""
    return {(meter.method, meter.route): meter.outcomes for meter in gateway.host.book.live()}


def one(gateway: Any, route: str, method: str = "GET") -> meters.Meter:
    (found,) = (each for each in gateway.host.book.live() if (each.method, each.route) == (method, route))
    assert isinstance(found, meters.Meter)
    return found


async def test_each_call_is_in_the_series_of_its_template_and_method(gateway: Any) -> None:
    await gateway.install(Shop().register)
    for number in range(5):
        await call(gateway.app, "GET", f"{PREFIX}/things/{number}")
    answer = await call(gateway.app, "PUT", f"{PREFIX}/things/1", body=b"x" * 100)
    assert counts(gateway) == {
        ("GET", "/things/{thing}"): [5, 0, 0, 0, 0],
        ("PUT", "/things/{thing}"): [1, 0, 0, 0, 0],
    }
    meter = one(gateway, "/things/{thing}", "PUT")
    assert (meter.received, meter.sent, meter.inside) == (100, len(answer.body), 0)
    assert (meter.of.module, meter.of.version) == ("shop", "0.0.0")


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/answers/404", meters.CLIENT_ERROR),
        ("/answers/503", meters.SERVER_ERROR),
        ("/fails", meters.SERVER_ERROR),
        ("/late", meters.SUCCESS),
        ("/stream", meters.SUCCESS),
    ],
)
async def test_a_call_is_what_its_caller_saw(gateway: Any, path: str, outcome: int) -> None:
    await gateway.install(Shop().register)
    answer = await call(gateway.app, "GET", f"{PREFIX}{path}")
    (meter,) = gateway.host.book.live()
    assert meter.outcomes[outcome] == meter.calls == 1
    if path == "/stream":
        assert meter.sent == len(answer.body) == 8


async def test_what_does_not_reach_a_module_is_refused(gateway: Any) -> None:
    shop = Shop()
    await gateway.install(shop.register, guarded=["/fails"], limits=Limits(max_concurrency=1))
    assert (await call(gateway.app, "GET", f"{PREFIX}/fails")).status == 401
    inside = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await shop.entered.wait()
    assert one(gateway, "/slow").inside == 1
    assert (await call(gateway.app, "GET", f"{PREFIX}/things/1")).status == 503
    shop.gate.set()
    await inside
    gateway.block(shop.register, name="shop", uid="another")
    assert (await call(gateway.app, "GET", f"{PREFIX}/stream")).status == 503
    refused = {route for (_, route), outcomes in counts(gateway).items() if outcomes[meters.REFUSED] == 1}
    assert refused == {"/fails", "/things/{thing}", "/stream"}
    assert one(gateway, "/slow").outcomes == [1, 0, 0, 0, 0]


async def test_what_takes_too_long_is_a_timeout(gateway: Any) -> None:
    shop = Shop()
    await gateway.install(shop.register, limits=Limits(timeout_seconds=5))
    inside = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await shop.entered.wait()
    await gateway.clock.advance(6)
    assert (await inside).status == 504
    meter = one(gateway, "/slow")
    assert (meter.outcomes[meters.TIMEOUT], meter.calls, meter.inside) == (1, 1, 0)


async def test_what_no_route_answers_is_one_series(gateway: Any) -> None:
    await gateway.install(Shop().register)
    for number in range(50):
        await call(gateway.app, "GET", f"{PREFIX}/nothing-{number}")
        await call(gateway.app, "GET", f"/api/v1/modules/v1/nowhere-{number}/x")
        await call(gateway.app, f"ODD{number}", f"{PREFIX}/stream")
    await call(gateway.app, "GET", f"{PREFIX}/health")
    found = {(each.of.module, each.method, each.route, each.calls) for each in gateway.host.book.live()}
    assert found == {("shop", "GET", OTHER, 50), ("shop", OTHER, OTHER, 50), (OTHER, "GET", OTHER, 50)}


async def test_a_websocket_is_one_call(gateway: Any) -> None:
    await gateway.install(Shop().register)
    socket = Socket(gateway.app, f"{PREFIX}/live")
    await until(lambda: bool(gateway.host.book.live()) and gateway.host.book.live()[0].calls == 1)
    meter = one(gateway, "/live", "WEBSOCKET")
    assert (meter.outcomes[meters.SUCCESS], meter.sent, meter.inside) == (1, 5, 0)
    await socket.task


class Talk:
    """What handlers do when their caller leaves."""

    def register(self, router: APIRouter) -> None:
        @router.websocket("/hears")
        async def hears(socket: WebSocket) -> None:
            await socket.accept()
            while True:
                await socket.send_text(await socket.receive_text())

        @router.websocket("/both")
        async def both(socket: WebSocket) -> None:
            await socket.accept()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(socket.receive_text())
                tasks.create_task(socket.receive_bytes())

        @router.websocket("/says")
        async def says(socket: WebSocket) -> None:
            await socket.accept()
            await socket.receive_text()
            await socket.send_text("anybody there?")

        @router.websocket("/claims")
        async def claims(socket: WebSocket) -> None:
            await socket.accept()
            await socket.receive_text()
            raise WebSocketDisconnect(1001)

        @router.websocket("/fails")
        async def fails(socket: WebSocket) -> None:
            await socket.accept()
            with contextlib.suppress(WebSocketDisconnect):
                await socket.receive_text()
            raise RuntimeError("of its own")

        @router.post("/upload")
        async def upload(request: Request) -> int:
            return len(await request.body())


class Leaving(Socket):
    """A caller that is gone when it is told something."""

    async def _send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            raise OSError("gone")
        await super()._send(message)


@pytest.mark.parametrize("path", ["/hears", "/both", "/says"])
async def test_a_websocket_whose_caller_leaves_is_no_error(gateway: Any, path: str) -> None:
    await gateway.install(Talk().register)
    socket = Leaving(gateway.app, PREFIX + path)
    assert (await socket.hear())["type"] == "websocket.accept"
    if path == "/says":
        socket.say("hello")
    for _ in range(10):  # turns of the loop, until every receiver of the handler waits
        await asyncio.sleep(0)
    for _ in range(2):
        socket.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
    with structlog.testing.capture_logs() as logged:
        await socket.task
    meter, pulse = one(gateway, path, "WEBSOCKET"), gateway.host.snapshot.modules["shop"].pulse
    assert (meter.outcomes[meters.SUCCESS], meter.calls, meter.inside, pulse.errors) == (1, 1, 0, 0)
    assert len(socket.answer.messages) == 1, "nobody is told anything"
    assert not logged


@pytest.mark.parametrize(("path", "leaves"), [("/claims", False), ("/fails", True)])
async def test_a_websocket_whose_handler_fails_is_one(gateway: Any, path: str, leaves: bool) -> None:
    await gateway.install(Talk().register)
    socket = Socket(gateway.app, PREFIX + path)
    assert (await socket.hear())["type"] == "websocket.accept"
    if leaves:
        socket.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
    else:
        socket.say("hello")
    assert await socket.hear() == {"type": "websocket.close", "code": 1011}
    await socket.task
    assert one(gateway, path, "WEBSOCKET").outcomes[meters.SERVER_ERROR] == 1


async def test_a_caller_that_leaves_while_it_sends_is_no_failure_of_the_module(gateway: Any) -> None:
    await gateway.install(Talk().register)
    inbox: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"half", "more_body": True},
    ]

    async def receive() -> Message:
        return inbox.pop()

    async def send(message: Message) -> None:
        """To nobody."""

    await gateway.app(http_scope("POST", f"{PREFIX}/upload"), receive, send)
    meter, pulse = one(gateway, "/upload", "POST"), gateway.host.snapshot.modules["shop"].pulse
    assert (meter.outcomes[meters.CLIENT_ERROR], meter.calls, meter.received) == (1, 1, 4)
    assert (pulse.calls, pulse.errors) == (0, 0)


async def test_a_version_goes_on_counting_through_its_generations_and_another_begins(gateway: Any, now: Any) -> None:
    shop = Shop()
    await gateway.install(shop.register)
    inside = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await shop.entered.wait()
    first = one(gateway, "/slow")
    await gateway.install(shop.register, generation=2)
    served = gateway.host.snapshot.modules["shop"]
    assert gateway.host.renew("shop", served.uid, 3, served.desired) is not None
    shop.gate.set()
    await inside
    await call(gateway.app, "GET", f"{PREFIX}/slow")
    assert one(gateway, "/slow") is first
    assert first.calls == 2
    await gateway.install(shop.register, generation=4, version="2.0.0")
    await call(gateway.app, "GET", f"{PREFIX}/slow")
    assert sorted((each.of.version, each.calls) for each in gateway.host.book.live()) == [("0.0.0", 2), ("2.0.0", 1)]
    assert gateway.host.snapshot.modules["shop"].counted() == {each.number for each in gateway.host.book.live()} - {
        first.number
    }
