"""Calls an ASGI application as a server would, byte for byte as the test says, without a socket."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope


@dataclass
class Answer:
    """What came back; ``messages`` are the raw ones."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self._start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self._start["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def _start(self) -> Message:
        return next(message for message in self.messages if message["type"].endswith("response.start"))


def http_scope(
    method: str, target: str | bytes, *, root_path: str = "", headers: dict[str, str] | None = None
) -> Scope:
    """An HTTP scope as uvicorn makes it; ``target`` may have a query."""
    raw = target if isinstance(target, bytes) else target.encode()
    raw_path, _, query = raw.partition(b"?")
    fields = {"host": "example.org", **(headers or {})}
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 50000), "scheme": "http", "method": method,
        "root_path": root_path, "path": root_path + unquote(raw_path.decode("latin-1")),
        "raw_path": root_path.encode() + raw_path, "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()], "state": {},
    }  # fmt: skip


async def call(app: ASGIApp, method: str, target: str | bytes, *, body: bytes = b"", **scope: Any) -> Answer:
    """One request, answered."""
    answer = Answer()
    inbox = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if inbox:
            return inbox.pop()
        await asyncio.Event().wait()
        raise AssertionError("nothing more comes")

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(http_scope(method, target, **scope), receive, send)
    return answer


class Socket:
    """One WebSocket, from the client's side."""

    def __init__(self, app: ASGIApp, target: str, *, denial: bool = True) -> None:
        scope = http_scope("GET", target)
        del scope["method"]
        scope.update(type="websocket", subprotocols=[], scheme="ws")
        if denial:
            scope["extensions"] = {"websocket.http.response": {}}
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.answer = Answer()
        self.task = asyncio.create_task(self._run(app, scope))
        self.inbox.put_nowait({"type": "websocket.connect"})

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self.inbox.get, self._send)

    async def _send(self, message: Message) -> None:
        self.answer.messages.append(message)
        self.outbox.put_nowait(message)

    def say(self, text: str) -> None:
        """Send a text to the application."""
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    async def hear(self) -> Message:
        """The application's next message."""
        return await asyncio.wait_for(self.outbox.get(), 30)
