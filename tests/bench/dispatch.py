"""What the gateway adds to a request: server CPU per request at 1 and 1,000 modules, beside bare FastAPI.

The same handler runs in three servers: a worker that serves one module, a worker that serves a thousand, and a FastAPI
application with that one route.  Each is one uvicorn process with the worker's options (`dataplane.doors`): uvloop,
httptools, no access log, no proxy headers, and one header of its own in each answer.  Rounds are interleaved, and what
is compared are the servers' CPU clocks, each with the bare server's of the same round.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench import load, modules
from tests.bench.tables import median, table
from tests.doubles.nats import free_port
from tests.doubles.platform import Platform, wait_for

ROUNDS = 80
REQUESTS = 300
"""In one round: few, so that what is compared is a tenth of a second apart, whatever else the machine does."""
MANY = 1_000

BARE = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
@app.get("/r9")
async def r9():
    return {"say": "hello"}
port = int(sys.argv[1])
uvicorn.run(
    app, port=port, log_config=None, access_log=False, lifespan="off", loop="uvloop", http="httptools",
    ws="websockets-sansio", server_header=False, proxy_headers=False, headers=[("x-modplane-worker", "bare/00000000")],
)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One process to load."""

    name: str
    port: int
    path: str
    pid: int
    status: int = 200
    headers: str = ""
    """More lines of each request's head."""


def run(folder: Path) -> str:
    """The table."""
    with platform(folder / "one", 1) as one, platform(folder / "many", MANY) as many, bare() as plain:
        servers = [
            plain,
            worker(one, "1 module, a hit", "/api/v1/modules/v1/m0/r9"),
            worker(many, f"{MANY} modules, a hit", f"/api/v1/modules/v1/m{MANY - 1}/r9"),
            worker(one, "1 module, unknown path", "/api/v1/modules/v1/m0/none", 404),
            worker(many, f"{MANY} modules, unknown path", "/api/v1/modules/v1/m7/none", 404),
            worker(many, f"{MANY} modules, unknown namespace", "/api/v1/modules/v1/none/r9", 404),
        ]
        taken = interleaved(servers, ROUNDS, REQUESTS)
    rows = []
    for name, runs in taken.items():
        failures = sum(each.seen.failures for each in runs)
        middle = [median([each.seen.percentile(share) for each in runs]) * 1e3 for share in (0.5, 0.99)]
        figures = [f"{against(runs, taken[other]):.2f}" for other in (plain.name, servers[1].name)]
        cpu = median([each.cpu for each in runs])
        rows.append((name, f"{cpu:.0f}", *figures, *(f"{each:.2f}" for each in middle), failures))
    title = f"Dispatch: medians of {ROUNDS} interleaved rounds of {REQUESTS} requests over 8 connections"
    heads = ("server", "CPU µs/request", "× bare", "× 1 module", "p50 ms", "p99 ms", "wrong answers")
    return table(title, heads, rows)


@dataclass(frozen=True, slots=True)
class Run:
    """One round of one server."""

    cpu: float
    """CPU microseconds per request of the whole process."""
    loop: float
    """Of them on the thread that serves; the others work beside requests."""
    seen: load.Load


Runs = list[Run]


def interleaved(servers: list[Server], rounds: int, requests: int) -> dict[str, Runs]:
    """Load the servers in turn, forwards and backwards, over connections that stay open; by name."""
    taken: dict[str, Runs] = {server.name: [] for server in servers}
    with contextlib.ExitStack() as stack:
        lanes = [(server, stack.enter_context(contextlib.closing(_lane(server)))) for server in servers]
        for server, lane in lanes:
            _measure(server, lane, 500)
        for number in range(rounds):
            for server, lane in lanes if number % 2 else reversed(lanes):
                taken[server.name].append(_measure(server, lane, requests))
    return taken


def against(runs: Runs, others: Runs) -> float:
    """How much more CPU than another server, round by round."""
    return median([mine.cpu / theirs.cpu for mine, theirs in zip(runs, others, strict=True)])


def added(runs: Runs, others: Runs) -> float:
    """How many more microseconds of CPU than another server, round by round."""
    return median([mine.cpu - theirs.cpu for mine, theirs in zip(runs, others, strict=True)])


def added_to_loop(runs: Runs, others: Runs) -> float:
    """The same, on the threads that serve."""
    return median([mine.loop - theirs.loop for mine, theirs in zip(runs, others, strict=True)])


def _lane(server: Server) -> load.Lane:
    return load.Lane("127.0.0.1", server.port, server.path, status=server.status, headers=server.headers)


def _measure(server: Server, lane: load.Lane, requests: int) -> Run:
    """What some requests take of the server, and what the client saw."""
    cpu, loop = load.cpu_seconds(server.pid), load.loop_seconds(server.pid)
    seen = lane.run(requests=requests)
    each = 1e6 / seen.requests
    return Run((load.cpu_seconds(server.pid) - cpu) * each, (load.loop_seconds(server.pid) - loop) * each, seen)


def worker(platform: Platform, name: str, path: str, status: int = 200, headers: str = "") -> Server:
    """The one worker of a platform."""
    port = int(platform.door.rsplit(":", 1)[1])
    return Server(name, port, path, platform.child("dataplane", "worker").pid, status, headers)


@contextlib.contextmanager
def bare() -> Iterator[Server]:
    """FastAPI with one route, and nothing else."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", BARE, str(port)]) as process:
        try:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/r9"), what="bare FastAPI")
            yield Server("bare FastAPI, one route", port, "/r9", process.pid)
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def platform(home: Path, count: int, environment: dict[str, str] | None = None) -> Iterator[Platform]:
    """One worker that serves ``count`` modules."""
    platform = Platform(home, examples=False, environment=environment)
    for number in range(count):
        modules.write(platform.modules, f"m{number}")
    platform.start(timeout=300)
    try:
        last = f"{platform.door}/api/v1/modules/v1/m{count - 1}/r9"
        wait_for(lambda: platform.state(f"m{count - 1}") == "ACTIVE" and _answers(last), timeout=300)
        wait_for(lambda: _served(platform) == count, timeout=300, what=lambda: f"{_served(platform)} of {count} serve")
        yield platform
    finally:
        platform.stop()


def _served(platform: Platform) -> int:
    items = platform.admin.get(f"{platform.control}/apis/modplane.dev/v1/modules").json()["items"]
    return sum(item["status"]["state"] == "ACTIVE" for item in items)
