"""Worker reports: from their bucket to the fleet at once, to Worker objects when something changed.

    report ──▶ fleet (same turn of the loop)
           └─▶ roll ──▶ Worker object, joined / lost event (grouped, fenced)

Always: an expired report is no news, only the silence on our own clock is; a report that was already there when we
began to follow is a sign of life only if it is no older than a report may be, or newer than what we heard before.
Called by `controlplane.messaging.messengers`; tells the fleet, the projection (who may be behind) and the store.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError

from controlplane import errors
from controlplane.messaging import rolls, streams
from controlplane.store.records import Record
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from schemas import events, names
from schemas.kits import buckets
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink
from schemas.kits.tasks import Tasks
from schemas.meta import Json
from schemas.reports import WorkerReport

logger = structlog.get_logger("controlplane.messaging.receiving")

KIND: Final = "Worker"
FRESH_SECONDS: Final = 3.5
"""A report of this age, on the server's clock, is as good as one that just came: workers report every three."""
_LOOK_SECONDS: Final = 1.0
"""How often the silent are looked for, and what workers serve is written; who came or went is written at once."""
_TROUBLE: Final = (LinkError, NatsError, OSError, buckets.GapError)


class Listener(Protocol):
    """Who wants to hear of workers at once: the reconciler's fleet."""

    def reported(self, report: WorkerReport) -> None:
        """A fresh report arrived."""
        ...

    def gone(self, worker_id: str, boot: str = "") -> None:
        """A worker left in good order; ``boot``, where it is known, tells which of a slot's processes."""
        ...


class Receiver:
    """Hears the workers; one at a time, the leader's."""

    def __init__(
        self,
        store: Store,
        link: NatsLink,
        clock: Clock,
        epoch: Callable[[], int],
        listener: Listener,
        applied: Callable[[tuple[int, int]], None],
    ) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._epoch = epoch
        self._listener = listener
        self._applied = applied
        self._backoff = Backoff(base=0.1, cap=2.0)
        self._roll = rolls.Roll()
        self._to_write = asyncio.Event()
        self._refused: dict[str, str] = {}

    async def run(self) -> None:
        """Hear, write and look for the silent until cancelled."""
        await self._remember()
        tasks = Tasks(self._clock)
        tasks.supervise(self._follow, "worker reports")
        tasks.supervise(self._write_for_ever, "worker objects")
        try:
            while True:
                await self._clock.sleep(_LOOK_SECONDS)
                self._roll.look(self._clock.monotonic())
                self._to_write.set()
        finally:
            await tasks.stop()

    def beat_returned(self) -> None:
        """Our own beat came back: from now on silence means something."""
        self._roll.beat(self._clock.monotonic())

    async def _remember(self) -> None:
        now = self._clock.monotonic()
        self._roll = rolls.Roll()
        for record in await self._store.read(lambda reading: reading.list(KIND)):
            self._roll.remember(record.name, _report_of(record), lost=_was_lost(record), now=now)

    async def _follow(self) -> None:
        """Follow the bucket, on every session and after every gap anew."""
        failures = 0
        while True:
            session = await self._link.session()
            try:
                asked_at = (await streams.ensure(session, streams.WORKERS)).asked_at
                async with contextlib.aclosing(buckets.follow(session, names.BUCKET_WORKERS)) as following:
                    live = False
                    async for entry in following:
                        failures = 0
                        if entry is None:
                            live = True
                        else:
                            self._take(entry, live=live or asked_at - entry.stored_at <= FRESH_SECONDS)
            except _TROUBLE as trouble:
                failures += 1
                logger.warning("worker reports interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))

    def _take(self, entry: buckets.Entry, *, live: bool) -> None:
        if entry.operation is buckets.Operation.DELETE and live:
            self._leave(entry.key)
        if entry.operation is not buckets.Operation.PUT:
            return
        report = self._read(entry)
        if report is None:
            return
        if report.store == self._store.id:
            self._applied((report.applied_epoch, report.applied_revision))
        if not live and not self._roll.is_news(report):
            return
        if report.leaving:
            self._leave(report.id, report.boot)
            return
        self._roll.heard(report, self._clock.monotonic())
        if self._roll.urgent:
            self._to_write.set()
        self._listener.reported(report)

    def _leave(self, worker: str, boot: str = "") -> None:
        if self._roll.left(worker, boot):
            self._to_write.set()
        self._listener.gone(worker, boot)

    def _read(self, entry: buckets.Entry) -> WorkerReport | None:
        try:
            report = WorkerReport.model_validate_json(entry.value)
            problem = "" if report.id == entry.key and names.is_dns_label(report.id) else "id and key differ"
        except ValidationError as error:
            report, problem = None, f"{error.error_count()} problems, first: {error.errors()[0]['msg']}"
        if problem and self._refused.get(entry.key) != problem:
            logger.warning("worker report refused", key=entry.key, problem=problem)
        self._refused[entry.key] = problem
        return None if problem else report

    async def _write_for_ever(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            wishes = self._roll.take()
            if not wishes:
                continue
            fresh = {wish.worker: str(uuid.uuid4()) for wish in wishes}
            try:
                await self._store.write(lambda tx: _fulfil(tx, wishes, fresh), epoch=self._epoch())  # noqa: B023
            except (errors.StoreBusy, errors.Fenced) as trouble:
                self._roll.give_back(wishes)
                logger.warning("workers not written yet", reason=str(trouble))
                await self._clock.sleep(1.0)
                self._to_write.set()


def _fulfil(tx: Transaction, wishes: list[rolls.Wish], fresh: dict[str, str]) -> None:
    """Bring Worker objects to what is wished; ``fresh`` holds the uid that a new object of each worker takes."""
    for wish in wishes:
        record = tx.get(KIND, wish.worker)
        if wish.gone:
            if record is not None:
                tx.remove(record)
        elif wish.report is None:
            if record is not None and not _was_lost(record):
                stored = tx.put(replace(record, status={**record.status, "lost": True}))
                _announce(tx, stored, "lost", _report_of(record))
        else:
            _store_report(tx, wish, wish.report, record, fresh[wish.worker])


def _store_report(tx: Transaction, wish: rolls.Wish, report: WorkerReport, record: Record | None, uid: str) -> None:
    status = wish.status()
    if record is None:
        if not wish.lost:
            made = Record(KIND, wish.worker, uid, 1, 0, tx.now, labels=dict(report.labels), status=status)
            _announce(tx, tx.put(made), "joined", report)
        return
    before = _report_of(record)
    stored = tx.put(replace(record, labels=dict(report.labels), status=status))
    if wish.lost:
        if not _was_lost(record):
            _announce(tx, stored, "lost", report)
    elif _was_lost(record) or before is None or before.boot != report.boot:
        _announce(tx, stored, "joined", report)


def _announce(tx: Transaction, record: Record, what: str, report: WorkerReport | None) -> None:
    data: Json = {"uid": record.uid, "revision": record.revision}
    if report is not None:
        data |= {"boot": report.boot, "address": report.address}
    event_id = f"{record.uid}-{what}-{record.revision}"
    tx.announce(events.worker_event(event_id, record.name, what, tx.now, data))


def _was_lost(record: Record) -> bool:
    return bool(record.status.get("lost"))


def _report_of(record: Record) -> WorkerReport | None:
    report = record.status.get("report")
    return None if report is None else WorkerReport.model_validate(report)
