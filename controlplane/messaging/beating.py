"""The beat: every two seconds the leader says which desired set stands in which bucket, and hears itself say it.

Always: what is said is what the server just confirmed of the bucket and what the projection knows to be in it; a
beat that comes back proves that NATS carries messages to us, so silence of a worker means the worker.
Called by `controlplane.messaging.messengers`; reads `projecting`, goes to workers and back to us.
"""

from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from controlplane.messaging import projecting
from schemas import names
from schemas.documents import Beat
from schemas.kits import buckets, hearing
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session

logger = structlog.get_logger("controlplane.messaging.beating")

BEAT_SECONDS: Final = 2.0


class Beating:
    """Says the beat and listens for it."""

    def __init__(
        self, link: NatsLink, clock: Clock, projection: projecting.Projection, returned: Callable[[], None]
    ) -> None:
        self._link = link
        self._clock = clock
        self._projection = projection
        self._returned = returned
        self._said = b""

    async def run(self) -> None:
        """Beat until cancelled, on every session anew."""
        while True:
            session = await self._link.session()
            try:
                async with hearing.subscribed(session, names.SUBJECT_BEAT, self._hear):
                    while session.alive:
                        await self._beat(session)
                        await self._clock.sleep(BEAT_SECONDS)
            except (LinkError, NatsError, OSError) as trouble:
                logger.warning("beat missed", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(BEAT_SECONDS / 4)

    async def _beat(self, session: Session) -> None:
        before = self._projection.writes
        found = await buckets.info(session, names.BUCKET_DESIRED, deadline=BEAT_SECONDS)
        if before == self._projection.writes:
            self._projection.check(found)
        head = self._projection.head
        if found is None or head is None or found.created != self._projection.created:
            return
        beat = Beat(**head.model_dump(), sequence=found.sequence, created=found.created)
        self._said = beat.model_dump_json(by_alias=True, exclude_none=True).encode()
        await session.client.publish(names.SUBJECT_BEAT, self._said)

    async def _hear(self, message: Msg) -> None:
        if message.data == self._said:
            self._returned()
