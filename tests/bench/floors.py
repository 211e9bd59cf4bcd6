"""What nothing built from these parts can be quicker than, on this machine at this moment: beside it figures compare.

One durable commit of SQLite, one message from a JetStream bucket's writer to its watcher, and ten plain routes made by
FastAPI.  Taken in the same round as what they stand beside, since shared machines are quick and slow by turns.
"""

import asyncio
import contextlib
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
from fastapi import APIRouter

from schemas.kits import natsserver
from tests.bench.tables import median
from tests.doubles.platform import wait_for

_TIMES = 15


@dataclass(frozen=True, slots=True)
class Floors:
    """Milliseconds, each a median."""

    commit: float
    message: float
    routes: float

    @property
    def total(self) -> float:
        """Of all three: the least that a change can take until it serves."""
        return self.commit + self.message + self.routes


def measure(folder: Path, nats_url: str) -> Floors:
    """The floors of this moment; ``folder`` lies on the disk that counts."""
    return Floors(_commit(folder), asyncio.run(_message(nats_url)), _times(_routes))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A NATS server as `modplane up` runs it, for these measurements; its address."""
    command = natsserver.command(folder, 0)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield wait_for(lambda: natsserver.read_url(folder, process.pid))
    finally:
        process.kill()
        process.wait()


def _times(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1e3)
    return median(taken)


def _commit(folder: Path) -> float:
    with contextlib.closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE IF NOT EXISTS floor (document TEXT)")
        return _times(lambda: database.execute("INSERT INTO floor VALUES (?)", ("x" * 1000,)))


async def _message(url: str) -> float:
    client = await nats.connect(url)
    try:
        bucket = await client.jetstream().create_key_value(bucket="FLOOR")
        watcher = await bucket.watch("key")
        await watcher.updates()  # type: ignore[no-untyped-call]
        taken = []
        for _ in range(_TIMES):
            started = time.perf_counter()
            put = asyncio.ensure_future(bucket.put("key", b"x" * 1000))
            await watcher.updates()  # type: ignore[no-untyped-call]
            taken.append((time.perf_counter() - started) * 1e3)
            await put
        await client.jetstream().delete_key_value("FLOOR")
        return median(taken)
    finally:
        await client.close()


def _routes() -> None:
    router = APIRouter()
    for number in range(10):

        async def route():  # type: ignore[no-untyped-def]  # plain: nothing for pydantic to do
            return {"say": "hello"}

        router.add_api_route(f"/r{number}", route)
