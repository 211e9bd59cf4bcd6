"""The API behind a real socket, for what only a real server shows: streams, disconnects, shutdown."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from controlplane.api import apps
from schemas.meta import Json


class Server(uvicorn.Server):
    """uvicorn that leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Watcher:
    """One open watch, read line by line."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, timeout: float = 10.0) -> Json:
        found: Json = json.loads(await asyncio.wait_for(anext(self._lines), timeout))
        return found

    async def take(self, count: int) -> list[tuple[str, str]]:
        """(event, name) of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def ended(self, timeout: float = 10.0) -> list[Json]:
        """What comes until the server ends the stream."""

        async def rest() -> list[Json]:
            return [json.loads(line) async for line in self._lines]

        return await asyncio.wait_for(rest(), timeout)


class Served:
    """A running server and a client of it."""

    def __init__(self, url: str, client: httpx.AsyncClient, server: Server, task: "asyncio.Task[None]") -> None:
        self.url = url
        self.client = client
        self.server = server
        self.task = task

    @asynccontextmanager
    async def watch(self, path: str, **params: Any) -> AsyncGenerator[Watcher, None]:
        headers = params.pop("headers", None)
        async with self.client.stream("GET", path, params={"watch": "true", **params}, headers=headers) as response:
            yield Watcher(response)


@asynccontextmanager
async def serving(api: apps.Api) -> AsyncIterator[Served]:
    """Serve ``api`` on a free port of this machine until the block ends."""
    door = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    config = uvicorn.Config(api, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=20)
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[door]))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield Served(url, client, server, task)
    finally:
        api.close()
        server.should_exit = True
        await task
        door.close()
