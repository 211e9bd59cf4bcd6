"""The outbox, relayed to the events stream: each event at least once, in order per key, none lost.

    commit ──listen──▶ lane of its key (one in flight) ──acknowledged──▶ marks (grouped) ──▶ database

Always: an event leaves its lane only when JetStream has acknowledged it; its id is the message id, so the server and
every reader can drop a repeat.  What the memory does not hold is read from the database: at the start, after the
memory was full, and in an audit every half minute.  A stream that was lost is made anew and gets every event again
that the outbox still keeps (seven days, like the stream itself): an auditor gives back what the stream no longer has.
Called by `controlplane.messaging.messengers`; goes to NATS.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

import orjson
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from sqlalchemy import bindparam, select

from controlplane import errors
from controlplane.messaging import streams
from controlplane.store import encoding
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, OutboxRow
from controlplane.store.stores import Store
from controlplane.store.tables import OUTBOX
from controlplane.telemetry import instruments, tracing
from schemas import names
from schemas.kits import buckets, tracecontext
from schemas.kits.backoffs import Backoff, jittered
from schemas.kits.clocks import Clock
from schemas.kits.natslink import CALL_SECONDS, LinkError, NatsLink, Session, during
from schemas.kits.storing import Storing
from schemas.kits.tasks import Tasks
from schemas.kits.tracing import Kind

logger = structlog.get_logger("controlplane.messaging.outbox")

AUDIT_SECONDS: Final = 30.0
"""How often the database is asked for events that nobody relayed, give or take a fifth."""
PAGE: Final = 1000
"""How many events are read at a time."""
HELD: Final = 10_000
"""How many events are kept in memory; beyond it they wait in the database only."""
ALARM_SHARE: Final = 0.7
"""From this share of the stream's room on an alarm is logged."""
_IN_FLIGHT: Final = 64
_AFTER_SECONDS: Final = 0.02
"""How long an event lets the desired state of its commit go first: workers wait for that, and build what it brings."""
_MARK_SECONDS: Final = 1.0
"""How long acknowledgements are gathered before they are written: after a crash the server drops the repeats."""
_TROUBLE: Final = (LinkError, NatsError, OSError, buckets.GapError, errors.StoreBusy, errors.Fenced)

_KEPT: Final = (
    select(*encoding.OUTBOX_COLUMNS)
    .where(OUTBOX.c.id > bindparam("after"))
    .order_by(OUTBOX.c.id)
    .limit(bindparam("limit"))
)
_NEWEST_PUBLISHED: Final = (
    select(*encoding.OUTBOX_COLUMNS).where(OUTBOX.c.published_at.is_not(None)).order_by(OUTBOX.c.id.desc()).limit(1)
)


