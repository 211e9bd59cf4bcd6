"""A module's limits hold for each of its calls and for nobody else; only one well-formed answer leaves the worker."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import h11
import pytest
from fastapi import APIRouter, BackgroundTasks, Request, WebSocket
from fastapi.responses import StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dataplane.gateway import framing
from schemas.module import Limits
from tests.doubles.asgi import Answer, Socket, call, http_scope
from tests.doubles.polling import until

PREFIX = "/api/v1/modules/v1/shop"


class Caller:
    """A client whose body comes piece by piece, and who counts what is taken of it."""

    def __init__(self, app: ASGIApp, target: str, **headers: str) -> None:
        self.answer = Answer()
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.taken = 0
        scope = http_scope("POST", f"{PREFIX}{target}", headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        message = await self.inbox.get()
        self.taken += len(message.get("body", b""))
        return message

    async def _send(self, message: Message) -> None:
        self.answer.messages.append(message)

    def give(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece of the body."""
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end."""
        last = self.answer.messages[-1] if self.answer.messages else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)


class Shop:
    """Handlers that go wrong, each in its own way, and what became of them."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.more = asyncio.Event()
        self.release = threading.Event()
        self.events: list[str] = []

    def register(self, router: APIRouter) -> None:
        @router.post("/waits")
        async def waits() -> None:
            self.entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.events.append("cancelled")

        @router.post("/stubborn")
        async def stubborn() -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await self.more.wait()
                    return
                self.events.append("ignored")

        @router.post("/thread")
        def thread() -> str:
            self.events.append("thread")
            self.release.wait(30)
            return "late"

        @router.post("/quick")
        async def quick() -> str:
            return "quick"

        @router.post("/stream")
        async def stream() -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                while True:
                    yield b"x"
                    await self.more.wait()
                    self.more.clear()

            return StreamingResponse(parts())

        @router.post("/after")
        async def after(later: BackgroundTasks) -> str:
            later.add_task(self.more.wait)
            return "answered"

        @router.post("/length")
        async def length(request: Request) -> int:
            return len(await request.body())

        async def echo(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            while (message := await receive())["type"] == "http.request":
                await send(body(message["body"], more=message["more_body"]))

        router.mount("/echo", echo)

        @router.websocket("/talk")
        async def talk(socket: WebSocket) -> None:
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(text)

        @router.websocket("/deaf")
        async def deaf(socket: WebSocket) -> None:
            await asyncio.Event().wait()


@pytest.fixture
def shop() -> Shop:
    return Shop()


def limited(**limits: Any) -> dict[str, Any]:
    return {"limits": Limits.model_validate(limits)}


# --- time


async def test_a_handler_that_does_not_answer_in_time_is_ended_with_504(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=5))
    caller = Caller(gateway.app, "/waits")
    await shop.entered.wait()
    await gateway.clock.advance(4.9)
    assert not caller.answer.messages
    await gateway.clock.advance(0.3)
    await caller.task
    assert caller.answer.status == 504
    assert caller.answer.json["detail"] == "the module did not answer within 5 s"
    assert shop.events == ["cancelled"]
    assert not gateway.host.snapshot.modules["shop"].tasks
    assert (await call(gateway.app, "POST", f"{PREFIX}/quick")).status == 200


async def test_a_thread_that_is_timed_out_keeps_its_place_until_it_ends(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=5, maxConcurrency=1))
    caller = Caller(gateway.app, "/thread")
    await until(lambda: shop.events == ["thread"])
    await gateway.clock.advance(6)
    assert caller.answer.status == 504
    assert (await call(gateway.app, "POST", f"{PREFIX}/quick")).status == 503
    shop.release.set()
    await caller.task
    assert caller.answer.body.count(b"{") == 1
    assert b"late" not in caller.answer.body
    assert (await call(gateway.app, "POST", f"{PREFIX}/quick")).status == 200


async def test_a_handler_that_ignores_its_cancellation_is_told_of_and_keeps_its_place(
    gateway: Any, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=5, maxConcurrency=1))
    caller = Caller(gateway.app, "/stubborn")
    await gateway.clock.advance(6)
    assert caller.answer.status == 504
    assert shop.events == ["ignored"]
    assert (await call(gateway.app, "POST", f"{PREFIX}/quick")).status == 503
    await gateway.clock.advance(11)
    assert capsys.readouterr().out.count("handler ignores its cancellation") == 1
    shop.more.set()
    await caller.task


