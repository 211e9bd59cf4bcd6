"""The worker's own pages: ``/health``, ``/ready``, ``/modules/system/info``, ``/openapi.json``, ``/docs``.

Called by `dataplane.gateway.dispatching` for every path that is not a module's.  Nothing here may hold the serving
loop: the merged OpenAPI document is made in a thread, once per snapshot.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.types import Receive, Scope, Send

from dataplane.gateway import answering, describing, hosting
from dataplane.gateway.snapshots import Snapshot
from schemas.meta import Json

Facts = Callable[[], Json]
"""Says something about the worker, at once."""

_NO_CACHE = (b"cache-control", b"no-cache")
# the page loads nothing from elsewhere and is framed by nobody
_POLICY = (b"content-security-policy", b"default-src 'self' 'unsafe-inline'; frame-ancestors 'none'")


class Pages:
    """The host's pages, over what the host serves and what the agent knows."""

    def __init__(self, host: hosting.Host, *, ready: Facts, info: Facts, version: str) -> None:
        """``ready`` answers a JSON object with at least ``ready`` (whether), ``state``, ``reason`` and ``since``."""
        self._host = host
        self._ready = ready
        self._info = info
        self._version = version
        self._made: tuple[Snapshot, bytes, str] | None = None
        self._making = asyncio.Lock()
        self._pages: dict[str, Callable[[Scope, Send], Awaitable[None]]] = {
            "/health": self._health,
            "/ready": self._readiness,
            "/modules/system/info": self._information,
            "/openapi.json": self._openapi,
            "/docs": self._docs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> bool:
        """Answer the page at ``path``; False: there is none."""
        page = self._pages.get(path)
        if page is None or scope["type"] != "http":
            return False
        if scope["method"] in {"GET", "HEAD"}:
            await page(scope, send)
        else:
            await answering.problem(scope, receive, send, 405, "allowed: GET, HEAD", [(b"allow", b"GET, HEAD")])
        return True

    async def _health(self, scope: Scope, send: Send) -> None:
        await answering.answer_json(send, {"status": "healthy"})

    async def _readiness(self, scope: Scope, send: Send) -> None:
        facts = self._ready()
        await answering.answer_json(send, facts, 200 if facts["ready"] else 503)

    async def _information(self, scope: Scope, send: Send) -> None:
        await answering.answer_json(send, self._info())

    async def _openapi(self, scope: Scope, send: Send) -> None:
        body, tag = await self._document()
        fields = [(b"etag", tag.encode()), _NO_CACHE]
        if any(name == b"if-none-match" and tag.encode() in value for name, value in scope["headers"]):
            await answering.respond(send, 304, b"", headers=fields)
        else:
            await answering.respond(send, 200, body, headers=fields)

    async def _document(self) -> tuple[bytes, str]:
        async with self._making:
            snapshot = self._host.snapshot
            if self._made is None or self._made[0] is not snapshot:
                body, tag = await asyncio.to_thread(describing.merged, snapshot, self._version)
                self._made = (snapshot, body, tag)
            return self._made[1], self._made[2]

    async def _docs(self, scope: Scope, send: Send) -> None:
        page = resources.files("dataplane.gateway").joinpath("docs.html").read_bytes()
        await answering.respond(send, 200, page, b"text/html; charset=utf-8", [_NO_CACHE, _POLICY])
