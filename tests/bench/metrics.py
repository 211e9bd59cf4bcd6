"""What counting costs: a request, a worker's round of telling, and the control plane's round of merging.

In this process, by its CPU clock: 1,000 series per worker, all of them changed, 40 buckets each, four workers a round.
"""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from dataplane.agent import counting
from dataplane.gateway.counting import Accesses
from dataplane.telemetry import meters
from schemas.kits import sketches
from schemas.kits.clocks import SystemClock
from schemas.kits.storing import Storing
from tests.bench.tables import median, table

SERIES, WORKERS, ROUNDS, BUCKETS = 1_000, 4, 9, 40


class Counted:
    """What one worker counts."""

    def __init__(self) -> None:
        self.accesses = Accesses()
        self.book = meters.Book()
        owner = self.book.owner("analytics-core", "0b5f7c1e-3a52-4b4e-9f0e-6c8a3b1f2d10", "1.0.0")
        self.methods = [meters.Methods(owner, f"/dashboard/{number}/{{thing}}") for number in range(SERIES)]

    def counting(self) -> set[int]:
        """Every series."""
        return {meter.number for meter in self.book.live()}

    def call(self) -> None:
        """Once in each series, in some bucket."""
        for methods in self.methods:
            took = sketches.value(random.randrange(200, 200 + BUCKETS))
            methods["GET"].ended(1.0, 1.0 + took, meters.SUCCESS, 10, 100)


class Link:
    """Takes what is told."""

    generation = 1
    connected = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def call(self, body: Any, *, deadline: float) -> None:
        """A session that is there."""
        await body(self)

    @property
    def js(self) -> "Link":
        """Itself."""
        return self

    async def publish(self, subject: str, body: bytes, **_: Any) -> None:
        """Keep a message."""
        self.bodies.append(body)


def run(folder: Path) -> str:
    """The table."""
    request = _request()
    telling, merging, size = asyncio.run(_rounds(folder))
    rows = [
        ("count one request", f"{request * 1e6:.2f} µs", "< 3 µs"),
        (f"tell {SERIES} changed series", f"{telling * 1e3:.1f} ms a second", "< 10 ms"),
        (f"merge {SERIES} series of {WORKERS} workers", f"{merging * 1e3:.0f} ms a round", "< 100 ms"),
        ("one series on the wire", f"{size:.0f} bytes", ""),
    ]
    return table(f"Metrics: CPU time, medians of {ROUNDS} rounds", ("what", "taken", "budget"), rows)


def _request() -> float:
    """CPU seconds of what counting adds to a request: finding the meter, two looks at the clock, the additions."""
    methods, now = Counted().methods[0], time.monotonic
    methods["GET"].ended(1.0, 2.0, meters.SUCCESS)

    def once(times: int) -> None:
        for _ in range(times):
            began = now()
            meter = methods["GET"]
            meter.inside += 1
            meter.inside -= 1
            meter.ended(began, now(), meters.SUCCESS, 10, 100)

    return median([_cpu(lambda: once(20_000)) / 20_000 for _ in range(ROUNDS)])


def _cpu(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


async def _rounds(folder: Path) -> tuple[float, float, float]:
    from controlplane.telemetry import measurements

    clock, telling, merging, size = SystemClock(), list[float](), list[float](), 0.0
    kept = measurements.Measurements(folder / measurements.PATH, clock.now)
    workers = []
    for number in range(WORKERS):
        counted, link = Counted(), Link()
        for _ in range(3 * BUCKETS):
            counted.call()
        name = f"w{number}"
        storage = Storing(cast("Any", link), clock, lambda reason: None)
        teller = counting.Teller(cast("Any", link), clock, counted, storage, worker=name, boot="b", file=folder / name)
        workers.append((name, counted, link, teller))
    for _ in range(ROUNDS):
        for _, counted, link, teller in workers:
            counted.call()
            link.bodies.clear()
            before = time.process_time()
            await teller.tell()
            telling.append(time.process_time() - before)
        bodies = [(name, body) for name, _, link, _ in workers for body in link.bodies]
        size = sum(len(body) for _, body in bodies) / (SERIES * WORKERS)
        before = time.process_time()
        await kept.take(bodies)
        merging.append(time.process_time() - before)
    await kept.close()
    return median(telling), median(merging), size