async def test_a_stream_is_cut_off_only_when_nothing_moves(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=1, idleTimeoutSeconds=10))
    caller = Caller(gateway.app, "/stream")
    for _ in range(5):
        await gateway.clock.advance(9)
        shop.more.set()
    await gateway.clock.settle()
    assert caller.answer.body == b"x" * 6
    await gateway.clock.advance(11)
    await caller.task
    assert caller.answer.status == 200
    assert not caller.complete
    assert caller.answer.body == b"x" * 6


async def test_what_runs_after_the_answer_has_no_deadline(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=1, idleTimeoutSeconds=1))
    caller = Caller(gateway.app, "/after")
    await gateway.clock.advance(100)
    assert caller.complete
    assert not caller.task.done()
    shop.more.set()
    await caller.task


async def test_the_timer_rests_while_nobody_is_inside(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register)
    for _ in range(3):
        await call(gateway.app, "POST", f"{PREFIX}/quick")
        await gateway.clock.settle()
        assert gateway.clock.sleepers == 1
    await gateway.clock.advance(1)
    assert gateway.clock.sleepers == 0


# --- bodies


async def test_a_body_that_is_declared_too_large_is_refused_before_any_of_it_is_taken(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(maxBodyBytes=10))
    caller = Caller(gateway.app, "/length", content_length="11")
    caller.give(b"x" * 11, more=False)
    await caller.task
    assert caller.answer.status == 413
    assert caller.answer.json["detail"] == "the body is larger than the 10 bytes that this module takes"
    assert caller.taken == 0
    assert caller.complete


async def test_a_body_of_unknown_length_is_refused_while_it_comes(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(maxBodyBytes=10))
    caller = Caller(gateway.app, "/length")
    for _ in range(5):
        caller.give(b"xxxx")
    await caller.task
    assert caller.answer.status == 413
    assert caller.taken == 12


@pytest.mark.parametrize("declared", [{}, {"content_length": "10"}])
async def test_a_body_at_the_limit_is_taken(gateway: Any, shop: Shop, declared: dict[str, str]) -> None:
    await gateway.install(shop.register, **limited(maxBodyBytes=10))
    caller = Caller(gateway.app, "/length", **declared)
    caller.give(b"x" * 5)
    caller.give(b"x" * 5, more=False)
    await caller.task
    assert caller.answer.body == b"10"


async def test_what_is_too_much_for_an_answer_under_way_is_not_handed_over(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(maxBodyBytes=10, idleTimeoutSeconds=5))
    caller = Caller(gateway.app, "/echo/")
    caller.give(b"12345")
    caller.give(b"6789012345", more=False)
    await gateway.clock.advance(6)
    await caller.task
    assert caller.answer.status == 200
    assert caller.answer.body == b"12345"
    assert not caller.complete


# --- concurrency


async def test_more_calls_than_a_module_may_have_get_503_and_other_modules_serve(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(maxConcurrency=2))
    await gateway.install(Shop().register, name="other", uid="u2")
    inside = [Caller(gateway.app, "/waits") for _ in range(2)]
    await shop.entered.wait()
    refused = await call(gateway.app, "POST", f"{PREFIX}/quick")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json["retryable"] is True
    assert "shop" in refused.json["detail"]
    denied = Socket(gateway.app, f"{PREFIX}/talk")
    await denied.task
    assert denied.answer.status == 503
    assert (await call(gateway.app, "POST", "/api/v1/modules/v1/other/quick")).status == 200
    inside[0].task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inside[0].task
    assert (await call(gateway.app, "POST", f"{PREFIX}/quick")).status == 200
    inside[1].task.cancel()


# --- WebSockets


async def test_a_websocket_in_which_nothing_moves_is_closed(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=1, idleTimeoutSeconds=10))
    socket = Socket(gateway.app, f"{PREFIX}/talk")
    assert (await socket.hear())["type"] == "websocket.accept"
    for _ in range(5):
        await gateway.clock.advance(9)
        socket.say("still here")
        assert (await socket.hear())["text"] == "still here"
    await gateway.clock.advance(10.2)
    assert await socket.hear() == {"type": "websocket.close", "code": 1001, "reason": "idle"}
    await socket.task
    assert not gateway.host.snapshot.modules["shop"].tasks


