"""The worker's own pages: health, readiness, information, metrics, the OpenAPI document and its page.

Called by `dataplane.gateway.dispatching` for every path that is not a module's.  Nothing here may hold the serving
loop: the merged OpenAPI document is made in a thread, once per snapshot (`dataplane.gateway.merging`), files are read
in one (`schemas.kits.apidocs`), and what is large goes out in pieces.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from dataplane.gateway import answering, describing, hosting, merging
from schemas.kits import exposing
from schemas.kits.apidocs import assets
from schemas.meta import Json

Facts = Callable[[], Json]
"""Says something about the worker, at once."""

Text = Callable[[], Awaitable[bytes]]
"""Renders something, off the serving loop."""

_NO_CACHE = (b"cache-control", b"no-cache")
_NO_STORE = (b"cache-control", b"no-store")
_FILES = f"/{assets.FOLDER}"


class Pages:
    """The host's pages, over what the host serves and what the agent knows."""

    def __init__(
        self, host: hosting.Host, *, ready: Facts, info: Facts, version: str, metrics: Text | None = None
    ) -> None:
        """``ready`` answers a JSON object with at least ``ready`` (whether), ``state``, ``reason`` and ``since``.

        ``metrics`` answers in Prometheus's text format; None: nothing is measured.
        """
        self._ready = ready
        self._info = info
        self._text = metrics
        self._book = merging.Book(lambda: host.snapshot, version)
        self._pages: dict[str, Callable[[Scope, Send], Awaitable[None]]] = {
            "/health": self._health,
            "/ready": self._readiness,
            "/modules/system/info": self._information,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/docs": self._docs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> bool:
        """Answer the page at ``path``; False: there is none."""
        page = self._files if path.startswith(_FILES) else self._pages.get(path)
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

    async def _metrics(self, scope: Scope, send: Send) -> None:
        """For this machine only: how much a module is called is not every caller's affair."""
        if self._text is None or not exposing.is_local(scope):
            await _missing(scope, send, "metrics are told to this machine only")
            return
        text = await self._text()
        pieces = [text[start : start + describing.CHUNK_BYTES] for start in range(0, len(text), describing.CHUNK_BYTES)]
        await answering.respond_in_pieces(send, pieces, exposing.CONTENT_TYPE.encode(), [_NO_STORE])

    async def _openapi(self, scope: Scope, send: Send) -> None:
        names = parse_qs(scope["query_string"].decode("latin-1")).get("module")
        document = await (self._book.of_modules(names) if names else self._book.document())
        if document is None:
            await _missing(scope, send, "no module of this name serves on this worker")
            return
        tag = document.tag.encode()
        fields = [(b"etag", tag), _NO_CACHE]
        if any(name == b"if-none-match" and tag in value for name, value in scope["headers"]):
            await answering.respond(send, 304, b"", headers=fields)
        else:
            await answering.respond_in_pieces(send, document.chunks, b"application/json", fields)

    async def _docs(self, scope: Scope, send: Send) -> None:
        await _asset(send, await asyncio.to_thread(assets.page, "live module routes"))

    async def _files(self, scope: Scope, send: Send) -> None:
        root: str = scope.get("root_path", "")
        asset = await asyncio.to_thread(assets.file, scope["path"].removeprefix(root).removeprefix(_FILES))
        if asset is None:
            await _missing(scope, send, "there is no such file")
        else:
            await _asset(send, asset)


async def _asset(send: Send, asset: assets.Asset) -> None:
    size = describing.CHUNK_BYTES
    pieces = [asset.body[start : start + size] for start in range(0, len(asset.body), size)]
    await answering.respond_in_pieces(send, pieces, asset.kind, asset.headers)


async def _missing(scope: Scope, send: Send, detail: str) -> None:
    await answering.respond(send, 404, answering.document(404, detail, scope["path"]), answering.PROBLEM)
