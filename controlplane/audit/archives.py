"""The audit trail as one thing: the file, who signs it, and what this control plane itself adds to it.

    changes ──recorder──▶ spool ──▶ file ◀── batches of workers (`controlplane.messaging.trailing`)

Always: what could not be stored stays where it is, in the spool or on NATS; a batch that contradicts what is stored is
refused and said in this control plane's own chain; so is what is missing.  Called by `controlplane.app`,
`controlplane.api.auditing` and `controlplane.messaging.trailing`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from controlplane import errors
from controlplane.audit import asking, noting, verifying
from controlplane.audit.sealing import Sealed, Sealer
from controlplane.audit.trails import Forked, Trail
from schemas import audit
from schemas.kits import spools
from schemas.kits.chains import Batch, Chain, Json
from schemas.kits.clocks import Clock
from schemas.kits.recorders import Recorder
from schemas.kits.spools import Spool, SpoolError

logger = structlog.get_logger("controlplane.audit.archives")

FORKED: Final = "ChainForked"
LOST: Final = "RecordsLost"
_LOOK_SECONDS: Final = 0.5
_PRUNE_SECONDS: Final = 60.0
_LEFT_SECONDS: Final = 10.0
_SPOOL_BYTES: Final = 64 * 1024 * 1024


class Archive:
    """What a control plane has to do with the audit trail."""

    def __init__(
        self,
        folder: Path,
        sealer: Sealer,
        clock: Clock,
        *,
        most_bytes: int,
        age_seconds: float,
        version: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``folder``: the data folder.  StoreUnusable when the file cannot be opened."""
        self.trail = Trail(folder / "audit.db", sealer)
        self._spools = folder / "audit" / noting.WRITER
        self._sealer = sealer
        self._clock = clock
        self._most_bytes = most_bytes
        self._age = timedelta(seconds=age_seconds)
        chain = Chain(noting.WRITER, secrets.token_hex(4))
        self.recorder = Recorder(
            lambda: spools.make(self._spools, chain),
            noting.encode,
            first={"version": version},
            limit=_SPOOL_BYTES,
            now=now,
        )
        self.book = noting.Book(self.recorder, now)
        self._left: list[Spool] = []
        self._looked = -_LEFT_SECONDS

    def start(self) -> None:
        """Begin to keep what is noted."""
        self.recorder.start()

    async def close(self) -> None:
        """Write that this is the end, and store what is there."""
        await asyncio.to_thread(self.recorder.close)
        try:
            while await self._move():
                continue
        except (SpoolError, errors.ModplaneError) as error:
            logger.warning("audit records are left in their spool", reason=str(error))
        for spool in (self.recorder.spool, *self._left):
            if spool is not None:
                await asyncio.to_thread(spool.close)
        await asyncio.to_thread(self.trail.close)

    async def run(self) -> None:
        """Store what this control plane noted, until cancelled."""
        while True:
            try:
                if not await self._move():
                    await self._clock.sleep(_LOOK_SECONDS)
            except (SpoolError, errors.StoreError) as error:
                logger.error("audit records wait in their spool", reason=str(error))
                await self._clock.sleep(1.0)

    async def keep(self) -> None:
        """Let the oldest records go in time, until cancelled."""
        while True:
            oldest = audit.moment((self._clock.now() - self._age).timestamp())
            try:
                while await asyncio.to_thread(self.trail.prune, most_bytes=self._most_bytes, oldest=oldest):
                    continue
            except errors.StoreError as error:
                logger.error("old audit records stay", reason=str(error))
            await self._clock.sleep(_PRUNE_SECONDS)

    async def add(self, batch: Batch) -> None:
        """Store a batch; StoreBusy: not now.  What it lacks, or why it is refused, is said in our own chain."""
        try:
            stored = await asyncio.to_thread(self.trail.add, batch)
        except Forked as error:
            self.refuse(str(error))
            return
        if stored.lost:
            logger.error("audit records are lost", batch=batch.id, count=stored.lost)
            self.book.lacking(LOST, stored.lost, f"before record {batch.first} of {'.'.join(batch.chain)}")

    def refuse(self, why: str) -> None:
        """Something that came is no part of a chain: say so, and let it go."""
        logger.error("audit batch refused", reason=why)
        self.book.lacking(FORKED, 0, why)

    async def find(self, wanted: asking.Wanted) -> tuple[list[Json], bool]:
        """The records of one page; StoreBusy."""

        def find() -> tuple[list[Json], bool]:
            with self.trail.reading() as database:
                return asking.find(database, wanted)

        return await asyncio.to_thread(find)

    async def verify(self, elsewhere: list[Sealed]) -> verifying.Verified:
        """Walk along the whole trail; StoreBusy."""

        def verify() -> verifying.Verified:
            with self.trail.reading() as database:
                return verifying.verify(database, self._sealer, elsewhere)

        return await asyncio.to_thread(verify)

    async def _move(self) -> bool:
        """One batch from our own spools into the file; False if there is none."""
        if self._clock.monotonic() - self._looked >= _LEFT_SECONDS:
            self._looked = self._clock.monotonic()
            at = audit.moment(self._clock.now().timestamp())
            found, broken = await asyncio.to_thread(spools.left_behind, self._spools, noting.WRITER, at)
            self._left += found
            for trouble in broken:
                logger.error("records of an earlier control plane cannot be read, set aside", error=trouble)
        while self._left:
            if self._left[0].bytes:
                return await self._take(self._left[0])
            await asyncio.to_thread(self._left.pop(0).close)
        own = self.recorder.spool
        return own is not None and bool(own.bytes) and await self._take(own)

    async def _take(self, spool: Spool) -> bool:
        found = await asyncio.to_thread(spool.oldest)
        if found is None:
            return False
        await self.add(found[0])
        await asyncio.to_thread(spool.drop, found[0])
        return True
