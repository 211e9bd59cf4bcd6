"""Which flags, organisations, accesses and revocations every worker goes by: said in each object's status.

    commit ──▶ due ──▶ waiting (object, its row of the desired set) ──▶ judge against the fleet ──▶ status, grouped

Always: ``Applied`` is True only when every counted worker has reported the object's row of the desired set as applied;
it is judged once per generation and latches, so that an object at rest costs no write, whatever workers do.  A wait is
told only when it lasts.  Run by `controlplane.reconcile.looping`, which also says when workers moved.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from controlplane import errors
from controlplane.reconcile import judging
from controlplane.reconcile.fleet import Fleet, FleetView, Standing
from controlplane.store import telling
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, Change, DesiredRow, Record
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from schemas import conditions
from schemas.kits.clocks import Clock
from schemas.meta import Condition, ConditionStatus, Json
from schemas.module import WorkerCounts

logger = structlog.get_logger("controlplane.reconcile.confirming")

SLOW_SECONDS: Final = 1.0
"""How long workers may take before it is worth a status write that they are not done."""
_RETRY_SECONDS: Final = 1.0
_TOGETHER: Final = 200
"""Objects whose status goes into one transaction."""

Key = tuple[str, str]
"""(kind, name)."""
Judgement = tuple[ConditionStatus, str, str, WorkerCounts]
"""Status, reason and message of ``Applied``, and the numbers."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One object that the workers have not confirmed yet."""

    record: Record
    row: DesiredRow
    since: float
    """Monotonic."""
    told: str = ""
    """The message that its status has of this wait."""


def judge(view: FleetView, row: DesiredRow, store_id: str) -> Judgement:
    """What the fleet says of one row of the desired set."""
    applied, behind, refused, joining, lost = 0, [], [], 0, 0
    for worker, known in sorted(view.workers.items()):
        if known.standing is not Standing.COUNTED:
            joining, lost = joining + (known.standing is Standing.JOINING), lost + (known.standing is Standing.LOST)
        elif row.key in known.rejected:
            refused.append(f"{worker} ({known.rejected[row.key].message})")
        elif judging.covers(known.report, row, store_id):
            applied += 1
        else:
            behind.append(worker)
    of = applied + len(behind) + len(refused)
    counts = WorkerCounts(
        desired=of + joining + lost, applied=applied, rejected=len(refused), joining=joining, lost=lost
    )
    if not of:
        return ConditionStatus.UNKNOWN, judging.NO_WORKERS, "no worker counts now; start one", counts
    if refused:
        return ConditionStatus.FALSE, "Refused", f"refused by {', '.join(refused)}", counts
    if behind:
        words = f"applied on {applied} of {of} workers; waiting for {', '.join(behind)}"
        return ConditionStatus.UNKNOWN, "Applying", words, counts
    return ConditionStatus.TRUE, "Applied", f"applied on {applied} of {of} workers", counts


def is_due(document: Json) -> bool:
    """Whether an object's newest generation is not confirmed yet."""
    metadata, listed = document.get("metadata", {}), document.get("status", {}).get("conditions", ())
    found: Json = next((entry for entry in listed if entry.get("type") == conditions.APPLIED), {})
    confirmed = found.get("status") == "True" and found.get("observedGeneration") == metadata.get("generation")
    return not confirmed and "deletionTimestamp" not in metadata


