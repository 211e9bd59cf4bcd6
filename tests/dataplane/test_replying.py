"""What a worker writes is what uvicorn writes, byte for byte, in as few pieces as can be."""

import asyncio
import logging
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from dataplane.gateway import framing
from dataplane.replying import Reply

OWN = [(b"date", b"Mon, 23 Nov 2026 17:00:00 GMT"), (b"x-modplane-worker", b"w0/1")]


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def said(
    kind: type[RequestResponseCycle], messages: list[Message], *, method: str = "GET", keep_alive: bool = True,
    own: list[tuple[bytes, bytes]] = OWN,
) -> tuple[Wire, RequestResponseCycle, list[str]]:  # fmt: skip
    """What came of an application's messages: what was written, and at which of them it was refused."""
    wire, refused = Wire(), list[str]()
    log = logging.getLogger("test")
    cycle = kind(
        scope=cast("Any", {"type": "http", "method": method}), transport=wire, flow=FlowControl(wire), logger=log,
        access_logger=log, access_log=False, default_headers=own, message_event=asyncio.Event(),
        expect_100_continue=False, keep_alive=keep_alive, on_response=lambda: None,
    )  # fmt: skip
    for message in messages:
        step = cycle.send(cast("Any", dict(message)))
        try:
            step.send(None)
        except StopIteration:
            pass
        except RuntimeError as error:
            refused.append(str(error))
    return wire, cycle, refused


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_an_answer_that_tells_its_length_is_written_at_once() -> None:
    wire, cycle, _ = said(Reply, [start((b"content-length", b"2"), (b"X-A", b"1")), body(b"ok")])
    lines = b"date: Mon, 23 Nov 2026 17:00:00 GMT\r\nx-modplane-worker: w0/1\r\ncontent-length: 2\r\nx-a: 1\r\n"
    assert wire.pieces == [b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nok"]
    assert cycle.response_complete


def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    wire, _, _ = said(Reply, [start()])
    assert wire.pieces[0].endswith(b"transfer-encoding: chunked\r\n\r\n")


def test_a_drain_counts_from_the_next_answer_on() -> None:
    messages = [start((b"content-length", b"0")), body()]
    for own, closes in ((OWN, False), ([*OWN, (b"connection", b"close")], True), (OWN, False)):
        wire, cycle, _ = said(Reply, messages, own=own)
        assert wire.closed is closes
        assert cycle.keep_alive is not closes
        assert wire.pieces[0].count(b"connection: close\r\n") == closes


@pytest.mark.parametrize("pair", [(b"x-a", b"1\r\nx-b: 2"), (b"x a", b"1"), (b"content-length", b"+1")])
def test_a_field_that_breaks_the_framing_is_never_written(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(framing.Illegal):
        said(Reply, [start(pair)])


HEADERS = st.lists(
    st.sampled_from(
        [(b"content-type", b"text/plain"), (b"X-Many", b"1"), (b"Connection", b"close"), (b"connection", b"keep-alive"),
         (b"set-cookie", b"a=b; Path=/")]
    ),
    max_size=4,
)  # fmt: skip
LENGTH = st.sampled_from(
    [[], [(b"content-length", b"0")], [(b"Content-Length", b"4")], [(b"transfer-encoding", b"chunked")]]
)


@settings(deadline=None)
@given(
    status=st.sampled_from([200, 201, 204, 304, 404, 599]),
    headers=HEADERS,
    length=LENGTH,
    pieces=st.lists(st.binary(max_size=4), max_size=3),
    method=st.sampled_from(["GET", "HEAD"]),
    keep_alive=st.booleans(),
)
def test_it_is_what_uvicorn_writes(
    status: int, headers: list[Any], length: list[Any], pieces: list[bytes], method: str, keep_alive: bool
) -> None:
    messages = [start(*headers, *length, status=status)]
    messages += [body(piece, more=number < len(pieces) - 1) for number, piece in enumerate(pieces)]
    seen = []
    for kind in (RequestResponseCycle, Reply):
        wire, cycle, refused = said(kind, messages, method=method, keep_alive=keep_alive)
        seen.append((b"".join(wire.pieces), wire.closed, cycle.response_complete, cycle.keep_alive, refused))
    theirs, ours = seen
    if pieces and not ours[-1]:
        assert ours == theirs
    else:  # what was refused, or has no body yet, may wait
        assert theirs[0].startswith(ours[0])
        assert ours[1:] == theirs[1:]


@settings(deadline=None)
@given(st.lists(st.sampled_from([start((b"content-length", b"2")), start(), body(b"ok"), body(b"o", more=True)])))
def test_an_application_that_does_not_keep_to_the_order_is_told_so_as_by_uvicorn(messages: list[Message]) -> None:
    theirs, ours = (said(kind, messages) for kind in (RequestResponseCycle, Reply))
    assert ours[2] == theirs[2]
    assert b"".join(theirs[0].pieces).startswith(b"".join(ours[0].pieces))
