"""A whole platform in one virtual loop, whose every process can be killed between two awaits.

The reconciler, the leadership and the store's SQL are the real ones; people, the bucket, workers and the inspector
are simulated.
What the world checks while it runs: nobody sees a desired row that is not committed, per module the events are
without a gap, two modules never hold one route.  `World.converged` says whether all is as declared.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TypeVar

from controlplane import errors
from controlplane.reconcile import fleet, leadership, looping
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, DesiredRow, Record
from controlplane.store.transactions import Transaction
from schemas import conditions, names
from schemas.meta import ConditionStatus, Json
from schemas.module import DesiredModule, ModuleState, ModuleStatus
from schemas.reports import Ailing, HealthState, Pending, Rejected, Trial, WorkerReport, WorkerState
from tests.doubles.inlinestore import InlineStore, open_inline
from tests.doubles.inspectors import TableInspector
from tests.doubles.virtualloop import VirtualClock

T = TypeVar("T")


class ProcessStore:
    """The store as one process sees it: with latency, and not at all once the process is dead or cut off."""

    def __init__(self, store: InlineStore, rng: Random) -> None:
        self._store = store
        self._rng = rng
        self.dead = False
        self.cut_off = False
        self.id = store.id
        self.writes = 0
        """Commits of the reconciler: those that carry an epoch."""
        self.gate: Callable[[str], Awaitable[None]] | None = None
        """Awaited before and after each call: where tests hold a process.

        It is told ``read``, ``have``, ``write`` (fenced) or ``lease`` (not fenced), ``written``."""

    @property
    def revision(self) -> int:
        return self._store.revision

    async def read(self, query: Callable[[Reading], T]) -> T:
        await self._pass("read")
        found = await self._store.read(query)
        await self._pass("have")
        return found

    async def write(self, unit: Callable[[Transaction], T], *, epoch: int | None = None) -> T:
        await self._pass("lease" if epoch is None else "write")
        self.writes += epoch is not None
        result = await self._store.write(unit, epoch=epoch)
        await self._pass("written")
        return result

    def listen(self, callback: Callable[[Batch], None]) -> Callable[[], None]:
        def heard(batch: Batch) -> None:
            if not self.dead:
                callback(batch)

        return self._store.listen(heard)

    async def _pass(self, what: str) -> None:
        if self.gate is not None:
            await self.gate(what)
        await asyncio.sleep(self._rng.random() * 0.01)
        if self.dead:
            raise errors.StoreClosed
        if self.cut_off:
            raise errors.StoreBusy("cut off")


class ControlPlane:
    """One control-plane process: leadership, and under it the reconciler and a stand-in for messaging."""

    def __init__(self, world: "World", identity: str, skew: float = 0.0) -> None:
        self.world = world
        self.clock = VirtualClock(skew=skew)
        self.rng = Random(f"{world.seed}{identity}")
        self.store = ProcessStore(world.store, self.rng)
        self.fleet = fleet.Fleet(self.clock)
        self.leadership = leadership.Leadership(
            self.store,  # type: ignore[arg-type]  # the store as this process sees it
            self.clock,
            identity,
            WorldLock(world, identity),
            rng=self.rng,
        )
        self.reconciler: looping.Reconciler | None = None
        self._engines: list[asyncio.Task[None]] = []
        self._main: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._main = asyncio.create_task(self.leadership.run(self._gained, self._lost))

    @property
    def leads(self) -> bool:
        return not self.store.dead and self.leadership.leads

    def describe(self) -> str:
        """How this process stands, and which of its tasks have ended."""
        if self.store.dead:
            return f"{self.leadership._standing.identity} dead"
        ended = [
            f"{task.get_name()} ended: {'cancelled' if task.cancelled() else repr(task.exception())}"
            for task in (self._main, *self._engines)
            if task is not None and task.done()
        ]
        return ", ".join([repr(self.leadership._standing), *ended, *self._queued()])

    def _queued(self) -> list[str]:
        if self.reconciler is None:
            return []
        queue = self.reconciler.queue
        waiting = {name: (queue.retry_in(name), queue.failures(name)) for name in self.reconciler._memory.known}
        return [f"held {sorted(queue.held)}", f"due in (after failures) {waiting}"]

    def kill(self) -> None:
        """Die as by kill -9: from now on nothing of it has any effect."""
        self.store.dead = True
        self.world.locks.discard(self.leadership._standing.identity)
        for task in [*self._engines, self._main]:
            if task is not None:
                task.cancel()

    async def stop(self) -> None:
        """A clean shutdown."""
        await self._lost()
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)
        await self.leadership.release()
        self.store.dead = True

    async def _gained(self, epoch: int) -> None:
        self.reconciler = looping.Reconciler(
            self.store,  # type: ignore[arg-type]  # the store as this process sees it
            self.clock,
            self.world.inspector,
            self.fleet,
            lambda: self.leadership.epoch,
            self.rng,
            code_root=Path("/code"),
        )
        self._engines = [
            asyncio.create_task(self.reconciler.run(), name="reconcile"),
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._project(), name="project"),
        ]
        if self.store.dead:
            for task in self._engines:
                task.cancel()

    async def _lost(self) -> None:
        for task in self._engines:
            task.cancel()
        await asyncio.gather(*self._engines, return_exceptions=True)
        self._engines = []

    async def _beat(self) -> None:
        while True:
            if self.world.nats_up:
                self.fleet.beat_returned()
            await asyncio.sleep(2.0)

    async def _project(self) -> None:
        """Bring desired rows to the bucket, quickly after commits and from the table now and then."""
        moved = asyncio.Event()
        unsubscribe = self.store.listen(lambda batch: moved.set() if batch.desired else None)
        try:
            while True:
                moved.clear()
                for row in await self.store.read(lambda reading: reading.desired()):
                    if self.world.nats_up:
                        self.world.bucket_put(row)
                await asyncio.wait([asyncio.ensure_future(moved.wait())], timeout=5.0)
        finally:
            unsubscribe()


class WorldLock:
    """The leader lock: dies with its holder."""

    def __init__(self, world: "World", identity: str) -> None:
        self._world = world
        self._identity = identity

    async def acquire(self) -> bool:
        if not self._world.with_lock:
            return False
        if not self._world.locks:
            self._world.locks.add(self._identity)
        return self._identity in self._world.locks

    async def release(self) -> None:
        self._world.locks.discard(self._identity)


@dataclass
class SimWorker:
    """One worker: follows the bucket, serves, reports."""

    world: "World"
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    boot: str = "b0"
    synced: bool = True
    running: bool = True
    serving: dict[str, DesiredRow] = field(default_factory=dict)
    applied: dict[str, tuple[int, int]] = field(default_factory=dict)
    rejected: dict[str, Rejected] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    sequence: int = 0

    async def run(self) -> None:
        while True:
            if self.running:
                for key, row in list(self.world.bucket.items()):
                    if self.applied.get(key, (0, 0)) < (row.epoch, row.revision):
                        await asyncio.sleep(self.world.rng.random() * 0.02)
                        self._apply(key, self.world.bucket[key])
                        self.report()
                self.report()
            self.world.bucket_moved.clear()
            await asyncio.wait([asyncio.ensure_future(self.world.bucket_moved.wait())], timeout=3.0)

    def _apply(self, key: str, row: DesiredRow) -> None:
        self.applied[key] = (row.epoch, row.revision)
        self.rejected.pop(row.name, None)
        self.pending.pop(row.name, None)
        if row.deleted or not self._selected(row):
            self.serving.pop(row.name, None)
        elif DesiredModule.model_validate_json(row.payload).digest in self.world.unloadable:
            since = self.world.clock.now() if row.name in self.serving else None
            self.rejected[row.name] = Rejected(
                module=row.name,
                generation=row.generation,
                reason="ImportFailed",
                message="mod.py:3: no such name",
                serving_since=since,
            )
        elif row.name in self.world.pending:
            self.pending[row.name] = Pending(
                module=row.name, generation=row.generation, since=self.world.clock.now(), reason="StartFailed"
            )
        else:
            self.serving[row.name] = row

    def _selected(self, row: DesiredRow) -> bool:
        selector = DesiredModule.model_validate_json(row.payload).worker_selector
        return fleet.matches(selector, self.labels)

    def _ailing(self, row: DesiredRow) -> Ailing:
        return Ailing(
            module=row.name, generation=row.generation, state=HealthState.UNHEALTHY, reason="CheckFailed",
            message="no database", since=self.world.clock.now(),
        )  # fmt: skip

    def _trial(self, row: DesiredRow) -> Trial:
        calls, errors = self.world.calls[_digest(row)]
        return Trial(module=row.name, generation=row.generation, calls=calls, errors=errors)

    def report(self) -> None:
        if not (self.running and self.world.nats_up):
            return
        self.sequence += 1
        epoch, revision = max(self.applied.values(), default=(0, 0))
        if any(
            self.applied.get(key, (0, 0)) < (row.epoch, row.revision) <= (epoch, revision)
            for key, row in self.world.bucket.items()
        ):
            epoch, revision = 0, 0
        report = WorkerReport(
            id=self.id,
            boot=self.boot,
            labels=self.labels,
            store=self.world.store.id,
            applied_epoch=epoch,
            applied_revision=revision,
            state=WorkerState.SYNCED,
            synced=self.synced,
            pending=list(self.pending.values()),
            rejected=list(self.rejected.values()),
            ailing=[self._ailing(row) for row in self.serving.values() if _digest(row) in self.world.ill],
            trials=[self._trial(row) for row in self.serving.values() if _digest(row) in self.world.calls],
            sequence=self.sequence,
            started_at=self.world.clock.now(),
            reported_at=self.world.clock.now(),
        )
        self.world.heard(report)


def _digest(row: DesiredRow) -> str:
    return DesiredModule.model_validate_json(row.payload).digest


class World:
    """Everything, on the running virtual loop."""

    def __init__(self, folder: Path, seed: int = 0, *, inspection_seconds: float = 0.05) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.clock = VirtualClock()
        self.store = open_inline(folder, self.clock, f"{uuid.uuid4().hex}.db")
        self.inspector = TableInspector(inspection_seconds, seed)
        self.nats_up = True
        self.with_lock = True
        self.locks: set[str] = set()
        self.bucket: dict[str, DesiredRow] = {}
        self.bucket_moved = asyncio.Event()
        self.unloadable: set[str] = set()
        self.pending: set[str] = set()
        self.ill: set[str] = set()
        """Digests of code whose own check fails."""
        self.calls: dict[str, tuple[int, int]] = {}
        """By digest: how many calls each worker has handed on, and how many of them failed."""
        self.planes: list[ControlPlane] = []
        self.workers: list[SimWorker] = []
        self._tasks: list[asyncio.Task[None]] = []

    def plane(self, identity: str = "cp0", skew: float = 0.0) -> ControlPlane:
        """Start a control plane."""
        plane = ControlPlane(self, identity, skew)
        self.planes.append(plane)
        plane.start()
        return plane

    def worker(self, worker_id: str = "w0", **labels: str) -> SimWorker:
        """Start a worker."""
        worker = SimWorker(self, worker_id, labels)
        self.workers.append(worker)
        self._tasks.append(asyncio.create_task(worker.run()))
        return worker

    @property
    def leader(self) -> ControlPlane | None:
        return next((plane for plane in self.planes if plane.leads), None)

    @property
    def reconciler(self) -> looping.Reconciler:
        leader = self.leader
        assert leader is not None
        assert leader.reconciler is not None
        return leader.reconciler

    def heard(self, report: WorkerReport) -> None:
        """A report reaches whoever leads."""
        for plane in self.planes:
            if plane.leads:
                plane.fleet.reported(report)

    def bucket_put(self, row: DesiredRow) -> None:
        """A desired row reaches the bucket: it has to be committed, and never takes a key back."""
        held = self.bucket.get(row.key)
        if held is not None and (held.epoch, held.revision) >= (row.epoch, row.revision):
            return
        assert row.revision <= self.store._query(lambda reading: reading.revision)
        self.bucket[row.key] = row
        self.bucket_moved.set()

    async def apply(self, name: str, spec: Json, *, finalizers: Collection[str] = ()) -> Record:
        """What admission's write path does with a manifest."""

        def unit(tx: Transaction) -> Record:
            old = tx.get("Module", name)
            if old is not None and old.deleting:
                raise errors.Conflict("being deleted")
            if old is not None and old.spec == spec:
                return old
            new = replace(old, generation=old.generation + 1, spec=spec) if old is not None else Record(
                "Module", name, str(uuid.UUID(int=self.rng.getrandbits(128))), 1, 0, tx.now,
                finalizers=(names.FINALIZER, *finalizers), spec=spec,
            )  # fmt: skip
            status = ModuleStatus.model_validate(new.status)
            pending = conditions.condition(
                conditions.VALID, ConditionStatus.UNKNOWN, "Pending", "waiting", new.generation, tx.now
            )
            listed = conditions.drop(conditions.put(status.conditions, pending), conditions.STALLED)
            before = str(status.state) if old is not None else None
            status = status.model_copy(update={"conditions": listed, "state": ModuleState.DISCOVERED})
            stored = tx.put(replace(new, status=status.wire()), manager="test")
            tx.transition(stored, "DISCOVERED", "Pending", "", from_=before)
            return stored

        return await self.store.write(unit)

    async def delete(self, name: str) -> None:
        """Ask for deletion."""

        def unit(tx: Transaction) -> None:
            record = tx.get("Module", name)
            if record is not None and not record.deleting:
                tx.put(replace(record, deleted_at=tx.now))

        await self.store.write(unit)

    async def edit(self, name: str, change: Callable[[Record], Record]) -> Record:
        """Change an object as somebody other than admission."""

        def unit(tx: Transaction) -> Record:
            record = tx.get("Module", name)
            assert record is not None
            return tx.put(change(record))

        return await self.store.write(unit)

    def get(self, name: str) -> Record | None:
        return self.store._query(lambda reading: reading.get("Module", name))

    def status(self, name: str) -> ModuleStatus:
        record = self.get(name)
        assert record is not None, f"{name} does not exist"
        return ModuleStatus.model_validate(record.status)

    def state(self, name: str) -> str:
        record = self.get(name)
        return "gone" if record is None else str(self.status(name).state)

    def reason(self, name: str, kind: str) -> str:
        found = conditions.get(self.status(name).conditions, kind)
        return "" if found is None else f"{found.status}:{found.reason}"

    def message(self, name: str, kind: str) -> str:
        found = conditions.get(self.status(name).conditions, kind)
        return "" if found is None else found.message

    def events(self, name: str) -> list[Json]:
        return [record.spec for record in self.store._query(lambda reading: reading.events_of(name, 1000))]

    def walked(self, name: str, uid: str | None = None) -> list[str]:
        """The states that a module's events tell."""
        return [event["to"] for event in self.events(name) if uid in (None, event["uid"])]

    async def until(self, what: Callable[[], bool], seconds: float = 120.0) -> None:
        """Let virtual time pass until something holds."""
        deadline = self.clock.monotonic() + seconds
        while not what():
            if self.clock.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} virtual seconds: {self.describe()}")
            await asyncio.sleep(0.05)

    async def until_state(self, name: str, state: str, seconds: float = 120.0) -> None:
        record = self.get(name)
        generation = record.generation if record else 0
        await self.until(
            lambda: self.state(name) == state and (state == "gone" or self._observed(name) >= generation), seconds
        )

    def _observed(self, name: str) -> int:
        return self.status(name).observed_generation

    def converged(self) -> bool:
        """Whether every module is at rest and workers serve exactly what is declared."""
        records = self.store._query(lambda reading: reading.list("Module"))
        wanted = {}
        for record in records:
            status = ModuleStatus.model_validate(record.status)
            if record.deleting or status.state != "ACTIVE" or status.observed_generation != record.generation:
                return False
            wanted[record.name] = (record.uid, record.generation)
        return all(
            {name: (row.uid, row.generation) for name, row in worker.serving.items()} == wanted
            for worker in self.workers
            if worker.running
        )

    def check(self) -> None:
        """What must hold at any time: events without a gap, one holder per route, no claim of the dead."""

        def query(reading: Reading) -> tuple[list[Record], list[tuple[str, ...]], set[str], set[str]]:
            claims = reading.claims()
            return (
                reading.list("ModuleEvent"),
                [(claim.api_version, claim.namespace, claim.method, claim.shape) for claim in claims],
                {claim.uid for claim in claims},
                {record.uid for record in reading.list("Module")},
            )

        events, claims, holders, living = self.store._query(query)
        by_uid: dict[str, list[int]] = {}
        for event in sorted(events, key=lambda record: record.revision):
            by_uid.setdefault(event.spec["uid"], []).append(event.spec["sequence"])
        for uid, sequences in by_uid.items():
            assert sequences == list(range(1, len(sequences) + 1)), f"events of {uid}: {sequences}"
        assert len(claims) == len(set(claims))
        assert holders <= living

    def describe(self) -> str:
        records = self.store._query(lambda reading: reading.list("Module"))
        return (
            "; ".join(
                f"{record.name} g{record.generation} {record.status.get('state')} "
                + ", ".join(
                    f"{entry['type']}={entry['status']}:{entry['reason']}"
                    for entry in record.status.get("conditions", [])
                )
                for record in records
            )
            + f"; serving {[{n: r.generation for n, r in worker.serving.items()} for worker in self.workers]}"
            + f"; locks {sorted(self.locks)}; planes {[plane.describe() for plane in self.planes]}"
        )

    async def close(self) -> None:
        for plane in self.planes:
            if not plane.store.dead:
                plane.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.check()
        self.store.shut()
