"""One module twice over real sockets: on a plain FastAPI application at the root, and behind the gateway.

The hosted twin goes the whole way: packed, inspected, built from its mangled name, served by the dispatcher.
"""

import asyncio
import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from controlplane.discovery import packing
from dataplane import doors
from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.inspection import examining
from dataplane.runtime import building, sharing
from dataplane.sdk import BaseModuleRouter
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionRequest
from tests.doubles import sources


class Twins:
    """Where both are; ``prefix`` is what the hosted one's URLs have more."""

    def __init__(self, plain: str, hosted: str, prefix: str) -> None:
        self.plain = plain
        self.hosted = hosted
        self.prefix = prefix
        self.client = httpx.Client(timeout=10)

    def ask(self, method: str, path: str, **more: Any) -> "tuple[Seen, Seen]":
        """The plain answer and the hosted one, made comparable."""
        self.client.cookies.clear()
        first = self.client.request(method, self.plain + path, **more)
        self.client.cookies.clear()
        second = self.client.request(method, self.hosted + self.prefix + path, **more)
        return self._seen(first), self._seen(second)

    def _seen(self, answer: httpx.Response) -> "Seen":
        try:
            body = self.same(answer.text)
            shorter = len(answer.content) - len(body.encode()) if answer.request.method != "HEAD" else 0
        except UnicodeDecodeError:
            body, shorter = repr(answer.content), 0
        headers = []
        for name, value in answer.headers.multi_items():
            if name == "content-length":
                value = str(int(value) - shorter)  # noqa: PLW2901 - the length of the comparable body
            if name not in {"date", "server", "x-modplane-worker"}:
                headers.append((name, self.same(value)))
        return answer.status_code, sorted(headers), body

    def same(self, text: str) -> str:
        """``text`` without what must differ: the port, the moment, and the hosted one's prefix."""
        for url in (self.plain, self.hosted):
            text = text.replace(url, "http://door").replace(url.replace("http", "ws"), "ws://door")
        text = re.sub(r"expires=[^;]*GMT", "expires=…", text.replace(self.prefix, ""))
        return re.sub(r"(boundary=|--)[0-9a-f]{26}", r"\1…", text)


Seen = tuple[int, list[tuple[str, str]], str]


@contextlib.contextmanager
def twins(
    kind: type[BaseModuleRouter],
    folder: Path,
    code_root: Path,
    *,
    config: dict[str, Any] | None = None,
    root_path: str = "",
    **desired: Any,
) -> Iterator[Twins]:
    """Serve the module class ``kind``, whose package is ``folder``, in both ways until the block ends."""
    entry_point = f"{folder.name}.{kind.__module__.rsplit('.', 1)[-1]}:{kind.__qualname__}"
    instance = hosted(folder, entry_point, code_root, config=config or {}, **desired)
    module = kind.create_instance()
    module.config = config or {}
    ready, ending = threading.Event(), threading.Event()
    found: list[Twins] = []

    def run() -> None:
        asyncio.run(_serve(module, instance, root_path, found, ready, ending))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield found[0]
    finally:
        found[0].client.close()
        ending.set()
        thread.join(60)


def hosted(
    folder: Path, entry_point: str, code_root: Path, *, config: dict[str, Any], **desired: Any
) -> building.Instance:
    """The module as a worker builds it."""
    place = packing.locate(folder.parent, folder.name)
    assert place is not None
    digest, _ = packing.pack(place, code_root)
    root = code_root / digests.folder_name(digest)
    for file in folder.rglob("*"):  # file answers show their time
        if file.is_file() and (root / folder.name / file.relative_to(folder)).exists():
            shutil.copystat(file, root / folder.name / file.relative_to(folder))
    request = InspectionRequest(
        id="1", root=os.fspath(root), source_path=folder.name, digest=digest, entry_point=entry_point, config=config
    )
    report = examining.examine(request)
    assert report.outcome is InspectionOutcome.OK, report.message
    routes = [("|".join(route.methods), route.path) for route in report.routes]
    wanted = sources.desired(digest, entry_point, routes, config=config, **desired)
    return building.build(wanted, name=wanted.namespace, uid="u", generation=1, code_root=code_root)


def plain_application(module: BaseModuleRouter) -> FastAPI:
    """What the author would write without a host."""
    app = FastAPI(
        lifespan=module.lifespan,
        exception_handlers=dict(module.exception_handlers()),
        middleware=list(module.middleware()),
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    module.register_routes(app.router)
    return app


async def _serve(
    module: BaseModuleRouter,
    instance: building.Instance,
    root_path: str,
    found: list[Twins],
    ready: threading.Event,
    ending: threading.Event,
) -> None:
    sharing.install(20)
    host = hosting.Host(grace=1.0)
    await host.install(serving.serve(instance, datetime(2030, 1, 1, tzinfo=UTC)))
    answers = pages.Pages(host, ready=lambda: {"ready": True}, info=dict, version="1")
    app = plain_application(module)
    async with app.router.lifespan_context(app) as state:
        await module.on_startup()
        plain, plain_door = _server(app, root_path, dict(state or {}))
        gateway, gateway_door = _server(dispatching.Dispatcher(host, answers), root_path, {})
        running = [
            asyncio.create_task(plain.serve(sockets=[plain_door])),
            asyncio.create_task(gateway.serve(sockets=[gateway_door])),
        ]
        prefix = instance.prefix
        found.append(Twins(_url(plain_door), _url(gateway_door), prefix))
        while not (plain.started and gateway.started):
            await asyncio.sleep(0)
        ready.set()
        await asyncio.to_thread(ending.wait)
        plain.should_exit = gateway.should_exit = True
        await asyncio.gather(*running)
        await module.on_shutdown()
    await host.close()


class _Server(uvicorn.Server):
    """As the worker's, with signals left alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, root_path: str, state: dict[str, Any]) -> tuple[_Server, Any]:
    door = doors.open_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http="httptools",
        ws="websockets-sansio",
        root_path=root_path,
        timeout_graceful_shutdown=2,
    )

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    if state:
        config.app = with_state
    return _Server(config), door


def _url(door: Any) -> str:
    host, port = door.getsockname()[:2]
    return f"http://{host}:{port}"