class Relay:
    """Publishes what the outbox holds; one at a time, the leader's."""

    def __init__(
        self,
        store: Store,
        link: NatsLink,
        clock: Clock,
        epoch: Callable[[], int],
        storage: Storing,
        rng: Random | None = None,
    ) -> None:
        self.published = 0
        """How many acknowledgements came."""
        self._store = store
        self._link = link
        self._clock = clock
        self._epoch = epoch
        self._storage = storage
        self._rng = rng or Random()  # noqa: S311 - spreads load, keeps no secret
        self._backoff = Backoff(base=0.1, cap=2.0, source=self._rng)
        self._lanes: dict[str, deque[OutboxRow]] = {}
        self._held: set[int] = set()
        self._acknowledged: list[int] = []
        self._arrivals: list[OutboxRow] | None = None
        self._live = False
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._tasks = Tasks(clock)
        self._marking = asyncio.Lock()
        self._turn = asyncio.Event()
        self._to_mark = asyncio.Event()
        self._wake = asyncio.Event()
        self._doubt = ""
        self._again = False
        self._known: buckets.BucketInfo | None = None

    @property
    def pending(self) -> int:
        """How many events are held for NATS."""
        return len(self._held)

    async def run(self) -> None:
        """Relay until cancelled."""
        self._tasks = Tasks(self._clock)
        stop_listening = self._store.listen(self._on_batch)
        self._tasks.supervise(self._mark_for_ever, "outbox marks")
        failures = 0
        try:
            while True:
                session = await self._link.session()
                try:
                    self._doubt = ""
                    self._again = await self._lost_events(session) or self._again
                    await self._catch_up()
                    failures = 0
                    await self._until_doubt(session)
                except _TROUBLE as trouble:
                    failures += 1
                    logger.warning("event relay interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                    await self._clock.sleep(self._backoff.delay(failures))
        finally:
            stop_listening()
            await self._tasks.stop()
            self._lanes.clear()
            self._held.clear()
            self._live = False

    def _on_batch(self, batch: Batch) -> None:
        if self._arrivals is not None:
            self._arrivals.extend(batch.outbox)
        if not self._live:
            return
        for row in batch.outbox:
            self._enqueue(row)
        if len(self._held) > HELD:
            self._live = False
            self._suspect("more events wait than are kept in memory")

    def _enqueue(self, row: OutboxRow) -> None:
        if row.id in self._held:
            return
        self._held.add(row.id)
        lane = self._lanes.get(row.order_key)
        if lane is not None:
            lane.append(row)
            return
        self._lanes[row.order_key] = deque((row,))
        self._tasks.start(self._drain(row.order_key), f"events of {row.order_key}")

    async def _drain(self, key: str) -> None:
        """Publish a lane's events one after the other, until none is left."""
        lane, failures = self._lanes[key], 0
        await self._clock.sleep(_AFTER_SECONDS)
        while lane:
            try:
                async with self._slots:
                    await self._publish(lane[0])
            except (LinkError, NatsError, OSError) as trouble:
                failures += 1
                instruments.OUTBOX_FAILURES.inc()
                if not isinstance(trouble, LinkError):
                    self._suspect(f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))
                continue
            failures = 0
            self._acknowledged.append(lane.popleft().id)
            self._to_mark.set()
        del self._lanes[key]
        self._turn.set()

    async def _publish(self, row: OutboxRow) -> None:
        headers = {"Nats-Msg-Id": row.event_id, "Content-Type": "application/cloudevents+json"}
        body = row.body.encode()

        async def send(session: Session) -> None:
            await session.js.publish(row.subject, body, timeout=CALL_SECONDS * 2, headers=headers)

        parent = tracecontext.read_traceparent(orjson.loads(body).get("traceparent", ""))
        labels = {"messaging.system": "nats", "messaging.destination.name": row.subject}
        with tracing.span(
            "publish event", parent=parent, module=row.order_key, kind=Kind.PRODUCER, attributes=labels
        ) as at:
            if at is not None:
                headers["traceparent"] = str(at)
            with self._storage.write(names.STREAM_EVENTS), instruments.OUTBOX_PUBLISH_SECONDS.time():
                await self._link.call(send)
        self.published += 1

    def _suspect(self, reason: str) -> None:
        self._doubt = self._doubt or reason
        self._wake.set()
        self._turn.set()

    async def _lost_events(self, session: Session) -> bool:
        """Make sure of the stream; whether it lacks events that were acknowledged before."""
        before = self._known
        stood = before or await buckets.stream_info(session, names.STREAM_EVENTS)
        found = self._known = await streams.ensure(session, streams.EVENTS)
        used = found.size / streams.EVENT_BYTES
        if used >= ALARM_SHARE:
            logger.error("events stream is filling up", used=round(used, 2), refuses_at=streams.EVENT_BYTES)
        if before is not None:
            lost = before.created != found.created or before.sequence > found.sequence
        else:
            lost = stood is None or not await self._holds_newest(session)
        if lost:
            logger.info("events stream is new or has lost events, publishing what the outbox keeps")
        return lost

    async def _holds_newest(self, session: Session) -> bool:
        """Whether the newest event that was marked as published is the last of its subject, or a newer one is."""

        def query(reading: Reading) -> tuple[OutboxRow | None, set[str]]:
            rows = [encoding.outbox_row(row) for row in reading.ask(_NEWEST_PUBLISHED)]
            return (rows[0] if rows else None), {row.event_id for row in reading.pending_outbox(PAGE)}

        newest, pending = await self._store.read(query)
        if newest is None:
            return True
        try:
            work = session.js.get_last_msg(names.STREAM_EVENTS, newest.subject)
            last = await during(session, work, CALL_SECONDS)
        except NotFoundError:
            return False
        return (last.headers or {}).get("Nats-Msg-Id") in {newest.event_id, *pending}

    async def _catch_up(self) -> None:
        """Relay what the database holds and the memory does not: what is unpublished, or after a loss everything."""
        self._live = False
        after, again = 0, self._again
        try:
            while not self._live:
                await self._lanes_empty()
                await self._mark()
                self._held.clear()
                self._arrivals = []
                rows = await self._store.read(functools.partial(_page, after=after, again=again))
                for row in rows:
                    self._enqueue(row)
                if len(rows) < PAGE:
                    for row in self._arrivals:
                        self._enqueue(row)
                    self._live, self._again = True, False
                else:
                    after = rows[-1].id
        finally:
            self._arrivals = None

    async def _lanes_empty(self) -> None:
        """Wait until nothing is on its way; a doubt meanwhile is raised, as it may be what holds the lanes up."""
        while self._lanes:
            if self._doubt:
                raise buckets.GapError(self._doubt)
            self._turn.clear()
            await self._turn.wait()

    async def _until_doubt(self, session: Session) -> None:
        audit = asyncio.ensure_future(self._clock.sleep(jittered(AUDIT_SECONDS, 0.2, self._rng)))
        woken = asyncio.ensure_future(self._wake.wait())
        any_of: set[asyncio.Future[Any]] = {audit, woken, session.ended}
        try:
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        finally:
            audit.cancel()
            woken.cancel()
            self._wake.clear()
        if self._doubt:
            logger.warning("events stream doubted", reason=self._doubt)

    async def _mark_for_ever(self) -> None:
        """Mark in the database what was acknowledged, a group at a time: the write is not what anybody waits for."""
        while True:
            await self._to_mark.wait()
            await self._clock.sleep(_MARK_SECONDS)
            try:
                await self._mark()
            except (errors.StoreBusy, errors.Fenced) as trouble:
                logger.warning("published events not marked yet", reason=str(trouble))
                await self._clock.sleep(1.0)

    async def _mark(self) -> None:
        async with self._marking:
            done, self._acknowledged = self._acknowledged, []
            self._to_mark.clear()
            if not done:
                return
            try:
                await self._store.write(lambda tx: tx.mark_published(done), epoch=self._epoch())
            except BaseException:
                self._acknowledged = done + self._acknowledged
                self._to_mark.set()
                raise
            self._held.difference_update(done)


def _page(reading: Reading, *, after: int, again: bool) -> list[OutboxRow]:
    if not again:
        return reading.pending_outbox(PAGE)
    return [encoding.outbox_row(row) for row in reading.ask(_KEPT, {"after": after, "limit": PAGE})]
