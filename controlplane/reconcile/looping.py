"""The loop: eight workers take names from the queue; for each: load → decide → act.

    store changes, fleet, timers → wake → queue → load (one snapshot) → decide (pure) → act (one transaction)

Names that are due together are loaded from one snapshot; apart from that each goes its own way.
What always holds: the queue holds names, never events; one turn per module at a time, each under 30 s; an
exception costs that module a back-off and nobody else anything; every module is looked at again every 10 min
give or take 20 %, behind whatever people want; a change of this loop's own status does not wake the module.

Called by `controlplane.app` while this process leads.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import structlog

from controlplane import errors
from controlplane.reconcile import (
    acting,
    confirming,
    deciding,
    examining,
    fleet,
    forwarding,
    inquiring,
    loading,
    waking,
)
from controlplane.reconcile.facts import Action, Decision, Facts
from controlplane.reconcile.queueing import Priority, WorkQueue
from controlplane.store.records import Batch, DesiredRow, Record
from controlplane.store.stores import Store
from controlplane.telemetry import instruments
from controlplane.telemetry import tracing as spans
from schemas.kits import tracing
from schemas.kits.backoffs import Backoff, jittered
from schemas.kits.clocks import Clock
from schemas.module import DesiredModule, ModuleSpec, ModuleState

logger = structlog.get_logger("controlplane.reconcile.looping")

WORKERS = 8
"""How many snapshots of modules are worked on at a time."""
TOGETHER = 16
"""How many modules that are due share a snapshot at most: a thousand at once cost no thousand hops to a thread."""
TURN_TIMEOUT = 30.0
"""Seconds for one turn of one module."""
RESYNC_EVERY = 600.0
"""Seconds until a module at rest is looked at again, ± 20 %."""
RESYNC_SPREAD = 0.2
UNHEARD_FOR = 0.5
"""Seconds that the last of the workers is given before it is told that others have applied a generation already."""
RECOUNT_AFTER = 3.0
"""Seconds that the fleet has to be at rest until every module's numbers follow; a worker's restart moves them twice."""
_RESTLESS = 5
"""How many times that is waited at most."""
_CONFLICTS = 3
"""How often a turn begins anew at once, because somebody edited the object meanwhile, before it backs off."""


class Reconciler:
    """Keeps every module as declared, while this process leads."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        inspector: examining.Inspector,
        workers: fleet.Fleet,
        epoch: Callable[[], int],
        rng: Random | None = None,
        *,
        code_root: Path,
    ) -> None:
        self._store = store
        self._clock = clock
        self._fleet = workers
        self._epoch = epoch
        self._rng = rng or Random()  # noqa: S311 - spreads load, keeps no secret
        self.queue = WorkQueue(clock, Backoff(base=0.1, cap=60.0, source=self._rng))
        self._examiner = examining.Examiner(
            inspector, clock, Backoff(base=1.0, cap=60.0, source=self._rng), code_root, self._inspected
        )
        self._inquirer = inquiring.Inquirer(store, self._examiner, self.queue)
        self._confirmer = confirming.Confirmer(store, clock, workers, epoch)
        self._memory = waking.Memory()
        self._deleting: dict[str, tuple[str, float]] = {}
        self._stored: dict[str, tuple[int, float]] = {}
        """When the newest generation of a module was heard of that not every worker serves."""
        self._membership = asyncio.Event()
        self._sharing = asyncio.Lock()
        """One shared snapshot is read at a time: reading many modules must not take the interpreter from the API."""

    @property
    def known(self) -> int:
        """How many modules there are."""
        return len(self._memory.known)

    @property
    def unfinished(self) -> int:
        """How many of them wait for workers."""
        return len(self._memory.awaiting_fleet)

    def wake(self, name: str) -> None:
        """Have a look at the module ``name`` soon."""
        self.queue.add(name, Priority.WAKE)

    def forwarder(self) -> forwarding.Forwarder:
        """What brings a generation forward in the transaction that stores it, as things stand now."""
        loop, examiner, asked_in = asyncio.get_running_loop(), self._examiner, contextvars.copy_context()

        def inspect(record: Record, spec: ModuleSpec) -> None:
            loop.call_soon_threadsafe(examiner.start, record, spec, context=asked_in)

        return forwarding.Forwarder(examiner, self._fleet.views(), self._store.id, self._epoch(), inspect)

    def _inspected(self, name: str) -> None:
        """Somebody waits for what follows from an inspection: it goes before what only time asked for."""
        self.queue.add(name, Priority.EDIT)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        self._fleet.reset()
        unsubscribe = self._store.listen(self._heard)
        self._fleet.on_change = self._fleet_moved
        self._fleet.on_progress = self._fleet_progressed
        self._fleet.on_membership = self._membership_moved
        try:
            await self._begin()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fleet.watch())
                tasks.create_task(self._relist())
                tasks.create_task(self._recount())
                tasks.create_task(self._inquirer.run())
                tasks.create_task(self._confirmer.run())
                for _ in range(WORKERS):
                    tasks.create_task(self._work())
        finally:
            unsubscribe()
            await self._examiner.stop()

    async def _begin(self) -> None:
        """Queue every module: what is unfinished before what is at rest."""
        for record in await self._store.read(lambda reading: reading.list("Module")):
            self._memory.notice(waking.sighting_of_record(record))
            at_rest = waking.is_at_rest(record)
            self.queue.add(record.name, Priority.RESYNC if at_rest else Priority.WAKE)

    async def _relist(self) -> None:
        """The backstop for a change that was never heard: list everything now and then."""
        while True:
            await self._clock.sleep(jittered(RESYNC_EVERY, RESYNC_SPREAD, self._rng))
            try:
                records = await self._store.read(lambda reading: reading.list("Module"))
            except errors.ModplaneError as problem:
                logger.warning("modules not listed", error=str(problem))
                continue
            for record in records:
                if self._noticed(waking.sighting_of_record(record)):
                    self.queue.renew(record.name)
            for name in self._memory.known - {record.name for record in records}:
                self.queue.add(name, Priority.WAKE)

    def _heard(self, batch: Batch) -> None:
        """A commit: wake whom it concerns."""
        self._confirmer.heard(batch)
        last = {change.name: change for change in batch.changes if change.kind == "Module"}
        rows = {row.name: row for row in batch.desired if row.kind == "Module"}
        for name, row in rows.items():
            self._memory.told(name, (row.epoch, row.revision))
        fresh = []
        for change in batch.changes:
            if change.kind == "Module" and (change.type == "DELETED" or change is last[change.name]):
                sighting = waking.sighting_of_change(change)
                if self._noticed(sighting, rows.get(change.name)):
                    fresh.append((sighting, change.document.get("spec", {})))
        many = len(fresh) >= inquiring.MANY
        for sighting, spec in fresh:
            if many:
                self._inquirer.hear(sighting, spec)
            else:
                self.queue.renew(sighting.name)
        if self._memory.awaiting_claims:
            self._claimed([row for row in batch.desired if row.kind == "Module" and not row.deleted])

    def _claimed(self, rows: Iterable[DesiredRow]) -> None:
        """Routes were taken: who waits in their namespace may be refused more of its own now."""
        desired = [DesiredModule.model_validate_json(row.payload) for row in rows]
        places = {(each.api_version, each.namespace) for each in desired}
        self._wake_all(name for name, place in self._memory.awaiting_claims.items() if place in places)

    def _noticed(self, sighting: waking.Sighting, row: DesiredRow | None = None) -> bool:
        """Take in how a module stands; whether its generation is new, and nobody has begun anything for it.

        ``row``: what the same commit told the workers of it.
        """
        news, fresh = self._memory.notice(sighting), False
        if news.intent and not sighting.deleting:
            self._stored[sighting.name] = (sighting.generation, self._clock.monotonic())
        if news.gone:
            self.queue.forget(sighting.name)
            self._deleting.pop(sighting.name, None)
            self._stored.pop(sighting.name, None)
        elif news.intent and row is not None and sighting.registered and row.generation == sighting.generation:
            # It went forward in the commit that brought it: what is left is to hear from the workers.
            self._memory.awaiting_fleet[sighting.name] = (row.epoch, row.revision)
            self.queue.renew(sighting.name, UNHEARD_FOR)
        elif news.intent and sighting.deleting:
            self.queue.renew(sighting.name)
        elif news.intent and self._examiner.inspects(sighting):
            # Its code went to inspection from the commit that brought it: what is left is to hear of that.
            self.queue.renew(sighting.name, deciding.patience(self._examiner.ahead))
        elif news.intent:
            fresh = True
        elif news.touched:
            self.queue.add(sighting.name, Priority.WAKE)
        self._wake_all(news.dependents | news.touching)
        if news.gone:
            self._wake_all(self._memory.awaiting_claims)
        return fresh

    def _fleet_moved(self, names: frozenset[str] | None) -> None:
        self._confirmer.moved()
        for name in sorted(self._memory.awaiting_fleet if names is None else names & self._memory.known):
            # One of the workers is through with it, another one is not: of that it will tell.
            self.queue.add(name, Priority.WAKE, UNHEARD_FOR if self._fleet.still_loads(name) else 0.0)

    def _fleet_progressed(self, before: fleet.Order, after: fleet.Order, loading: frozenset[str]) -> None:
        self._confirmer.moved()
        for name, order in self._memory.reached(before, after):
            if name in loading:
                continue  # its worker has the document, not yet the module: the next report tells
            everybody = order is None or (self._fleet.have_all(order) and not self._fleet.still_loads(name))
            self.queue.add(name, Priority.WAKE, 0.0 if everybody else UNHEARD_FOR)

    def _membership_moved(self) -> None:
        self._confirmer.moved()
        self._wake_all(self._memory.awaiting_fleet)
        self._membership.set()

    async def _recount(self) -> None:
        """Workers came or went: once that is over, have every module that waits for nothing looked at."""
        while True:
            await self._membership.wait()
            for _ in range(_RESTLESS):
                self._membership.clear()
                await self._clock.sleep(RECOUNT_AFTER)
                if not self._membership.is_set():
                    break
            self._membership.clear()
            for name in sorted(self._memory.known - self._memory.awaiting_fleet.keys() - self._examiner.inspected):
                self.queue.add(name, Priority.RESYNC)

    def _wake_all(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self.queue.add(name, Priority.WAKE)

    async def _work(self) -> None:
        while True:
            names = [await self.queue.get()]
            names += self.queue.more(TOGETHER - 1)
            if len(names) == 1:
                await self._hold(names[0], self._load(names))
                continue
            loaded = asyncio.ensure_future(self._load_many(names))
            try:
                await asyncio.gather(*(self._hold(name, asyncio.shield(loaded)) for name in names))
            finally:
                loaded.cancel()

    async def _hold(self, name: str, loaded: Awaitable[loading.Loaded]) -> None:
        try:
            await self._turn(name, loaded)
        except asyncio.CancelledError:
            self.queue.add(name, Priority.EDIT)
            raise
        finally:
            self.queue.done(name)

    async def _turn(self, name: str, loaded: Awaitable[loading.Loaded]) -> None:
        """One turn; whatever goes wrong becomes a back-off of this module."""
        uid = self._memory.uid(name)
        try:
            with instruments.RECONCILE_SECONDS.time():
                async with asyncio.timeout(TURN_TIMEOUT):
                    decision = await self._reconcile(name, loaded)
        except (errors.ModplaneError, TimeoutError) as problem:
            error = str(problem) or f"no answer within {TURN_TIMEOUT:.0f} s"
            logger.warning("reconcile failed", error=error, **self._backed_off(name, uid))
            return
        except Exception:
            logger.exception("reconcile failed", **self._backed_off(name, uid))
            return
        self.queue.succeeded(name)
        if decision is None:
            instruments.GONE.inc()
        else:
            (instruments.DONE if decision.requeue_after is None else instruments.REQUEUED).inc()
            self.queue.add(name, Priority.RESYNC, jittered(RESYNC_EVERY, RESYNC_SPREAD, self._rng))
            if decision.requeue_after is not None:
                self.queue.add(name, Priority.WAKE, decision.requeue_after)

    def _backed_off(self, name: str, uid: str) -> dict[str, str | int | float]:
        instruments.FAILED.inc()
        wait = self.queue.failed(name, uid)
        return {"module": name, "failures": self.queue.failures(name), "retry_seconds": round(wait, 3)}

    async def _reconcile(self, name: str, loaded: Awaitable[loading.Loaded]) -> Decision | None:
        """Load, decide, act; anew when somebody edited the object meanwhile.  None: it is gone."""
        for attempt in range(_CONFLICTS):
            began = tracing.now()
            facts = (await (self._load([name]) if attempt else loaded))[name]
            if facts is None:
                self._memory.forget(name)
                return None
            if isinstance(facts, Exception):
                raise facts
            decision = deciding.decide(facts)
            try:
                with spans.within(facts.trace):
                    return await self._act(facts, decision, began)
            except errors.Conflict:
                if attempt == _CONFLICTS - 1:
                    raise
        return None

    async def _load_many(self, names: Sequence[str]) -> loading.Loaded:
        async with self._sharing:
            return await self._load(names)

    async def _load(self, names: Sequence[str]) -> loading.Loaded:
        now = self._clock.now()
        found = await self._store.read(lambda reading: loading.read_all(reading, names, now, self._examiner))
        fleet_now = self._fleet.views()
        return {
            name: replace(facts, fleet=fleet_now, store_id=self._store.id, deleting_for=self._deleting_for(facts))
            if isinstance(facts, Facts)
            else facts
            for name, facts in found.items()
        }

    def _deleting_for(self, facts: Facts) -> float:
        """Seconds since deletion was asked for: by our own clock, or by the wall's if we came later to it."""
        record = facts.record
        if record.deleted_at is None:
            return 0.0
        now = self._clock.monotonic()
        uid, since = self._deleting.setdefault(record.name, (record.uid, now))
        if uid != record.uid:
            uid, since = self._deleting[record.name] = (record.uid, now)
        seen_for = now - since
        by_wall = (facts.now - record.deleted_at).total_seconds()
        return max(seen_for, by_wall) if self._fleet.views().settled else seen_for

    async def _act(self, facts: Facts, decision: Decision, began: int) -> Decision:
        name = facts.record.name
        # Before the write: a worker's report on it may be quicker than the commit's way back to us.
        self._memory.await_for(name, decision, waking.UNWRITTEN if decision.action in acting.TELLING else None)
        row = facts.desired
        if acting.is_needed(facts, decision):
            labels = {"modplane.action": str(decision.action), "modplane.state": str(decision.status.state)}
            with spans.span("reconcile", module=name, attributes=labels, start=began):
                written = await self._store.write(lambda tx: acting.write(tx, facts, decision), epoch=self._epoch())
            decision, row = written.decision, written.row
            self._tell(facts, decision)
            if facts.examination.unsaved:
                self._examiner.kept(facts.examination)
            if decision.action in acting.RELEASING:
                self._wake_all(self._memory.awaiting_claims)
        self._memory.await_for(name, decision, None if row is None else (row.epoch, row.revision))
        if decision.action is Action.INSPECT and facts.spec is not None:
            self._examiner.start(facts.record, facts.spec)
        if decision.action is Action.RELEASE:
            self.wake(name)  # it said whom its routes touch while it held the others
        elif decision.touching is not None:
            self._wake_all(self._memory.touch(name, decision.touching))
        return decision

    def _tell(self, facts: Facts, decision: Decision) -> None:
        for step in decision.steps:
            if step.to is ModuleState.ACTIVE:
                self._arrived(facts.record.name, facts.record.generation)
            logger.info(
                "module moved",
                module=facts.record.name,
                generation=facts.record.generation,
                from_state=step.from_,
                to_state=step.to,
                reason=step.reason,
            )

    def _arrived(self, name: str, generation: int) -> None:
        """Every counted worker serves a generation: how long that took."""
        stored, since = self._stored.get(name, (0, 0.0))
        if stored == generation:
            del self._stored[name]
            instruments.PROPAGATION_SECONDS.observe(self._clock.monotonic() - since)
