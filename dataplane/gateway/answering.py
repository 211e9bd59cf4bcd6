"""What the gateway itself says: problem documents (RFC 9457) and small JSON answers, as ASGI messages.

Used by `dataplane.gateway.dispatching` for everything that no module answers, over HTTP and before a WebSocket is
accepted.  Detail texts are for the caller: they never show a module's internals.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from schemas.meta import Json
from schemas.problems import PROBLEM_JSON

Headers = Iterable[tuple[bytes, bytes]]

_JSON: Final = b"application/json"
PROBLEM: Final = PROBLEM_JSON.encode()
_DENIAL: Final = "websocket.http.response"
_TITLES: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

CRASHED: Final = "the module's handler failed; its operator finds the reason in the worker's log"


def title(status: int) -> str:
    """What a status means, in words."""
    return _TITLES.get(status, "Error")


def document(status: int, detail: str, instance: str = "", *, retryable: bool = False, **more: Any) -> bytes:
    """A problem document's bytes."""
    body: Json = {"type": "about:blank", "title": title(status), "status": status, "detail": detail}
    if instance:
        body["instance"] = instance
    if retryable:
        body["retryable"] = True
    return json.dumps(body | more).encode()


async def problem(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Headers = (), **more: Any
) -> None:
    """Answer with a problem document; a WebSocket is denied with it before it is accepted."""
    body = document(status, detail, scope["path"], **more)
    if scope["type"] == "websocket":
        await receive()
        await deny(scope, send, body, status, headers)
    else:
        await respond(send, status, body, PROBLEM, headers)


async def respond(send: Send, status: int, body: bytes, kind: bytes = _JSON, headers: Headers = ()) -> None:
    """Answer an HTTP request with a whole body."""
    fields = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def respond_in_pieces(send: Send, pieces: Sequence[bytes], kind: bytes, headers: Headers = ()) -> None:
    """Answer 200 with a body too large for one piece; the server's flow control holds between two of them."""
    fields = [(b"content-type", kind), (b"content-length", str(sum(map(len, pieces))).encode()), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def answer_json(send: Send, value: Json, status: int = 200, headers: Headers = ()) -> None:
    """Answer with a JSON value that must not be cached."""
    await respond(send, status, json.dumps(value).encode(), _JSON, [(b"cache-control", b"no-store"), *headers])


async def redirect(scope: Scope, send: Send, target: bytes) -> None:
    """307 to another path of this host, keeping the query; relative, so that no Host header can bend it."""
    query = scope.get("query_string", b"")
    location = target + b"?" + query if query else target
    await respond(send, 307, b"", _JSON, [(b"location", location)])


async def close(send: Send, code: int, reason: str = "") -> None:
    """End a WebSocket whose application is gone; a socket that is closed already stays closed."""
    with contextlib.suppress(Exception):
        await send({"type": "websocket.close", "code": code} | ({"reason": reason} if reason else {}))


async def crashed(request: Request, error: Exception) -> Response:
    """The answer to a handler that raised: the caller learns that it did, the log learns why."""
    return Response(document(500, CRASHED, request.scope["path"]), status_code=500, media_type=PROBLEM_JSON)


async def deny(scope: Scope, send: Send, body: bytes, status: int, headers: Headers = ()) -> None:
    """Refuse a WebSocket that was not accepted yet with a problem document, or plainly if the server cannot do that."""
    if _DENIAL not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    fields = [(b"content-type", PROBLEM), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": f"{_DENIAL}.start", "status": status, "headers": fields})
    await send({"type": f"{_DENIAL}.body", "body": body})
