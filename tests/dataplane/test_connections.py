"""A request reaches the gateway in one reading or not at all, and nobody keeps a connection by being slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from dataplane import connections, doors


class Rig:
    """A server with the simplest application behind it."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = doors.Server(self, doors.open_socket("127.0.0.1", 0), headers=[("x-w", "1")], keep_alive=5.0)
        self.task = asyncio.create_task(self.server.run_own_door())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = b""
        while scope["path"] != "/early":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        await self.gate.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.server.address.rsplit(":", 1)[1]))
        self.writers.append(writer)
        return reader, writer

    async def say(self, *pieces: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await rest(reader)

    async def tick(self, count: int) -> None:
        for _ in range(count):
            for connection in list(self.server.server_state.connections):
                assert isinstance(connection, connections.Connection)
                connection.tick()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes; it may do so over what it has not read."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 30)
    return b""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    while not made.server.started:
        await asyncio.wait({made.task}, timeout=0.01)
    yield made
    made.gate.set()
    for writer in made.writers:
        writer.close()
    made.server.should_exit = True
    await made.task


def get(target: bytes = b"/a", *headers: bytes, version: bytes = b"1.1", host: bytes = b"host: x") -> bytes:
    lines = [b"GET %b HTTP/%b" % (target, version), *([host] if host else []), *headers]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


CLOSE = b"connection: close"

REFUSED = {
    "an absolute target": get(b"http://evil/a"),
    "an absolute target of another scheme": get(b"ftp://evil/a"),
    "an authority": b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "a fragment": get(b"/a#b"),
    "a fragment behind a query": get(b"/a?b#c"),
    "no Host": get(host=b""),
    "two Hosts": get(b"/a", b"Host: y"),
    "two Authorizations": get(b"/a", b"authorization: a", b"Authorization: b"),
    "two lengths": get(b"/a", b"content-length: 1", b"content-length: 1") + b"x",
    "length and encoding": get(b"/a", b"content-length: 1", b"transfer-encoding: chunked") + b"0\r\n\r\n",
    "encoding and length": get(b"/a", b"transfer-encoding: chunked", b"content-length: 1") + b"0\r\n\r\n",
    "two encodings": get(b"/a", b"transfer-encoding: chunked", b"transfer-encoding: chunked") + b"0\r\n\r\n",
    "another encoding": get(b"/a", b"transfer-encoding: xchunked") + b"0\r\n\r\n",
    "bare line feeds": b"GET /a HTTP/1.1\nhost: x\n\n",
    "a blank before the colon": get(b"/a", b"content-length : 1"),
    "a folded header": get(b"/a", b"x-a: 1\r\n 2"),
    "a control character": get(b"/a", b"x-a: \x001"),
    "a method that is none": b"G@T /a HTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /a\r\n\r\n",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
async def test_what_can_be_read_in_two_ways_is_refused_before_the_gateway(rig: Rig, request_: bytes) -> None:
    answer = await rig.say(request_, get(b"/smuggled"))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"x-w: 1\r\n" in answer
    assert b"application/problem+json" in answer
    assert not rig.scopes


async def test_a_head_that_is_too_large_is_refused(rig: Rig) -> None:
    long, half = b"x" * 40_000, b"x" * 20_000
    for pieces in (
        [get(b"/a", b"x-a: " + long)],
        [b"GET /a HTTP/1.1\r\nhost: x\r\nx-a: " + half, half],
        [get(b"/" + long)],
        [get(b"/a", *(b"x-%d: 1" % number for number in range(101)))],
    ):
        assert (await rig.say(*pieces)).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    await rig.say(b"GET /a HTTP/1.1\r\nhost: x\r\nx-a: ", *[long] * 20)
    assert not rig.scopes
    large = b"x" * 200_000
    head = get(b"/a", b"content-length: %d" % len(large), CLOSE).replace(b"GET", b"POST")
    assert (await rig.say(head + large)).startswith(b"HTTP/1.1 200 OK")
    assert rig.bodies == [large]


async def test_an_ordinary_request_is_as_uvicorn_gives_it(rig: Rig) -> None:
    answer = await rig.say(get(b"/a%20b?c=d", b"X-A: 1", b"x-a: 2", b"Cookie: z=1", b"Authorization: b", CLOSE))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    (scope,) = rig.scopes
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert [name for name, _ in scope["headers"]] == [
        b"host", b"x-a", b"x-a", b"cookie", b"authorization", b"connection"
    ]  # fmt: skip
    assert (await rig.say(get(version=b"1.0", host=b""))).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "header",
    [b"X-Org-Id: 1", b"x_org_id: 1", b"x-user-id: 1", b"X-Modplane-Worker: 1", b"x-remote-user: 1", b"Remote-User: 1",
     b"x-auth-request-user: 1", b"X_A: 1", b"x-roles: ADMIN"],
)  # fmt: skip
async def test_nobody_says_by_a_header_who_the_caller_is(rig: Rig, header: bytes) -> None:
    await rig.say(get(b"/a", header, CLOSE))
    assert [name for name, _ in rig.scopes[0]["headers"]] == [b"host", b"connection"]


async def test_a_header_behind_the_body_counts_for_nothing(rig: Rig) -> None:
    head = get(b"/a", b"transfer-encoding: chunked").replace(b"GET", b"POST")
    answer = await rig.say(head + b"2\r\nhi\r\n0\r\nhost: y\r\nauthorization: b\r\nx-a: 1\r\n\r\n" + get(b"/b", CLOSE))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert rig.bodies == [b"hi", b""]
    assert [name for name, _ in rig.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


async def test_requests_one_behind_the_other_are_each_read_alone(rig: Rig) -> None:
    answer = await rig.say(get(b"/a"), get(b"/b"), get(b"/c", CLOSE))
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert [scope["path"] for scope in rig.scopes] == ["/a", "/b", "/c"]


async def test_a_refusal_never_stands_inside_another_answer(rig: Rig) -> None:
    rig.gate.clear()
    reader, writer = await rig.connect()
    writer.write(get(b"/a") + get(b"http://evil/"))
    assert await rest(reader) == b""


async def test_a_websocket_needs_one_reading_too(rig: Rig) -> None:
    upgrade = (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13",
               b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    answer = await rig.say(get(b"http://evil/a", *upgrade))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not rig.scopes


# --- time


async def until_gone(rig: Rig, reader: asyncio.StreamReader, ticks: int) -> None:
    await rig.tick(ticks - 1)
    assert rig.server.server_state.connections
    await rig.tick(1)
    await rest(reader)


@pytest.mark.parametrize("said", [b"", b"GET /a HT", b"GET /a HTTP/1.1\r\nhost: x\r\nx-a: "])
async def test_a_head_that_does_not_come_ends_its_connection(rig: Rig, said: bytes) -> None:
    reader, writer = await rig.connect()
    writer.write(said)
    await settled(rig, lambda connection: said == b"" or connection._large)
    await rig.tick(1)
    for piece in (b"1", b"2"):
        writer.write(piece)
    await until_gone(rig, reader, connections.WAIT_TICKS)
    assert not rig.scopes


async def test_a_request_under_way_and_one_that_may_come_are_left_alone(rig: Rig) -> None:
    rig.gate.clear()
    reader, writer = await rig.connect()
    writer.write(get(b"/a"))
    await settled(rig, lambda connection: connection.cycle is not None)
    await rig.tick(50)
    rig.gate.set()
    assert b"ok" in await reader.readuntil(b"ok")
    await rig.tick(50)
    writer.write(get(b"/b"))
    assert b"ok" in await reader.readuntil(b"ok")


async def test_the_rest_of_a_request_that_is_answered_is_not_waited_for_for_ever(rig: Rig) -> None:
    reader, writer = await rig.connect()
    writer.write(get(b"/early", b"content-length: 1000").replace(b"GET", b"POST") + b"x")
    assert b"ok" in await reader.readuntil(b"ok")
    writer.write(b"y")
    await settled(rig, lambda connection: connection.timeout_keep_alive_task is None)
    await rig.tick(1)
    await until_gone(rig, reader, connections.WAIT_TICKS)


async def settled(rig: Rig, predicate: Any) -> None:
    """Wait until the server has seen what was sent."""
    while not any(predicate(each) for each in rig.server.server_state.connections):
        await asyncio.wait({rig.task}, timeout=0.01)


async def test_a_caller_who_does_not_read_the_end_is_cut_off(rig: Rig) -> None:
    class Stuck:
        aborted = False

        def is_closing(self) -> bool:
            return True

        def abort(self) -> None:
            self.aborted = True

    await rig.connect()
    await settled(rig, lambda connection: True)
    (connection,) = rig.server.server_state.connections
    assert isinstance(connection, connections.Connection)
    real, stuck = connection.transport, Stuck()
    connection.transport = stuck  # type: ignore[assignment]
    await rig.tick(connections.FLUSH_TICKS)
    assert not stuck.aborted
    await rig.tick(1)
    assert stuck.aborted
    connection.transport = real
