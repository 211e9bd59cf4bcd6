"""Retention: what is kept how long, and the sweep that lets the rest go; and that workers are told of what there is.

What always holds: a sweep is many short units, so that no write waits long behind it; a follower that needs what
was cut is told so (errors.Compacted); an event that NATS has not confirmed stays; a revocation goes when it says.
Run by the leader, from `controlplane.app`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import bindparam, delete, func, select, update

from controlplane import errors
from controlplane.store import encoding, stores, telling, tracking
from controlplane.store.readings import Reading
from controlplane.store.records import Record
from controlplane.store.tables import ACCESS_COUNTS, CHANGES, INSPECTIONS, META, OBJECTS, OUTBOX, ROW_EDITS, TRACE_STEPS
from controlplane.store.transactions import Transaction
from schemas.kits.clocks import Clock
from schemas.meta import now_text
from schemas.revocation import RevocationSpec

logger = structlog.get_logger("controlplane.store.keeping")

SLICE: Final = 500
"""How many rows one unit lets go."""

EVERY: Final = timedelta(minutes=10)
"""How often the sweep runs."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    changes: timedelta = timedelta(hours=24)
    """The watch log, but no more than `change_rows`."""
    change_rows: int = 100_000
    events: timedelta = timedelta(days=30)
    published: timedelta = timedelta(days=7)
    """Outbox rows after NATS has confirmed them."""
    edits: timedelta = timedelta(days=30)
    """Settled edits of mirror rows."""
    counts: timedelta = timedelta(days=90)
    """What a worker's boot has counted, after its last call; it might be told again until NATS forgets it."""
    inspections: timedelta = timedelta(days=30)
    """Inspection reports; one that is needed again is made again."""


KEPT: Final = Retention()

_AGED: Final = select(func.max(CHANGES.c.revision)).where(CHANGES.c.at < bindparam("before"))
_CUT: Final = delete(CHANGES).where(CHANGES.c.revision <= bindparam("floor"))
_COMPACTED: Final = update(META).values(compacted=bindparam("floor"))
_OLD_EVENTS: Final = (
    select(OBJECTS.c.name)
    .where(OBJECTS.c.kind == encoding.EVENT_KIND, OBJECTS.c.created_at < bindparam("before"))
    .limit(SLICE)
)
_AGED_ROWS: Final = {
    "published": (OUTBOX, OUTBOX.c.id, OUTBOX.c.published_at),
    "edits": (ROW_EDITS, ROW_EDITS.c.id, ROW_EDITS.c.settled_at),
    "inspections": (INSPECTIONS, INSPECTIONS.c.key, INSPECTIONS.c.at),
}
_BOOTS: Final = (
    select(ACCESS_COUNTS.c.boot)
    .group_by(ACCESS_COUNTS.c.boot)
    .having(func.max(ACCESS_COUNTS.c.at) < bindparam("before"))
    .limit(SLICE)
)
_FORGOTTEN: Final = delete(ACCESS_COUNTS).where(ACCESS_COUNTS.c.boot.in_(_BOOTS))
_DROPS: Final = {
    what: delete(table).where(key.in_(select(key).where(moment < bindparam("before")).limit(SLICE)))
    for what, (table, key, moment) in _AGED_ROWS.items()
}


class Keeper:
    """Sweeps one store for as long as it runs."""

    def __init__(
        self, store: stores.Store, clock: Clock, epoch: Callable[[], int] | None = None, kept: Retention = KEPT
    ) -> None:
        self._store = store
        self._clock = clock
        self._epoch = epoch
        self._kept = kept

    async def run(self) -> None:
        """Sweep now and then, until cancelled or fenced."""
        while True:
            try:
                swept = await self.sweep()
                if any(swept.values()):
                    logger.info("old rows let go", **swept)
            except errors.StoreBusy as error:
                logger.warning("the sweep has to wait", error=error.message)
            await self._clock.sleep(EVERY.total_seconds())

    async def sweep(self) -> dict[str, int]:
        """Let go of everything that is old enough; how much of what."""
        swept = {"changes": await self._repeat(self._cut_changes), "events": await self._repeat_events()}
        for what in _DROPS:
            swept[what] = await self._repeat(partial(self._drop, what))
        swept["steps"] = await self._store.write(_let_steps_go, epoch=self._epoch() if self._epoch else None)
        swept["counts"] = await self._repeat(self._forget_boots)
        swept["revocations"] = await self._over(self._expired, _let_go)
        swept["untold"] = await self._over(telling.untold, _retell)
        return swept

    async def _over(self, look: Callable[[Reading], list[Record]], act: Callable[..., int]) -> int:
        """Look once without holding up writers, then act on what was found, slice by slice."""
        found = await self._store.read(look)
        total = 0
        for start in range(0, len(found), SLICE):
            unit = partial(act, records=found[start : start + SLICE])
            total += await self._store.write(unit, epoch=self._epoch() if self._epoch else None)
        return total

    def _expired(self, reading: Reading) -> list[Record]:
        now = self._clock.now()
        return [
            record
            for record in reading.list("Revocation")
            if not record.finalizers
            and (expires := RevocationSpec.model_validate(record.spec).expires) is not None
            and expires <= now
        ]

    async def _repeat(self, unit: Callable[[Transaction], int]) -> int:
        total = 0
        while gone := await self._store.write(unit, epoch=self._epoch() if self._epoch else None):
            total += gone
        return total

    async def _repeat_events(self) -> int:
        total = 0
        while names := await self._store.read(self._old_events):

            def unit(tx: Transaction, names: list[str] = names) -> int:
                events = [event for name in names if (event := tx.get(encoding.EVENT_KIND, name)) is not None]
                for event in events:
                    tx.remove(event)
                return len(events)

            total += await self._store.write(unit, epoch=self._epoch() if self._epoch else None)
        return total

    def _old_events(self, reading: Reading) -> list[str]:
        before = now_text(self._clock.now() - self._kept.events)
        return [row[0] for row in reading.ask(_OLD_EVENTS, {"before": before})]

    def _cut_changes(self, tx: Transaction) -> int:
        aged = tx.ask(_AGED, {"before": now_text(tx.now - self._kept.changes)})[0][0] or 0
        floor = max(aged, tx.revision - self._kept.change_rows)
        floor = min(floor, tx.oldest_change() + SLICE)
        if floor <= tx.oldest_change():
            return 0
        cut = tx.ledger.run(CHANGES, _CUT, {"floor": floor})
        tx.ledger.run(META, _COMPACTED, {"floor": floor})
        return max(cut, 1)

    def _forget_boots(self, tx: Transaction) -> int:
        return tx.ledger.run(ACCESS_COUNTS, _FORGOTTEN, {"before": now_text(tx.now - self._kept.counts)})

    def _drop(self, what: str, tx: Transaction) -> int:
        before = now_text(tx.now - getattr(self._kept, what))
        return tx.ledger.run(_AGED_ROWS[what][0], _DROPS[what], {"before": before})


def _let_steps_go(tx: Transaction) -> int:
    return tx.ledger.run(TRACE_STEPS, tracking.SUPERSEDED)


def _let_go(tx: Transaction, records: list[Record]) -> int:
    standing = [record for record in records if tx.stands(record)]
    for record in standing:
        tx.remove(record)
    return len(standing)


def _retell(tx: Transaction, records: list[Record]) -> int:
    standing = [record for record in records if tx.stands(record)]
    for record in standing:
        tx.retell(record)
    return len(standing)
