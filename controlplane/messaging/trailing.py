"""Workers' parts of the audit trail: from their stream into the file, and checkpoints of the file to a second place.

    stream MODPLANE_AUDIT ──pull──▶ `controlplane.audit.archives` ──checkpoints──▶ bucket MODPLANE_AUDIT_CHECKPOINTS

Always: a batch is acknowledged, and so leaves the stream, when it is on this plane's disk; one that is no batch, or of
another writer than its subject names, is refused and said.  One at a time, the leader's.
Called by `controlplane.messaging.messengers`; `Auditor` by the API, through its port.
"""

import asyncio
import contextlib
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from controlplane import errors
from controlplane.audit.archives import Archive
from controlplane.audit.sealing import Sealed, decode
from controlplane.messaging import streams
from schemas import names
from schemas.kits import buckets, chains
from schemas.kits.backoffs import Backoff
from schemas.kits.chains import UnreadableError
from schemas.kits.clocks import Clock
from schemas.kits.natslink import CALL_SECONDS, LinkError, NatsLink, Session, during
from schemas.kits.tasks import Tasks
from schemas.meta import Json

logger = structlog.get_logger("controlplane.messaging.trailing")

CONSUMER: Final = "controlplane"
COPY_SECONDS: Final = 10.0
"""How often checkpoints are copied."""
COPY_RECORDS: Final = 1_000
"""A chain that grew by so many records is copied at once."""
_BATCHES: Final = 20
_WAIT_SECONDS: Final = 3.0
_ACK_SECONDS: Final = 10.0
_TROUBLE: Final = (LinkError, NatsError, TimeoutError, OSError, buckets.GapError, errors.StoreError)


class Trailing:
    """Receives the audit trail."""

    def __init__(self, archive: Archive, link: NatsLink, clock: Clock) -> None:
        self._archive = archive
        self._link = link
        self._clock = clock
        self._backoff = Backoff(base=0.1, cap=2.0)
        self._grown = asyncio.Event()

    async def run(self) -> None:
        """Receive and copy until cancelled."""
        tasks = Tasks(self._clock)
        tasks.supervise(self._receive, "audit records")
        tasks.supervise(self._copy, "audit checkpoints")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await tasks.stop()

    async def _receive(self) -> None:
        failures = 0
        while True:
            session = await self._link.session()
            try:
                subscription = await self._bound(session)
                try:
                    while True:
                        await self._take(session, subscription)
                        failures = 0
                finally:  # what the server would hand to nobody now would come again only much later
                    with contextlib.suppress(NatsError, OSError):
                        await subscription.unsubscribe()
            except _TROUBLE as trouble:
                failures += 1
                logger.info("audit trail interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))

    async def _bound(self, session: Session) -> JetStreamContext.PullSubscription:
        await streams.ensure(session, streams.AUDIT)
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=_ACK_SECONDS, max_ack_pending=1_000)
        work = session.js.pull_subscribe("", CONSUMER, stream=names.STREAM_AUDIT, config=config)
        return await during(session, work, CALL_SECONDS)

    async def _take(self, session: Session, subscription: JetStreamContext.PullSubscription) -> None:
        """Store the next batches; those that cannot be stored now come again."""
        try:
            work = subscription.fetch(_BATCHES, timeout=_WAIT_SECONDS)
            messages = await during(session, work, _WAIT_SECONDS + CALL_SECONDS)
        except NatsTimeoutError:
            return
        for message in messages:
            await self._store(message)
            await message.ack()

    async def _store(self, message: Msg) -> None:
        try:
            batch = chains.decode(message.data)
        except UnreadableError as error:
            self._archive.refuse(f"on {message.subject}: {error}")
            return
        if message.subject != names.audit_subject(batch.chain.writer):
            self._archive.refuse(f"on {message.subject}: batch {batch.id} is of another writer")
            return
        await self._archive.add(batch)
        if batch.last // COPY_RECORDS != batch.before.seq // COPY_RECORDS:
            self._grown.set()

    async def _copy(self) -> None:
        while True:
            session = await self._link.session()
            try:
                await streams.ensure(session, streams.CHECKPOINTS)
                for sealed in await asyncio.to_thread(self._archive.trail.uncopied):
                    chain = chains.statement(sealed.said).chain
                    await buckets.put(
                        session, names.BUCKET_CHECKPOINTS, f"{chain.writer}.{chain.boot}", sealed.encode()
                    )
                    await asyncio.to_thread(self._archive.trail.copied, [sealed])
            except _TROUBLE as trouble:
                logger.info("audit checkpoints not copied yet", reason=f"{type(trouble).__name__}: {trouble}"[:200])
            self._grown.clear()
            waiting = asyncio.ensure_future(self._grown.wait())
            pause = asyncio.ensure_future(self._clock.sleep(COPY_SECONDS))
            try:
                await asyncio.wait({waiting, pause}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                pause.cancel()


async def copies(link: NatsLink, patience: float = CALL_SECONDS) -> list[Sealed] | None:
    """The checkpoints in the second place; None if it cannot be asked."""
    try:
        found = await link.call(lambda session: buckets.read(session, names.BUCKET_CHECKPOINTS), deadline=patience)
    except NotFoundError:
        return []
    except _TROUBLE:
        return None
    sealed = []
    for entry in found.values():
        try:
            sealed.append(decode(entry.value))
        except UnreadableError:
            logger.warning("a copied checkpoint cannot be read", key=entry.key)
    return sealed


class Auditor:
    """The audit trail as the API asks it: the file, and the second place of its checkpoints."""

    def __init__(self, archive: Archive, link: NatsLink, *, patience: float = CALL_SECONDS) -> None:
        """``patience``: seconds for which the second place is waited for."""
        self._archive = archive
        self._link = link
        self._patience = patience
        self.find = archive.find

    async def verify(self) -> Json:
        """Walk along the whole trail; without NATS it is held against its own checkpoints only, and says so."""
        elsewhere = await copies(self._link, self._patience)
        found = await self._archive.verify(elsewhere or [])
        place = "NATS cannot be asked" if elsewhere is None else f"{len(elsewhere)} checkpoints on NATS"
        return {**found.wire(), "second_place": place}
