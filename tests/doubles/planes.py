"""A leading control plane without doors: the real store, write path, leadership and loop, and one instant worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from controlplane import writing
from controlplane.reconcile import fleet, leadership, locks, looping
from controlplane.store import stores
from schemas.kits.clocks import SystemClock
from schemas.meta import Json
from schemas.reports import WorkerReport
from tests.doubles.inspectors import TableInspector, digest
from tests.doubles.polling import until


def manifest(name: str, number: int = 1, **spec: object) -> Json:
    return {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": name},
        "spec": {"entryPoint": "mod:Module", "source": {"path": "mod", "digest": digest(number)}, **spec},
    }


class Plane:
    """A leading reconciler over a store, and one worker that applies everything at once."""

    def __init__(self, store: stores.Store, database: str) -> None:
        self.store = store
        clock = SystemClock()
        self.clock = clock
        self.fleet = fleet.Fleet(clock)
        self.leadership = leadership.Leadership(store, clock, "test", locks.beside(database))
        self.writer = writing.Writer(store, clock, None)
        self.inspector = TableInspector(0.001)
        self.reconciler = looping.Reconciler(
            store,
            clock,
            self.inspector,
            self.fleet,
            lambda: self.leadership.epoch,
            code_root=Path("/code"),
        )
        self.writer.forward = self.reconciler.forwarder
        self.sequence = 0
        self.started = datetime.now(UTC)
        self.tasks: list[asyncio.Task[None]] = []

    async def gained(self, epoch: int) -> None:
        self.tasks.append(asyncio.create_task(self.reconciler.run()))
        self.tasks.append(asyncio.create_task(self._work()))

    async def lost(self) -> None:
        return

    async def _work(self) -> None:
        moved = asyncio.Event()
        self.store.listen(lambda batch: moved.set() if batch.desired else None)
        while True:
            moved.clear()
            self.fleet.beat_returned()
            self.sequence += 1
            head = await self.store.read(lambda reading: reading.head())
            self.fleet.reported(
                WorkerReport(
                    id="w0",
                    boot="b0",
                    synced=True,
                    store=self.store.id,
                    applied_epoch=head.epoch,
                    applied_revision=head.revision,
                    sequence=self.sequence,
                    started_at=self.started,
                    reported_at=self.started,
                )
            )
            try:
                await asyncio.wait_for(moved.wait(), 1.0)
            except TimeoutError:
                continue

    async def state(self, name: str) -> str:
        record = await self.store.read(lambda reading: reading.get("Module", name))
        return "gone" if record is None else str(record.status.get("state"))


@asynccontextmanager
async def leading(database_url: str) -> AsyncIterator[Plane]:
    """A plane that leads, over the database at ``database_url``."""
    store = await stores.open_store(database_url, clock=SystemClock())
    running = Plane(store, database_url)
    running.tasks.append(asyncio.create_task(running.leadership.run(running.gained, running.lost)))
    await until(lambda: running.leadership.leads)
    try:
        yield running
    finally:
        for task in running.tasks:
            task.cancel()
        await asyncio.gather(*running.tasks, return_exceptions=True)
        await running.leadership.release()
        await store.close()
