"""The desired rows of the database, projected into the bucket that workers follow.

    commit ──listen──▶ waiting rows ──▶ documents (pipelined, compare-and-swap) ──acknowledged, 15 ms──▶ head

Always: the database is the truth and the bucket is rebuilt from it; a head is written only after every document that
it covers is acknowledged; no write is tried twice blindly (whatever fails or stays unanswered leads to reading bucket
and database again); only strangers and old tombstones are ever removed.  The hot path asks the database nothing: it
is read at the start of a session, after a doubt, and in an audit every half minute.
Called by `controlplane.messaging.messengers`; goes to NATS, and to `beating`, which tells the head to everybody.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Final

import structlog
from nats.errors import Error as NatsError

from controlplane import errors
from controlplane.messaging import comparing, streams
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, DesiredHead, DesiredRow
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from controlplane.telemetry import tracing
from schemas import documents, names
from schemas.kits import buckets, tracecontext
from schemas.kits.backoffs import Backoff, jittered
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session
from schemas.kits.storing import Storing
from schemas.kits.tracecontext import Traceparent
from schemas.kits.tracing import Kind

logger = structlog.get_logger("controlplane.messaging.projecting")

AUDIT_SECONDS: Final = 30.0
"""How often bucket and database are compared in full, give or take a fifth."""
HEAD_SECONDS: Final = 0.015
"""How long a head may stay behind its first document: workers take the document in meanwhile, also one that brings code
to be built, undisturbed by the proof, and one proof serves many documents."""
TOMBSTONE_SECONDS: Final = 600.0
"""How long a tombstone stays; a worker that was away for longer learns of it from a verified snapshot."""
_PIPELINE: Final = 64
_TROUBLE: Final = (
    LinkError,
    NatsError,
    OSError,
    buckets.GapError,
    buckets.WrongSequenceError,
    errors.StoreBusy,
    errors.Fenced,
)


class Projection:
    """Keeps the bucket equal to the desired rows; one at a time, the leader's."""

    def __init__(
        self,
        store: Store,
        link: NatsLink,
        clock: Clock,
        epoch: Callable[[], int],
        scribe: comparing.Scribe,
        storage: Storing,
        rng: Random | None = None,
    ) -> None:
        self.head: documents.Head | None = None
        """The head that stands acknowledged in the bucket; None until the first was written."""
        self.created = ""
        """Which bucket it is (its birth, as the server tells it)."""
        self.sequence = 0
        """The newest sequence in the bucket that we know of."""
        self.writes = 0
        """Moves with every write to the bucket; a comparison with the server holds only while it stands still."""
        self.resyncs = 0
        self._store = store
        self._link = link
        self._clock = clock
        self._epoch = epoch
        self._scribe = scribe
        self._storage = storage
        self._rng = rng or Random()  # noqa: S311 - spreads load, keeps no secret
        self._backoff = Backoff(base=0.1, cap=2.0, source=self._rng)
        self._set = comparing.DesiredSet((), DesiredHead(0, 0, 0, documents.hash_text(0)))
        self._sequences: dict[str, int] = {}
        self._waiting: dict[str, DesiredRow] = {}
        self._buried: dict[str, tuple[int, float]] = {}
        self._doubt = ""
        self._ahead: comparing.Order | None = None
        self._wake = asyncio.Event()
        self._busy = True

    async def run(self) -> None:
        """Project until cancelled."""
        stop_listening = self._store.listen(self._on_batch)
        failures = 0
        try:
            while True:
                session = await self._link.session()
                try:
                    await self._resync(session)
                    failures = 0
                    await self._follow_commits(session)
                except _TROUBLE as trouble:
                    failures += 1
                    logger.warning("projection interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                    await self._clock.sleep(self._backoff.delay(failures))
        finally:
            stop_listening()
            self.head = None

    @property
    def newest(self) -> comparing.Order:
        """The newest order that the database is known to hold."""
        return max([self._set.order, *map(comparing.order_of, self._waiting.values())])

    def doubt(self, reason: str) -> None:
        """Have bucket and database compared at once."""
        self._doubt = self._doubt or reason
        self._wake.set()

    def check(self, found: buckets.BucketInfo | None) -> None:
        """Compare what the server says of the bucket with what we wrote; a difference is a doubt."""
        if self._busy or self._waiting:
            return
        if found is None:
            self.doubt("the bucket is gone")
        elif found.created != self.created:
            self.doubt("the bucket is another one")
        elif (found.sequence, found.messages) != (self.sequence, len(self._sequences)):
            self.doubt("somebody else wrote or removed keys")

    def seen(self, order: comparing.Order) -> None:
        """A worker of our store has applied this order; if the database is behind it, everything is written anew."""
        if self.head is not None and order > self.newest:
            self._ahead = max(order, self._ahead or order)
            self.doubt("a worker is ahead of the database")

    def _on_batch(self, batch: Batch) -> None:
        for row in batch.desired:
            old = self._waiting.get(row.key)
            if old is None or comparing.order_of(row) > comparing.order_of(old):
                self._waiting[row.key] = row
        if batch.desired:
            self._wake.set()

    async def _follow_commits(self, session: Session) -> None:
        """Write what commits bring, until the session ends, a doubt comes, or the audit is due."""
        audit = self._timer(jittered(AUDIT_SECONDS, 0.2, self._rng))
        session.ended.add_done_callback(self._rouse)
        proof: asyncio.Future[None] | None = None
        unproven: list[DesiredRow] = []
        try:
            while not self._doubt and not session.ended.done() and not audit.done():
                self._wake.clear()
                unproven += await self._write_waiting(session)
                if proof is None and unproven:
                    proof = self._timer(HEAD_SECONDS)
                if proof is not None and proof.done():
                    await self._write_head(session, _traces_of(unproven))
                    proof, unproven, self._busy = None, [], False
                elif not self._waiting:
                    await self._wake.wait()
        finally:
            session.ended.remove_done_callback(self._rouse)
            audit.cancel()
            if proof is not None:
                proof.cancel()
        if self._doubt:
            logger.warning("desired bucket doubted", reason=self._doubt)

    def _timer(self, seconds: float) -> "asyncio.Future[None]":
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        timer.add_done_callback(self._rouse)
        return timer

    def _rouse(self, _: "asyncio.Future[None]") -> None:
        self._wake.set()

    async def _write_waiting(self, session: Session) -> list[DesiredRow]:
        """Write the documents of what waits; those that were, of which the head does not say anything yet."""
        rows, self._waiting = self._waiting, {}
        fresh = [row for row in rows.values() if self._set.apply(row)]
        if fresh:
            self._busy = True
            await self._write_rows(session, fresh)
        return fresh

    async def _resync(self, session: Session) -> None:
        """Read bucket and database, and bring the first to the second."""
        self._busy, self._doubt, self.resyncs = True, "", self.resyncs + 1
        found = await streams.ensure(session, streams.DESIRED)
        entries = await buckets.read(session, names.BUCKET_DESIRED)
        await self._load()
        difference = comparing.compare(self._set, entries, self._store.id, self._scribe)
        ahead = max(filter(None, (difference.ahead, self._ahead)), default=None)
        if ahead is not None:
            await self._raise_epoch(ahead)
            await self._load()
            difference = comparing.compare(self._set, entries, self._store.id, self._scribe)
        self._ahead = None
        self.created = found.created
        self.sequence = max([found.sequence, *(entry.sequence for entry in entries.values())])
        self._sequences = {key: entry.sequence for key, entry in entries.items()}
        if difference.foreign:
            # Workers of that store must know before they see a document of ours.
            logger.warning("desired bucket is of another store, taking it over", store=self._store.id)
            await self._write_head(session)
        await self._write_rows(session, difference.wrong)
        if difference.wrong or comparing.head_in(entries) != self._head():
            await self._write_head(session, _traces_of(difference.wrong))
        self.head = self._head()
        await self._purge(session, difference.strangers)
        await self._bury(session)
        self._busy = False
        if difference.wrong or difference.strangers:
            logger.info("desired bucket set right", written=len(difference.wrong), removed=len(difference.strangers))

    async def _load(self) -> None:
        """Take the database's rows for the set; what waits and is among them is dropped by `DesiredSet.apply`."""

        def query(reading: Reading) -> tuple[list[DesiredRow], DesiredHead]:
            return reading.desired(), reading.head()

        self._set = comparing.DesiredSet(*await self._store.read(query))

    async def _raise_epoch(self, ahead: comparing.Order) -> None:
        """The bucket or a worker knows more than the database: lead under an epoch beyond, and write all under it."""

        def unit(tx: Transaction) -> tuple[int, int]:
            lease = tx.lease()
            assert lease is not None
            raised = max(lease.epoch, ahead[0]) + 1
            tx.put_lease(replace(lease, epoch=raised))
            return raised, len(tx.rewrite_desired())

        epoch, count = await self._store.write(unit, epoch=self._epoch())
        logger.error("database is behind what was seen, epoch raised", seen=ahead, epoch=epoch, rewritten=count)

    async def _write_rows(self, session: Session, rows: Iterable[DesiredRow]) -> None:
        """Write documents, some at a time; the first failure is raised once all have ended."""
        rows = list(rows)
        if len(rows) == 1:
            await self._put_row(session, rows[0])
            return
        slots = asyncio.Semaphore(_PIPELINE)

        async def write(row: DesiredRow) -> None:
            async with slots:
                await self._put_row(session, row)

        for result in await asyncio.gather(*map(write, rows), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _put_row(self, session: Session, row: DesiredRow) -> None:
        """Write a document, with its trace in the message's headers: signature and digest know nothing of it."""
        module = row.name if row.kind == "Module" else ""
        parent = tracecontext.read_traceparent(row.traceparent)
        with tracing.span("publish desired state", parent=parent, module=module, kind=Kind.PRODUCER) as at:
            headers = None if at is None else {"traceparent": str(at)}
            await self._put(session, row.key, self._scribe.document(row), headers)

    async def _write_head(self, session: Session, traces: tuple[Traceparent, ...] = ()) -> None:
        """Write the head; its span belongs to the first of the traces that it serves, and links to the others."""
        head = self._head()
        document = head.model_dump_json(by_alias=True, exclude_none=True).encode()
        with tracing.span("publish head", parent=traces[0] if traces else None, kind=Kind.PRODUCER, links=traces[1:]):
            await self._put(session, names.KEY_HEAD, document)
        self.head = head

    def _head(self) -> documents.Head:
        return self._scribe.head(self._set.head(self._store.id))

    async def _put(self, session: Session, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.writes += 1
        last = self._sequences.get(key, 0)
        with self._storage.write(names.BUCKET_DESIRED):
            sequence = await buckets.put(session, names.BUCKET_DESIRED, key, value, last=last, headers=headers)
        self.writes += 1
        self._sequences[key] = sequence
        self.sequence = max(self.sequence, sequence)

    async def _purge(self, session: Session, strangers: dict[str, int]) -> None:
        for key, sequence in strangers.items():
            self.writes += 1
            await buckets.purge(session, names.BUCKET_DESIRED, key, through=sequence)
            self.writes += 1
            self._sequences.pop(key, None)

    async def _bury(self, session: Session) -> None:
        """Remove tombstones that stood long enough: first in the database, then in the bucket."""
        now = self._clock.monotonic()
        self._buried = {
            key: kept if (kept := self._buried.get(key)) and kept[0] == row.revision else (row.revision, now)
            for key, row in self._set.rows.items()
            if row.deleted
        }
        old = {key: revision for key, (revision, since) in self._buried.items() if now - since >= TOMBSTONE_SECONDS}
        if not old:
            return

        def unit(tx: Transaction) -> list[str]:
            rows = ((key, tx.desired_row(key)) for key in old)
            same = [key for key, row in rows if row is not None and row.deleted and row.revision == old[key]]
            tx.forget_desired(same)
            return same

        gone = await self._store.write(unit, epoch=self._epoch())
        for key in gone:
            self._set.forget(key)
            self._scribe.forget(key)
        await self._purge(session, {key: self._sequences[key] for key in gone if key in self._sequences})


def _traces_of(rows: Iterable[DesiredRow]) -> tuple[Traceparent, ...]:
    """The traces that brought these rows, each once."""
    found = {at.trace_id: at for row in rows if (at := tracecontext.read_traceparent(row.traceparent)) is not None}
    return tuple(found.values())
