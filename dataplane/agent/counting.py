"""Tells the control plane how often organisations called, off the way of requests: what changed, every few seconds.

    counts of this boot ──parts of 1,000 pairs──▶ bucket MODPLANE_USAGE ──▶ columns of organisation_modules

Always: a part holds counts since the start of this boot, so telling it twice, or the next one only, loses nothing.
What cannot be told at the end is left in a file, which the next boot of this slot tells first.
Runs on the agent's loop; called by `dataplane.agent.agents`.
"""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from nats.errors import Error as NatsError
from pydantic import TypeAdapter, ValidationError

from dataplane.gateway.counting import Accesses, Pair
from schemas import names
from schemas.kits import buckets
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink
from schemas.usage import AccessCount, UsageReport

logger = structlog.get_logger("dataplane.agent.counting")

INTERVAL_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 7 * 24 * 3600
"""How long NATS keeps a part that no control plane was there to read."""
PART: Final = 1_000
"""Pairs of one document."""
_SEND_SECONDS: Final = 2.0
_LEFT: Final = TypeAdapter(list[UsageReport])


class Teller:
    """Tells the counts of one boot."""

    def __init__(self, link: NatsLink, clock: Clock, accesses: Accesses, *, worker: str, boot: str, file: Path) -> None:
        """``file``: where counts are left that could not be told."""
        self._link = link
        self._clock = clock
        self._accesses = accesses
        self._worker = worker
        self._boot = boot
        self._file = file
        self._told: dict[int, UsageReport] = {}
        self._left = self._recalled()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self.tell()
            await self._clock.sleep(INTERVAL_SECONDS)

    async def tell(self, *, deadline: float = _SEND_SECONDS) -> bool:
        """Tell what is left of earlier boots and what changed in this one; False if something did not get through."""
        while self._left:
            if not await self._send(self._left[0], deadline):
                return False
            self._left.pop(0)
            if not self._left:
                self._file.unlink(missing_ok=True)
        for report in self._changed():
            if not await self._send(report, deadline):
                return False
            self._told[report.part] = report
        return True

    async def finish(self) -> None:
        """Tell once more, after the last request; what does not get through is left for the next boot."""
        if await self.tell(deadline=1.0):
            return
        left = [*self._left, *self._changed()]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(_LEFT.dump_json(left, by_alias=True))
        except OSError as error:
            logger.warning("accesses not counted", error=str(error), parts=len(left))

    def _changed(self) -> list[UsageReport]:
        pairs = list(self._accesses.told().items())
        parts = (
            UsageReport(
                worker=self._worker,
                boot=self._boot,
                part=start // PART,
                counts=[_count(pair, *told) for pair, told in pairs[start : start + PART]],
            )
            for start in range(0, len(pairs), PART)
        )
        return [part for part in parts if self._told.get(part.part) != part]

    async def _send(self, report: UsageReport, deadline: float) -> bool:
        body = report.model_dump_json(by_alias=True).encode()
        try:
            await self._link.call(
                lambda session: buckets.put(session, names.BUCKET_USAGE, report.key, body, ttl=KEPT_SECONDS),
                deadline=deadline,
            )
        except (NatsError, LinkError, TimeoutError, OSError) as error:
            logger.debug("accesses not told yet", error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _recalled(self) -> list[UsageReport]:
        """What an earlier boot left."""
        try:
            return _LEFT.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            logger.warning("accesses of an earlier boot are lost", path=str(self._file), error=str(error)[:200])
            with contextlib.suppress(OSError):
                self._file.replace(self._file.with_name(self._file.name + ".refused"))
            return []


def _count(pair: Pair, count: int, last: float) -> AccessCount:
    moment = datetime.fromtimestamp(last, UTC)
    return AccessCount(organisation=pair[0], module=pair[1], count=count, last=moment)
