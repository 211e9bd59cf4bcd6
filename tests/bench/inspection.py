"""What looking at modules' code costs: one warm module alone, and a thousand at once.

The time of one is from the question to the answer in the control plane; the processor time of many is that of the
inspection process with all its children.  Answers are kept by digest: a control plane that starts over a store that
knows a folder's modules has nothing to inspect.
"""

import asyncio
import logging
import time
from pathlib import Path

import psutil
import structlog

from controlplane.discovery import discovering
from controlplane.inspection import inspecting
from controlplane.store import stores
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from schemas.kits.clocks import SystemClock
from tests.bench import modules
from tests.bench.tables import median, quantile, table
from tests.doubles import sources

ALONE = 60
MANY = 1_000
FOLDER = 200
_REST = 0.05
"""Seconds between two modules that come alone: the next process in reserve is ready by then."""


class Counted:
    """The inspection pool, and how often it was asked."""

    def __init__(self, pool: inspecting.InspectionPool) -> None:
        self.pool = pool
        self.asked = 0

    @property
    def host_version(self) -> str:
        """The pool's."""
        return self.pool.host_version

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """Ask the pool."""
        self.asked += 1
        report = await self.pool.inspect(request)
        assert report.outcome is InspectionOutcome.OK, report.message
        return report


def run(folder: Path) -> str:
    """The table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return asyncio.run(_run(folder))


async def _run(folder: Path) -> str:
    pool = inspecting.InspectionPool()
    await pool.start()
    (process,) = [child for child in psutil.Process().children() if child.cmdline()[1:] == [*inspecting.COMMAND[1:]]]
    try:
        one, ten = await _alone(pool, folder / "one", 1), await _alone(pool, folder / "ten", 10)
        requests = [_request(folder / "many", 10, number) for number in range(MANY)]
        before, started = _spent(process), time.monotonic()
        reports = await asyncio.gather(*map(pool.inspect, requests))
        wall, spent = time.monotonic() - started, _spent(process) - before
        assert {len(report.routes) for report in reports} == {10}
        asked, again = await _folder(pool, folder)
    finally:
        await pool.close()
    rows = [
        ("a warm module of 1 route, alone, median", f"{median(one):.1f} ms", "under 20 ms"),
        ("the same with 10 routes", f"{median(ten):.1f} ms", "under 20 ms"),
        ("the same, 90th percentile", f"{quantile(ten, 0.9):.1f} ms", ""),
        (f"{MANY} modules of 10 routes at once, processor time", f"{spent:.2f} s", "under 10 s"),
        ("the same, until the last answer", f"{wall:.1f} s", ""),
        (f"inspections of a folder of {FOLDER}", str(asked), str(FOLDER)),
        ("the same after a restart", str(again), "0"),
    ]
    return table(f"Inspection: {ALONE} modules alone, then {MANY} at once", ("what", "measured", "wanted"), rows)


async def _alone(pool: inspecting.InspectionPool, folder: Path, routes: int) -> list[float]:
    """Milliseconds from question to answer, module after module."""
    taken = []
    for number in range(ALONE):
        request = _request(folder, routes, number)
        await asyncio.sleep(_REST)
        started = time.perf_counter()
        report = await pool.inspect(request)
        taken.append((time.perf_counter() - started) * 1e3)
        assert len(report.routes) == routes, report.message
    return taken


def _request(folder: Path, routes: int, number: int) -> InspectionRequest:
    """To inspect a new module as reconcile does, with its routes."""
    modules.write(_made(folder / "new"), "m", f"hello {number}", routes=routes)
    digest = sources.store(folder, {"m.py": (folder / "new" / "m.py").read_text()})
    root = str(folder / digests.folder_name(digest))
    return InspectionRequest(
        id="1", root=root, source_path="m", digest=digest, entry_point="m:Plain", timeout_seconds=60.0
    )


async def _folder(pool: inspecting.InspectionPool, folder: Path) -> tuple[int, int]:
    """How many inspections a folder of modules takes, and how many after a restart."""
    for number in range(FOLDER):
        modules.write(_made(folder / "modules"), f"m{number}")
    return await _discovered(pool, folder), await _discovered(pool, folder)


async def _discovered(pool: inspecting.InspectionPool, folder: Path) -> int:
    clock, counted = SystemClock(), Counted(pool)
    store = await stores.open_store(f"sqlite:///{folder / 'modplane.db'}", clock=clock, data_dir=folder)
    try:
        discovery = discovering.Discovery(
            store, clock, counted, modules_path=folder / "modules", data_dir=folder / "data"
        )
        while (answer := await discovery.discover())["inspecting"]:
            assert not answer["failed"]
        assert len(answer["applied"]) + len(answer["unchanged"]) == FOLDER
        discovery.rest()
    finally:
        await store.close()
    return counted.asked


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
