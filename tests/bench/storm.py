"""Changes under load: fifty new codes of one module, one every 100 ms, while another module is called without pause.

The worker has one core for itself; client, control plane, NATS and inspections share another, so what the table shows
of the worker is the worker's own.  Beside the quiet run of the same load: what callers saw, and how long the serving
loop was held, as a module inside the worker sees it that asks for its turn again and again.  Two things hold it: what
runs on the loop itself between two turns (the serving thread's own CPU time), and other threads of the worker that have
the interpreter or the core (the CPU time of the whole process).  Other programs on this machine do not count.
"""

import asyncio
import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.bench import load, modules
from tests.bench.tables import median, table
from tests.doubles.platform import Platform, running

ROUNDS = 5
CHANGES = 50
EVERY_SECONDS = 0.1
SECONDS = CHANGES * EVERY_SECONDS
CONNECTIONS = 16

PULSE = '''"""Tells how long the serving loop is held: a callback that asks for its next turn at once, timed by CPU."""

import asyncio
import time

from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth


class Pulse(BaseModuleRouter):
    running = False

    @classmethod
    def create_instance(cls) -> "Pulse":
        return cls(ModuleMetadata(module_id="pulse", name="pulse", version="1.0.0", module_type=ModuleType.CORE))

    def beat(self, ours: float, all_of_us: float) -> None:
        own = time.thread_time()  # first: it has the kernel bring this thread's share of the process's clock up to date
        whole = time.process_time()
        if whole - all_of_us > 0.0005:
            self.holds.append((own - ours, whole - all_of_us))
        if self.running:
            asyncio.get_running_loop().call_soon(self.beat, own, whole)

    def register_routes(self, router: APIRouter) -> None:
        @router.post("/start")
        @require_module_auth(auth_level="NONE")
        async def start() -> None:
            self.holds, self.running = [(0.0, 0.0)], True
            self.beat(time.thread_time(), time.process_time())

        @router.post("/stop")
        @require_module_auth(auth_level="NONE")
        async def stop() -> list[tuple[float, float]]:
            self.running = False
            return self.holds
'''


@dataclass(frozen=True, slots=True)
class Held:
    """The serving loop of one run: how long it was held, in seconds."""

    own: float
    """The longest turn of what runs on the loop itself."""
    longest: float
    """The longest hold, with what other threads of the worker did meanwhile."""
    over: int
    """How many of these were longer than two milliseconds."""


class Storm:
    """One platform, its worker on one core and all else on another."""

    def __init__(self, platform: Platform, client: ProcessPoolExecutor) -> None:
        self._platform = platform
        self._client = client
        self._port = int(platform.door.rsplit(":", 1)[1])
        self._said = 0

    def called(self, changing: bool) -> load.Load:
        """What callers of another module saw."""
        path = "/api/v1/modules/v1/steady/r9"
        call = self._client.submit(load.run, "127.0.0.1", self._port, path, seconds=SECONDS, connections=CONNECTIONS)
        if changing:
            self._change()
        return call.result()

    def held(self, changing: bool) -> Held:
        """How long the loop was held, with nobody calling."""
        self._platform.call("v1/pulse/start", "POST").raise_for_status()
        if changing:
            self._change()
        else:
            threading.Event().wait(SECONDS)
        holds: list[tuple[float, float]] = self._platform.call("v1/pulse/stop", "POST").raise_for_status().json()
        own, whole = ([each[which] for each in holds] for which in (0, 1))
        return Held(max(own), max(whole), sum(each > 0.002 for each in whole))

    def _change(self) -> None:
        asyncio.run(self._changes())

    async def _changes(self) -> None:
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(
            base_url=self._platform.control, auth=self._platform.admin.auth, verify=self._platform.trust, timeout=30
        ) as client:
            began = loop.time()
            for number in range(CHANGES):
                self._said += 1
                modules.write(self._platform.modules, "changing", say=f"change {self._said}")
                answer = await client.post(
                    "/apis/modplane.dev/v1/apply?fieldManager=bench",
                    content=modules.text(modules.manifest("changing", description=f"change {self._said}")),
                    headers={"content-type": "application/json"},
                )
                answer.raise_for_status()
                await asyncio.sleep(max(began + (number + 1) * EVERY_SECONDS - loop.time(), 0))


def run(folder: Path) -> str:
    """The table."""
    spawn = multiprocessing.get_context("spawn")
    with (
        running(folder / "home", examples=False, workers=1) as platform,
        ProcessPoolExecutor(1, mp_context=spawn) as client,
    ):
        for name in ("steady", "changing"):
            modules.write(platform.modules, name)
            platform.cli("apply", "--wait", "-f", "-", stdin=json.dumps(modules.manifest(name)))
        (platform.modules / "pulse.py").write_text(PULSE)
        pulse = modules.manifest("pulse", entryPoint="pulse:Pulse")
        platform.cli("apply", "--wait", "-f", "-", stdin=json.dumps(pulse))
        where = _pin(platform)
        storm = Storm(platform, client)
        storm.called(changing=False)
        seen: dict[bool, list[load.Load]] = {False: [], True: []}
        held: dict[bool, list[Held]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for changing in (False, True):
                seen[changing].append(storm.called(changing))
                held[changing].append(storm.held(changing))
    return _shown(where, seen, held)


def _pin(platform: Platform) -> str:
    """Give the worker a core of its own, if there are two; says so."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return "one core for all"
    worker = platform.child("dataplane", "worker").pid
    assert platform.process is not None, "it runs"
    for process in [psutil.Process(), psutil.Process(platform.process.pid), *platform.children()]:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores[:1] if process.pid == worker else cores[1:])
    return "the worker on one core, client, control plane, NATS and inspections on the other"


def _shown(where: str, seen: dict[bool, list[load.Load]], held: dict[bool, list[Held]]) -> str:
    rows = []
    for changing, name in ((False, "quiet"), (True, f"{CHANGES} changes")):
        runs, holds = seen[changing], held[changing]
        tails = [each.percentile(0.99) for each in runs]
        against = [tail / quiet.percentile(0.99) for tail, quiet in zip(tails, seen[False], strict=True)]
        rows.append(
            (
                name,
                f"{median([each.requests / each.seconds for each in runs]):.0f}",
                f"{median([each.percentile(0.5) for each in runs]) * 1e3:.2f}",
                f"{median(tails) * 1e3:.2f}",
                f"{median(against):.2f}",
                sum(each.wrong for each in runs),
                sum(each.closed for each in runs),
                f"{median([each.own for each in holds]) * 1e3:.2f}",
                f"{median([each.longest for each in holds]) * 1e3:.2f}",
                f"{median([each.over for each in holds]):.0f}",
            )
        )
    heads = (
        "run", "requests/s", "p50 ms", "p99 ms", "p99 × quiet", "wrong", "closed",
        "longest turn on the loop ms", "with other threads ms", "of these > 2 ms",
    )  # fmt: skip
    rounds = f"medians of {ROUNDS} interleaved rounds of {SECONDS:g} s"
    return table(f"Changes under load: {rounds}, {CONNECTIONS} connections; {where}", heads, rows)
