"""What a trace costs a request: off, not sampled, one in ten, and all, beside the same worker without tracing.

Two tables.  In one process, by CPU time: the hooks alone, without the server (`asgi`-free, one dispatcher).  In
workers, by the server's CPU clock per request, interleaved; the collector is a server of the bench that throws away
what it gets, and the worker's export counts as the worker's.
"""

import asyncio
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.telemetry import tracing
from schemas.kits import tracing as kit
from schemas.kits.clocks import SystemClock
from tests.bench import dispatch
from tests.bench.tables import median, table
from tests.doubles.asgi import http_scope
from tests.doubles.modules import FakeInstance

ROUNDS = 150
WORKER_ROUNDS = 60
TIMES = 200
_LAYER = "off, behind a layer that does nothing"
_HEADER = "off, with a caller's header"
_CALLER = "on, not sampled by the caller (beside off with that header)"
_HOOKS = "off, behind one that does the hooks' work again (beside that layer)"
PATH = "/api/v1/modules/v1/m0/r9"
_HEADERS = {"user-agent": "bench", "accept": "*/*", "x-one": "1", "x-two": "2"}
_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def run(folder: Path) -> str:
    """The tables."""
    return asyncio.run(_in_process()) + _in_workers(folder)


class _Nobody:
    """A sink that takes and forgets."""

    def offer(self, span: kit.Span) -> None:
        """Nothing."""

    def close(self, seconds: float) -> None:
        """Nothing."""

    def wire(self) -> dict[str, Any]:
        """Nothing."""
        return {}


async def _in_process() -> str:
    host = hosting.Host(grace=5.0)
    shown = pages.Pages(host, ready=dict, info=dict, version="1")

    def register(router: APIRouter) -> None:
        @router.get("/r9")
        async def r9() -> dict[str, str]:
            return {"say": "hello"}

    instance = FakeInstance(register, name="m0", namespace="m0")
    await host.install(serving.serve(instance, datetime.now(UTC)))
    plain = dispatching.Dispatcher(host, shown, SystemClock())

    def with_share(share: float) -> Any:
        return tracing.traced(plain, kit.Tracer(_Nobody(), kit.Sampling(share=share)))

    ways: dict[str, tuple[Any, dict[str, str]]] = {
        "off": (plain, _HEADERS),
        _LAYER: (_Layer(plain), _HEADERS),
        _HOOKS: (_Hooks(plain), _HEADERS),
        "on, not sampled": (with_share(0.0), _HEADERS),
        _HEADER: (plain, {**_HEADERS, "traceparent": _PARENT}),
        _CALLER: (with_share(1.0), {**_HEADERS, "traceparent": _PARENT}),
        "on, one in ten": (with_share(0.1), _HEADERS),
        "on, all": (with_share(1.0), _HEADERS),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, (app, headers) in ways.items() if number % 2 else reversed(ways.items()):
            taken[name].append(await _cpu(app, headers))
    rows = []
    for name, each in taken.items():
        other = taken[{_HOOKS: _LAYER, _CALLER: _HEADER}.get(name, "off")]
        added = median([mine - theirs for mine, theirs in zip(each, other, strict=True)])
        rows.append((name, f"{median(each):.1f}", f"{added:+.1f}"))
    title = f"A request in one process, without server and export: medians of {ROUNDS} interleaved rounds of {TIMES}"
    return table(title, ("tracing", "CPU µs/request", "beside off"), rows)


class _Layer:
    """Stands before the dispatcher and does nothing."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


class _Hooks(_Layer):
    """Does once more what the gateway does for tracing while that is off, to see what it costs beside a layer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tracing.current.set(scope)
        if tracing.SPAN in scope:
            raise AssertionError
        if tracing.begin(scope):
            raise AssertionError
        if scope.get(tracing.SPAN) is not None:
            raise AssertionError
        await self._app(scope, receive, send)


async def _cpu(app: Any, headers: dict[str, str]) -> float:
    scopes = [http_scope("GET", PATH, headers=headers) for _ in range(TIMES)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    started = time.process_time()
    for scope in scopes:
        await app(scope, receive, send)
    return (time.process_time() - started) / TIMES * 1e6


def _in_workers(folder: Path) -> str:
    with ExitStack() as stack:
        url = stack.enter_context(_collector())
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        platforms = {
            "off": {},
            "off, once more": {},
            "on, not sampled": {**endpoint, "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
            "on, one in ten": {**endpoint, **ratio, "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "on, all": endpoint,
        }
        servers = []
        for number, (name, environment) in enumerate(platforms.items()):
            platform = stack.enter_context(dispatch.platform(folder / f"t{number}", 1, environment))
            servers.append(dispatch.worker(platform, name, PATH))
        taken = dispatch.interleaved(servers, WORKER_ROUNDS, dispatch.REQUESTS)
    rows = []
    for name, runs in taken.items():
        added = dispatch.added(runs, taken["off"])
        failures = sum(each.seen.failures for each in runs)
        cpu = median([each.cpu for each in runs])
        rows.append((name, f"{cpu:.0f}", f"{added:+.1f}", f"{dispatch.against(runs, taken['off']):.3f}", failures))
    title = f"A request at a worker, with export: medians of {WORKER_ROUNDS} interleaved rounds of {dispatch.REQUESTS}"
    return table(title, ("tracing", "CPU µs/request", "beside off", "× off", "wrong answers"), rows)


@contextmanager
def _collector() -> Iterator[str]:
    """An OTLP receiver that throws away what it gets."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
