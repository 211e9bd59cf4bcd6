"""Says what this worker really serves: one document in ``MODPLANE_WORKERS``, at once on change and every few seconds.

Latest wins: while one report is on its way, changes wait and go out together with the next; after a report with a
long list of pending modules they wait a little longer, so that a thousand modules cost no thousand long lists.  A
report that cannot be sent is not kept; the next one tells the same and more.  Runs on the agent's loop, where the
serving loop gets its turn between making and sending one; goes to NATS.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog
from nats.errors import Error as NatsError

from dataplane.runtime import turns
from schemas import names
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink
from schemas.kits.storing import Storing
from schemas.reports import WorkerReport

logger = structlog.get_logger("dataplane.agent.reporting")

INTERVAL_SECONDS: Final = 3.0
KEPT_SECONDS: Final = 60
"""The bucket forgets a worker's document so long after its last report: garbage collection, not a liveness check."""
_SEND_SECONDS: Final = 2.0
_SHORT: Final = 20
"""Pending modules that a report may list without any wait after it."""
_PACE_SECONDS: Final = 0.001
"""Wait after a report for each further pending module."""
_PAUSE_MAX: Final = 1.0
_BURST: Final = 5
"""Reports that may follow each other without any wait: more than one change of one module makes."""
_STEADY_SECONDS: Final = 0.1
"""Wait between reports in a stream of changes: one then tells of several."""


class Reporter:
    """Sends the reports of one worker."""

    def __init__(
        self,
        link: NatsLink,
        clock: Clock,
        make: Callable[[int], WorkerReport],
        storage: Storing,
        *,
        interval: float = INTERVAL_SECONDS,
        told: Callable[[WorkerReport, int], None] = lambda report, at: None,
    ) -> None:
        """``make`` gives the report of the moment, with the sequence number that it is handed.

        ``told`` hears of each report that got through, with the moment when it was made (nanoseconds since 1970).
        """
        self._link = link
        self._clock = clock
        self._make = make
        self._storage = storage
        self._interval = interval
        self._told = told
        self._due = asyncio.Event()
        self._sequence = 0
        self._pause = 0.0
        self._left = float(_BURST)
        self._sent_at = clock.monotonic()
        self._failing = False

    def due(self) -> None:
        """Something changed: report as soon as the last report is out."""
        self._due.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._due.clear()
            await self.send()
            if self._pause:
                await self._clock.sleep(self._pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()

    async def send(self, *, deadline: float = _SEND_SECONDS) -> bool:
        """Send the report of this moment; False if it did not get through."""
        self._sequence += 1
        report, made_at = self._make(self._sequence), time.time_ns()
        self._pause = max(self._steady(), min(max(len(report.pending) - _SHORT, 0) * _PACE_SECONDS, _PAUSE_MAX))
        payload = report.model_dump_json(by_alias=True, exclude_none=True).encode()
        turns.rest()
        subject = f"$KV.{names.BUCKET_WORKERS}.{report.id}"
        try:
            with self._storage.write(names.BUCKET_WORKERS):
                await self._link.call(
                    lambda session: session.js.publish(subject, payload, msg_ttl=KEPT_SECONDS), deadline=deadline
                )
        except (NatsError, LinkError, TimeoutError, OSError) as error:
            if not self._failing:
                logger.info("report not sent", error=f"{type(error).__name__}: {error}")
            self._failing = True
            return False
        self._failing = False
        self._told(report, made_at)
        return True

    def _steady(self) -> float:
        """Count a report; how long the next one has to wait so that a stream of them goes at a steady pace."""
        now = self._clock.monotonic()
        self._left = min(self._left + (now - self._sent_at) / _STEADY_SECONDS, float(_BURST)) - 1.0
        self._sent_at = now
        return max(1.0 - self._left, 0.0) * _STEADY_SECONDS
