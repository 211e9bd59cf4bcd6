"""The conflict check of one 10-route module beside many others, in memory and against the store.

Shown, in microseconds of processor time: the detector's answer; and all that a turn of the reconciler asks the store
about a module's neighbours, when each module has a namespace of its own and when all share one.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from controlplane.admission.conflicts import RouteConflictDetector, WantedRoute
from controlplane.store import neighbouring
from controlplane.store.readings import Reading
from controlplane.store.transactions import Transaction
from tests.bench.tables import median, table
from tests.doubles import records
from tests.doubles.databases import sqlite_store

COUNTS = (10, 1_000, 10_000)
_ROUNDS = 50
_TIMES = 20
_AT_ONCE = 200
_WANTED = [WantedRoute(("GET",), f"/mine/r{number}/{{id}}") for number in range(10)]


def run(folder: Path) -> str:
    """The table."""
    rows = []
    for count in COUNTS:
        apart, _ = asyncio.run(_measure(folder / f"apart{count}", count, shared=False))
        together, detector = asyncio.run(_measure(folder / f"together{count}", count, shared=True))
        rows.append((count, f"{detector:.0f}", f"{apart:.0f}", f"{together:.0f}"))
    heads = ("modules", "detector us", "store, a namespace each us", "store, one namespace us")
    return table("Conflict check of a 10-route module beside modules of 10 routes", heads, rows)


async def _measure(folder: Path, count: int, *, shared: bool) -> tuple[float, float]:
    folder.mkdir(parents=True)
    async with sqlite_store(folder) as store:
        for start in range(0, count, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, count))
            await store.write(lambda tx, numbers=numbers: _hold(tx, numbers, shared=shared))  # type: ignore[misc]
        detector = RouteConflictDetector(await store.read(lambda reading: reading.claims()))
        checked = _timed(lambda: detector.find("mine", "mine", "v1", "shop", _WANTED))
        return await store.read(lambda reading: _timed(lambda: _ask(reading))), checked


def _hold(tx: Transaction, numbers: range, *, shared: bool) -> None:
    for number in numbers:
        record = tx.put(records.module(f"m{number}"))
        claims = [("GET", f"/m{number}/r{n}/{{}}", f"/m{number}/r{n}/{{id}}") for n in range(10)]
        tx.take_claims(record, "v1", "shop" if shared else f"n{number}", claims)


def _ask(reading: Reading) -> None:
    """What `controlplane.reconcile.loading` asks."""
    if neighbouring.anybody(reading.ask, "v1", "shop", "mine"):
        shapes = {shape for route in _WANTED for _, shape, _ in route.claims()}
        neighbouring.claims_at(reading.ask, "v1", "shop", shapes)
        neighbouring.claims_near(reading.ask, "v1", "shop", "mine", {route.path for route in _WANTED})
        neighbouring.contests_at(reading.ask, "v1", "shop", "mine", shapes)
        neighbouring.contests_of(reading.ask, "mine")


def _timed(work: Callable[[], object]) -> float:
    """Microseconds of processor time, the median of rounds."""
    taken = []
    for _ in range(_ROUNDS):
        started = time.thread_time_ns()
        for _ in range(_TIMES):
            work()
        taken.append((time.thread_time_ns() - started) / _TIMES / 1e3)
    return median(taken)