async def test_a_message_that_is_too_large_ends_the_websocket(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(maxBodyBytes=4))
    socket = Socket(gateway.app, f"{PREFIX}/talk")
    await socket.hear()
    socket.say("äß")
    assert (await socket.hear())["text"] == "äß"
    socket.say("äöü")
    assert (await socket.hear())["code"] == 1009
    await socket.task


async def test_a_websocket_that_is_not_accepted_in_time_is_denied(gateway: Any, shop: Shop) -> None:
    await gateway.install(shop.register, **limited(timeoutSeconds=1))
    socket = Socket(gateway.app, f"{PREFIX}/deaf")
    await gateway.clock.advance(1.2)
    await socket.task
    assert socket.answer.status == 504


# --- answers


def raw(*messages: Message) -> Callable[[APIRouter], None]:
    """A module that says just that."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(dict(message))

    return lambda router: router.mount("/raw", app)


def start(*headers: Any, status: Any = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


BAD = {
    "CR in a value": [start((b"x-a", b"1\r\nset-cookie: a=b")), body()],
    "LF in a value": [start((b"x-a", b"1\nx-b: 2")), body()],
    "NUL in a value": [start((b"x-a", b"1\0")), body()],
    "CR in a name": [start((b"x-a\r\nx-b", b"1")), body()],
    "blank in a name": [start((b"content-length ", b"1")), body(b"x")],
    "colon in a name": [start((b"content-length:", b"1")), body(b"x")],
    "no name": [start((b"", b"1")), body()],
    "text": [start(("x-a", "1")), body()],
    "no pair": [start(b"x-a"), body()],
    "two lengths": [start((b"content-length", b"1"), (b"Content-Length", b"2")), body(b"x")],
    "one length twice": [start((b"content-length", b"1"), (b"content-length", b"1")), body(b"x")],
    "a length with a sign": [start((b"content-length", b"+1")), body(b"x")],
    "a list of lengths": [start((b"content-length", b"1, 1")), body(b"x")],
    "a length that is no number": [start((b"content-length", b"one")), body(b"x")],
    "length and encoding": [start((b"content-length", b"1"), (b"transfer-encoding", b"chunked")), body(b"x")],
    "another encoding": [start((b"transfer-encoding", b"gzip, chunked")), body(b"x")],
    "encoding in lists": [start([b"transfer-encoding", b"identity"]), body(b"x")],
    "too short": [start((b"content-length", b"5")), body(b"1234")],
    "too long": [start((b"content-length", b"5")), body(b"123456")],
    "too long at first": [start((b"content-length", b"5")), body(b"123456", more=True), body()],
    "nothing follows": [start((b"content-length", b"5"))],
    "nothing at all": [],
    "informational": [start(status=101), body()],
    "no such status": [start(status=600), body()],
    "a status as text": [start(status="200"), body()],
    "no status": [{"type": "http.response.start", "headers": []}, body()],
    "a body with 204": [start(status=204), body(b"x")],
    "a body with 304": [start((b"content-length", b"1"), status=304), body(b"x")],
    "a length with 204": [start((b"content-length", b"1"), status=204), body(b"x")],
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
async def test_what_is_no_answer_becomes_502_and_none_of_it_leaves(
    gateway: Any, said: list[Message], capsys: pytest.CaptureFixture[str]
) -> None:
    await gateway.install(raw(*said))
    answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
    assert answer.status == 502
    assert answer.headers.keys() == {"content-type", "content-length"}
    assert answer.json["title"] == "Bad Gateway"
    assert len(answer.messages) == 2
    if said and len(said) > 1:
        assert "answer refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    "said",
    [
        [start((b"content-length", b"4")), body(b"12", more=True), body(b"345")],
        [start((b"content-length", b"4")), body(b"12", more=True), body(b"3")],
        [start((b"content-length", b"4")), body(b"1234", more=True), body(b"HTTP/1.1 200 OK")],
    ],
)
async def test_what_contradicts_itself_after_it_began_is_never_finished(gateway: Any, said: list[Message]) -> None:
    await gateway.install(raw(*said))
    answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
    assert answer.status == 200
    assert answer.messages == said[:2]


GOOD = {
    "with its length": [start((b"content-length", b"4")), body(b"1234")],
    "in pieces": [start((b"content-length", b"4")), body(b"12", more=True), body(b"34", more=True), body()],
    "without length": [start((b"x-a", b"\xe4 tab\t")), body(b"12", more=True), body(b"34")],
    "chunked": [start((b"Transfer-Encoding", b"chunked")), body(b"12")],
    "empty": [start((b"content-length", b"0")), body()],
    "an error": [start((b"content-length", b"1"), status=599), body(b"x")],
}


@pytest.mark.parametrize("said", GOOD.values(), ids=GOOD)
async def test_a_good_answer_is_passed_on_as_it_is(gateway: Any, said: list[Message]) -> None:
    await gateway.install(raw(*said))
    for _ in range(2):
        answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
        assert answer.messages == said


@pytest.mark.parametrize("headers", [[[b"content-length", b"2"]], ((b"content-length", b"2"),), iter([(b"x", b"y")])])
async def test_headers_may_come_in_any_sequence(gateway: Any, headers: Any) -> None:
    await gateway.install(raw({"type": "http.response.start", "status": 200, "headers": headers}, body(b"ok")))
    answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
    assert (answer.status, answer.body, len(answer.headers)) == (200, b"ok", 1)


async def test_an_answer_to_head_or_without_a_body_by_its_status_declares_what_it_likes(gateway: Any) -> None:
    await gateway.install(raw(start((b"content-length", b"400")), body()))
    answer = await call(gateway.app, "HEAD", f"{PREFIX}/raw/x")
    assert answer.headers == {"content-length": "400"}
    await gateway.install(raw(start((b"content-length", b"400"), (b"etag", b"1"), status=304), body()), generation=2)
    answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
    assert (answer.status, answer.headers) == (304, {"etag": "1"})


async def test_a_failure_behind_a_start_that_was_held_back_is_500(gateway: Any) -> None:
    def register(router: APIRouter) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start((b"content-length", b"4")))
            raise RuntimeError("secret of the author")

        router.mount("/raw", app)

    await gateway.install(register)
    answer = await call(gateway.app, "GET", f"{PREFIX}/raw/x")
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_an_acceptance_that_smuggles_headers_is_denied(gateway: Any) -> None:
    def register(router: APIRouter) -> None:
        @router.websocket("/header")
        async def header(socket: WebSocket) -> None:
            await socket.accept(headers=[(b"x-a", b"1\r\nset-cookie: a=b")])

        @router.websocket("/protocol")
        async def protocol(socket: WebSocket) -> None:
            await socket.accept(subprotocol="a\r\nx: y")

        @router.websocket("/denial")
        async def denial(socket: WebSocket) -> None:
            await socket.send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a b", b"")]})

    await gateway.install(register)
    for path in ("/header", "/protocol", "/denial"):
        socket = Socket(gateway.app, PREFIX + path)
        await socket.task
        assert socket.answer.status == 502
        assert b"set-cookie" not in str(socket.answer.messages).encode()


async def test_a_module_that_denies_a_websocket_is_heard(gateway: Any) -> None:
    def register(router: APIRouter) -> None:
        @router.websocket("/denial")
        async def denial(socket: WebSocket) -> None:
            await socket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})
            await socket.send({"type": "websocket.http.response.body", "body": b"no"})
            await asyncio.Event().wait()

    await gateway.install(register, **limited(idleTimeoutSeconds=1))
    socket = Socket(gateway.app, f"{PREFIX}/denial")
    await gateway.clock.advance(20)
    assert (socket.answer.status, socket.answer.body) == (418, b"no")
    assert not socket.task.done()
    socket.task.cancel()


FIELD = st.tuples(
    st.one_of(st.sampled_from([b"content-length", b"Transfer-Encoding", b"x-a"]), st.binary(max_size=8)),
    st.one_of(st.sampled_from([b"0", b"2", b"chunked", b"a\r\nb: c"]), st.binary(max_size=8)),
)


@settings(deadline=None)
@given(status=st.integers(100, 700), headers=st.lists(FIELD, max_size=4))
def test_what_is_let_through_is_read_by_a_strict_client_as_it_was_meant(
    status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    message = start(*headers, status=status)
    try:
        length = framing.length_of(message)
    except framing.Illegal:
        return
    lines = [b"HTTP/1.1 %d \r\n" % status, *(b"%b: %b\r\n" % pair for pair in message["headers"]), b"\r\n"]
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.receive_data(b"".join(lines))
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    assert list(event.headers) == [(name.lower(), value.strip(b" \t")) for name, value in message["headers"]]
    if length > 0:
        client.receive_data(b"x" * length)
        assert isinstance(client.next_event(), h11.Data)
