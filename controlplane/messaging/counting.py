"""What workers counted: from their stream into the file of measurements, and into the rows of organisation_modules.

    stream MODPLANE_METRICS ──pulled──▶ measurements (committed) ──▶ access counters (committed) ──▶ acknowledged

Always: a message is acknowledged, and so leaves the stream, only when all of it is committed; what comes twice adds
nothing, for each number is a sum since its boot began.  So a control plane that is killed or away loses nothing that
the stream keeps.  Called by `controlplane.messaging.messengers`; one at a time, the leader's.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from controlplane import errors
from controlplane.messaging import streams
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from controlplane.telemetry import instruments, measurements
from schemas import names
from schemas.kits import buckets
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.kits.natslink import CALL_SECONDS, LinkError, NatsLink, Session, during
from schemas.measures import Measures

logger = structlog.get_logger("controlplane.messaging.counting")

CONSUMER: Final = "controlplane"
BATCH: Final = 64
"""Messages that are merged in one transaction."""
_WAIT_SECONDS: Final = 5.0
_PACE_SECONDS: Final = 0.5
"""Between two transactions, so that what comes together is written together."""
_ACK_SECONDS: Final = 10.0
"""After so long a message that was not acknowledged comes again."""
_TROUBLE: Final = (LinkError, NatsError, OSError, buckets.GapError, errors.ModplaneError)


class Counting:
    """Hears what workers counted."""

    def __init__(
        self, store: Store, link: NatsLink, clock: Clock, epoch: Callable[[], int], kept: measurements.Measurements
    ) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._epoch = epoch
        self._kept = kept
        self._backoff = Backoff(base=0.1, cap=2.0)

    async def run(self) -> None:
        """Hear and write until cancelled."""
        failures = 0
        while True:
            session = await self._link.session()
            try:
                async with self._pulling(session) as pulled:
                    while True:
                        if await self._round(session, pulled):
                            failures = 0
                        await self._clock.sleep(_PACE_SECONDS)
            except _TROUBLE as trouble:
                failures += 1
                logger.info("counted calls interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))

    @contextlib.asynccontextmanager
    async def _pulling(self, session: Session) -> AsyncIterator[JetStreamContext.PullSubscription]:
        await streams.ensure(session, streams.METRICS)
        config = ConsumerConfig(
            durable_name=CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=_ACK_SECONDS,
            max_ack_pending=4 * BATCH,
        )
        await during(session, session.js.add_consumer(names.STREAM_METRICS, config), CALL_SECONDS)
        pulled = await during(session, session.js.pull_subscribe_bind(CONSUMER, names.STREAM_METRICS), CALL_SECONDS)
        try:
            yield pulled
        finally:  # else the server answers what is asked for already, and nobody hears it
            with contextlib.suppress(NatsError, OSError):
                await pulled.unsubscribe()

    async def _round(self, session: Session, pulled: JetStreamContext.PullSubscription) -> bool:
        """Take what there is; whether there was anything."""
        try:
            messages = await during(session, pulled.fetch(BATCH, timeout=_WAIT_SECONDS), _WAIT_SECONDS * 2)
        except TimeoutError as nothing:
            if isinstance(nothing, LinkError):
                raise
            return False
        with instruments.MERGE_SECONDS.time():
            reports = await self._kept.take([(_worker(message), message.data) for message in messages])
        instruments.MERGED.inc(len(messages))
        counted = [report for report in reports if report.accesses]
        if counted:
            await self._store.write(partial(_count, reports=counted), epoch=self._epoch())
        await asyncio.gather(*(message.ack() for message in messages))
        return True


def _worker(message: Msg) -> str:
    """Who says so: the server lets a worker speak on its own subject only."""
    return message.subject.removeprefix(f"{names.SUBJECT_METRICS}.")


def _count(tx: Transaction, reports: list[Measures]) -> int:
    return sum(tx.count_accesses(report) for report in reports)