class Confirmer:
    """Follows what is not confirmed; one at a time, the leader's."""

    def __init__(self, store: Store, clock: Clock, fleet: Fleet, epoch: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._fleet = fleet
        self._epoch = epoch
        self._due: set[Key] = set()
        self._waiting: dict[Key, Waiting] = {}
        self._wake = asyncio.Event()

    def heard(self, batch: Batch) -> None:
        """A commit: what of it has to be confirmed."""
        for change in batch.changes:
            if change.kind in telling.KINDS:
                self._hear(change)

    def _hear(self, change: Change) -> None:
        key, due = (change.kind, change.name), change.type != "DELETED" and is_due(change.document)
        known = self._waiting.get(key)
        generation = change.document.get("metadata", {}).get("generation")
        if due and known is not None and (known.record.uid, known.record.generation) == (change.uid, generation):
            return  # what we said ourselves, or a change of labels: the same row is waited for
        self._waiting.pop(key, None)
        self._due.discard(key)
        if due:
            self._due.add(key)
            self._wake.set()

    def moved(self) -> None:
        """A worker has applied more, came, went, or refuses something else."""
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Confirm until cancelled."""
        self._due = {
            (record.kind, record.name)
            for kind in telling.KINDS
            for record in await self._store.read(lambda reading, kind=kind: reading.list(kind))  # type: ignore[misc]
            if is_due(record.document())
        }
        while True:
            try:
                await self._turn()
            except errors.ModplaneError as error:
                logger.warning("confirmations not written", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            await self._rest()

    async def _rest(self) -> None:
        """Until something moved; at most for a moment while somebody waits."""
        if not (self._waiting or self._due):
            await self._wake.wait()
        elif not self._wake.is_set():
            woken = asyncio.ensure_future(self._wake.wait())
            late = asyncio.ensure_future(self._clock.sleep(SLOW_SECONDS))
            try:
                await asyncio.wait({woken, late}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
                late.cancel()
        self._wake.clear()

    async def _turn(self) -> None:
        await self._take()
        view, now = self._fleet.views(), self._clock.monotonic()
        news = []
        for key, waiting in self._waiting.items():
            status, reason, message, counts = judge(view, waiting.row, self._store.id)
            late = now - waiting.since >= SLOW_SECONDS and message != waiting.told
            if status is ConditionStatus.TRUE or late:
                news.append((key, waiting, (status, reason, message, counts)))
        for start in range(0, len(news), _TOGETHER):
            await self._write(news[start : start + _TOGETHER])

    async def _take(self) -> None:
        """Read what is due, and the rows of the desired set that workers have to apply for it."""
        due, self._due = self._due, set()
        if not due:
            return

        def query(reading: Reading) -> list[tuple[Record, DesiredRow | None]]:
            records = (reading.get(kind, name) for kind, name in sorted(due))
            return [(record, reading.desired_row(telling.key_of(record))) for record in records if record is not None]

        now = self._clock.monotonic()
        try:
            found = await self._store.read(query)
        except errors.ModplaneError:
            self._due |= due
            raise
        for record, row in found:
            if row is not None and is_due(record.document()):
                self._waiting[(record.kind, record.name)] = Waiting(record, row, now)

    async def _write(self, news: list[tuple[Key, Waiting, Judgement]]) -> None:
        """Say it in the objects' status; of one that somebody wrote meanwhile the commit tells anew."""

        def unit(tx: Transaction) -> list[Record | None]:
            return [_said(tx, waiting.record, judgement) for _, waiting, judgement in news]

        written = await self._store.write(unit, epoch=self._epoch())
        for (key, waiting, judgement), record in zip(news, written, strict=True):
            if self._waiting.get(key) is not waiting:
                continue
            if judgement[0] is ConditionStatus.TRUE or record is None:
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = replace(waiting, record=record, told=judgement[2])


def _said(tx: Transaction, known: Record, judgement: Judgement) -> Record | None:
    """The object with its status, None if it is another generation now, or gone."""
    record = tx.get(known.kind, known.name)
    if record is None or (record.uid, record.generation) != (known.uid, known.generation):
        return None
    return tx.put(replace(record, status=_status(record, judgement, tx.now)))


def _status(record: Record, judgement: Judgement, now: datetime) -> Json:
    status, reason, message, counts = judgement
    said = conditions.condition(conditions.APPLIED, status, reason, message, record.generation, now)
    known: Iterable[Condition] = map(Condition.model_validate, record.status.get("conditions", ()))
    return {
        **record.status,
        "observedGeneration": record.generation,
        "conditions": [entry.wire() for entry in conditions.put(list(known), said)],
        "workers": counts.wire(),
    }
