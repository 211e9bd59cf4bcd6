"""Carries the audit trail from this slot's spools to NATS: a batch leaves its spool when the stream has it on disk.

Earlier boots of the slot go first: what their end cost is said (`schemas.kits.spools.left_behind`), then what they left
is sent.  The id of a batch is the same at each try, so the stream and the reader drop repeats.
Runs on the agent's loop, the blocking parts in threads; called by `dataplane.agent.living`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from nats.errors import Error as NatsError

from schemas import audit, names
from schemas.kits import spools
from schemas.kits.backoffs import Backoff
from schemas.kits.chains import Batch
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session
from schemas.kits.spools import Spool, SpoolError
from schemas.kits.storing import Storing

logger = structlog.get_logger("dataplane.agent.carrying")

LOOK_SECONDS: Final = 0.5
"""How often the spool is looked at when it was empty: a process at rest wakes for it."""
LEFT_SECONDS: Final = 10.0
"""How often spools of other boots are looked for: one that is replaced ends after its successor began."""
SEND_SECONDS: Final = 5.0
LAST_SECONDS: Final = 2.0
"""How long the end of a worker waits for its last records to be taken."""
_TROUBLE: Final = (NatsError, LinkError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a slot's records are."""

    folder: Path
    writer: str
    spool: Callable[[], Spool | None]
    """This boot's, once it is there."""


class Carrier:
    """Empties the spools of one slot."""

    def __init__(self, link: NatsLink, clock: Clock, source: Source, storage: Storing) -> None:
        self._link = link
        self._storage = storage
        self._clock = clock
        self._source = source
        self._left: list[Spool] = []
        self._backoff = Backoff(base=0.1, cap=2.0)
        self._looked = -LEFT_SECONDS

    async def run(self) -> None:
        """Carry until cancelled."""
        failures = 0
        while True:
            try:
                sent = await self._carry()
                failures = 0
                if not sent:
                    await self._clock.sleep(LOOK_SECONDS)
            except _TROUBLE as trouble:
                failures += 1
                logger.debug("audit trail waits", error=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))
            except SpoolError as error:
                failures += 1
                logger.error("audit trail cannot be read", error=str(error))
                await self._clock.sleep(self._backoff.delay(failures))

    async def finish(self) -> None:
        """Carry what is there, if NATS takes it; the rest is for the next boot of this slot."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while await self._carry():
                    continue
        except (*_TROUBLE, SpoolError) as trouble:
            logger.info("audit trail is left on disk", error=f"{type(trouble).__name__}: {trouble}"[:200])
        for spool in (self._source.spool(), *self._left):
            if spool is not None:
                await asyncio.to_thread(spool.close)

    async def _carry(self) -> bool:
        """Send one batch; False if there is none."""
        if self._clock.monotonic() - self._looked >= LEFT_SECONDS:
            self._looked = self._clock.monotonic()
            await self._adopt()
        while self._left:
            if self._left[0].bytes:
                return await self._send(self._left[0])
            await asyncio.to_thread(self._left.pop(0).close)
        own = self._source.spool()
        return own is not None and bool(own.bytes) and await self._send(own)

    async def _adopt(self) -> None:
        at = audit.moment(self._clock.now().timestamp())
        found, broken = await asyncio.to_thread(spools.left_behind, self._source.folder, self._source.writer, at)
        self._left += found
        for trouble in broken:
            logger.error("records of an earlier boot cannot be read, set aside", error=trouble)

    async def _send(self, spool: Spool) -> bool:
        found = await asyncio.to_thread(spool.oldest)
        if found is None:
            return False
        await self._publish(*found)
        await asyncio.to_thread(spool.drop, found[0])
        return True

    async def _publish(self, batch: Batch, body: bytes) -> None:
        subject = names.audit_subject(batch.chain.writer)

        async def send(session: Session) -> None:
            await session.js.publish(
                subject, body, timeout=SEND_SECONDS * 2, stream=names.STREAM_AUDIT, headers={"Nats-Msg-Id": batch.id}
            )

        with self._storage.write(names.STREAM_AUDIT):
            await self._link.call(send, deadline=SEND_SECONDS)
