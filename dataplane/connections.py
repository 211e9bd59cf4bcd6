"""One HTTP connection of a worker: uvicorn's, but strict about what a request may be, and not patient for ever.

A request that two programs could read in two ways is answered with 400 and its connection ends, before the gateway sees
it: a target that is not a path, no Host or two, two values of a header that decides something.  Names with underscores,
which some readers take for hyphens, and headers by which a front server would say who the caller is are dropped: nobody
in front of this worker is trusted to say that.  llhttp refuses the rest (Transfer-Encoding beside Content-Length, bare
line feeds, folded headers).

`Connection.tick` is called once a second by `dataplane.doors`: a connection on which nobody works, because its head
trickles, or it says nothing, or the rest of an answered request still comes, ends after a while.  Once a request has
reached a module the module's own limits hold.

Source: RFC 9112 sections 3.2, 5.1, 6.3, 7.1.2 and 11.2.
"""

import asyncio
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dataplane import replying
from dataplane.gateway import answering

HEAD_BYTES: Final = 32_768
"""What the head of a request may have."""
HEAD_FIELDS: Final = 100
_TOO_LARGE: Final = (431, f"the head of a request may have {HEAD_BYTES} bytes")
WAIT_TICKS: Final = 10
"""So many seconds a connection may go on without anybody to work for it."""
FLUSH_TICKS: Final = 30
"""So many seconds a caller may take for the last bytes of a connection that is closed."""

_ORDINARY: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"connection", b"content-type",
        b"cookie", b"origin", b"pragma", b"range", b"referer", b"traceparent", b"tracestate", b"user-agent",
    }
)  # fmt: skip
"""Nothing is asked about these."""
_ONCE: Final = frozenset({b"authorization", b"content-length", b"transfer-encoding"})
_IDENTITY: Final = (b"x-modplane-", b"x-auth-", b"x-internal-", b"x-org-", b"x-organisation-", b"x-user-", b"x-remote-")
_IDENTITIES: Final = frozenset({b"remote-user", b"x-organisation", b"x-org", b"x-user", b"x-roles", b"x-permissions"})


_data_received: Final = HttpToolsProtocol.data_received


class _Behind(list[tuple[bytes, bytes]]):
    """Where the headers behind a body go: nowhere."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Forget it."""


_BEHIND: Final = _Behind()


class Refused(Exception):  # noqa: N818 - named for what happened, as in the rest of the house
    """A request that is not taken, with its status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Connection(HttpToolsProtocol):
    """What `dataplane.doors` serves with."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._host = False
        self._seen: set[bytes] = set()
        self._size = 0
        self._large = False
        self._refusal: Refused | None = None
        self._ticks = 0
        self._cycle_then: object = self

    def data_received(self, data: bytes) -> None:
        """Bytes came; those of an unfinished head are counted."""
        if len(data) > HEAD_BYTES:
            self._large = True
        _data_received(self, data)
        scope = self.scope
        if scope is None or "path" not in scope:
            self._still_incomplete(len(data))

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if (not self.url and url[:1] != b"/") or b"#" in url:
            self._refuse(400, "the target of a request is a path that begins with '/', without fragment")
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, as uvicorn takes it, unless it must not be there."""
        name = name.lower()
        if name in _ORDINARY:
            self.headers.append((name, value))
        elif name == b"host":
            if self.headers is not _BEHIND:
                if self._host:
                    self._refuse(400, "a request has one host header")
                self._host = True
                self.headers.append((name, value))
        elif not self._dropped(name, value):
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A request's head is whole: refuse it, or hand it on."""
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        if not self._host and version != "1.0":
            self._refuse(400, "a request names its Host")
        self._host = False
        if self._seen:
            self._seen.clear()
        if self._large or len(self.headers) > HEAD_FIELDS:
            self._weigh()
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        if parser.should_upgrade() and self._should_upgrade():
            return
        target = httptools.parse_url(self.url)
        scope["raw_path"] = raw = target.path
        path = raw.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = target.query or b""
        self.headers = _BEHIND
        self._take(version != "1.0" and parser.should_keep_alive())

    def _take(self, keep_alive: bool) -> None:
        """Begin to answer, or, behind another request that is not answered yet, remember to."""
        before = self.cycle
        self.cycle = replying.Reply(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def send_400_response(self, msg: str) -> None:
        """Refuse what came, and end the connection; an answer under way is cut, since nothing may follow it."""
        if self.cycle is None or self.cycle.response_complete:
            refusal = self._refusal or Refused(400, "the request is not valid HTTP/1.1")
            self.transport.write(_answer(refusal, self.server_state.default_headers))
        self._refusal = self._refusal or Refused(400, msg)
        self.transport.close()

    def tick(self) -> None:
        """A second has passed."""
        if self.transport.is_closing():
            self._ticks += 1
            if self._ticks > FLUSH_TICKS:
                self.transport.abort()
        elif self.cycle is not self._cycle_then or self.timeout_keep_alive_task is not None or self._busy():
            self._cycle_then = self.cycle
            self._ticks = 0
        else:
            self._ticks += 1
            if self._ticks >= WAIT_TICKS:
                self._ticks = 0
                self.transport.close()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _dropped(self, name: bytes, value: bytes) -> bool:
        if self.headers is _BEHIND:
            return True
        if name in _ONCE:
            if name in self._seen:
                self._refuse(400, f"a request has one {name.decode()} header")
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                self._refuse(400, "the only transfer encoding of a request is 'chunked'")
            self._seen.add(name)
            return False
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
            return False
        return b"_" in name or name.startswith(_IDENTITY) or name in _IDENTITIES

    def _still_incomplete(self, size: int) -> None:
        """A head is not whole yet, if this is not a WebSocket's connection by now."""
        if self._refusal is not None or self not in self.connections:
            return
        self._size += size
        self._large = True
        if self._size > HEAD_BYTES:
            self._refusal = Refused(*_TOO_LARGE)
            self.send_400_response("")

    def _weigh(self) -> None:
        """Refuse a head that is too large; of its bytes some may have been the body's."""
        self._size = 0
        self._large = False
        if len(self.headers) > HEAD_FIELDS:
            self._refuse(431, f"a request may have {HEAD_FIELDS} headers")
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._refuse(*_TOO_LARGE)

    def _refuse(self, status: int, detail: str) -> None:
        self._refusal = Refused(status, detail)
        raise self._refusal


def _answer(refusal: Refused, headers: list[tuple[bytes, bytes]]) -> bytes:
    body = answering.document(refusal.status, refusal.detail)
    fields = [
        *headers,
        (b"content-type", answering.PROBLEM),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    title = answering.title(refusal.status).encode()
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (refusal.status, title, head, body)
