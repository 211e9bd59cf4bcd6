"""How one answer goes onto the wire: uvicorn's cycle of a request, but what is known at once leaves at once.

uvicorn writes the head of an answer and each piece of its body one by one, so that every answer takes two system calls
and mostly two packets, and it encodes the server's own header fields anew each time.  Here a head that declares its
length waits for the first piece of the body, as ASGI asks of servers; the head of a stream leaves by itself, since
nobody knows how soon something follows.

Always: what is written is what uvicorn would write, byte for byte; a field that would break the framing raises.  One
per request, made by `dataplane.connections`; all of it on the serving loop.

Source: the ASGI specification, "Response Start" (a server sends nothing before the first Response Body event).
"""

from collections.abc import Iterable
from typing import Any, Final

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from dataplane.gateway import framing

_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_NO_BODY: Final = frozenset({204, 304})

Fields = Iterable[tuple[bytes, bytes]]


class _Own:
    """The server's own fields, encoded; it makes another list of them for each second, and for a drain."""

    __slots__ = ("closes", "fields", "lines")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        found = [framing.examined(pair) for pair in fields]
        self.lines = b"".join(field.line for field in found)
        self.closes = any(field.says == framing.CLOSES for field in found)


_last = _Own(())
"""The fields that were written last."""


def _own(fields: Fields) -> _Own:
    global _last  # noqa: PLW0603 - one value for all requests of a second
    if _last.fields is not fields:
        _last = _Own(fields)
    return _last


class Reply(RequestResponseCycle):
    """One request and its answer."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self._head = b""
        """Of the answer, as long as it waits for the body."""

    async def send(self, message: Message) -> None:  # type: ignore[override]  # uvicorn has types of its own for it
        """Take what the application says."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{kind}'.")
            self._begin(message["status"], message.get("headers", ()))
        elif self.response_complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        elif kind != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")
        else:
            self._go_on(message.get("body", b""), message.get("more_body", False))

    def _begin(self, status: int, fields: Fields) -> None:
        """The head: written at once if the answer's length is not known."""
        own, known, length = _own(self.default_headers), framing.known, framing.PLAIN
        closes, parts = own.closes, [STATUS_LINE[status], own.lines]
        for pair in fields:
            said, line = known(pair) or framing.examined(pair)
            if said == framing.CLOSES:
                closes = True
            elif said != framing.PLAIN:
                length = said
            parts.append(line)
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(_CLOSE)
        if length >= 0:
            self.expected_content_length = length
        else:
            self.chunked_encoding = self._chunked(status, length, parts)
        parts.append(b"\r\n")
        self.response_started = True
        self.waiting_for_100_continue = False
        self._head = b"".join(parts)
        if length < 0:
            self._write(b"")

    def _chunked(self, status: int, length: int, parts: list[bytes]) -> bool:
        """Whether the body goes in chunks, which its head says then."""
        if length == framing.CHUNKED:
            return True
        if self.scope["method"] == "HEAD" or status in _NO_BODY:
            return False
        parts.append(_CHUNKED)
        return True

    def _go_on(self, body: bytes, more: bool) -> None:
        """A piece of the body."""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self._write(b"")
        elif self.chunked_encoding:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(piece if more else piece + b"0\r\n\r\n")
        else:
            if len(body) > self.expected_content_length:
                raise RuntimeError("Response content longer than Content-Length")
            self.expected_content_length -= len(body)
            self._write(body)
        if not more:
            if self.expected_content_length:
                raise RuntimeError("Response content shorter than Content-Length")
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self.transport.write(data)
