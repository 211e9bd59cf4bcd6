"""The steps of changes: heard from workers, and kept with the control plane's own.

    worker ──modplane.steps.<worker>──▶ book of steps ──▶ store (grouped, no revision)
    span of this process ──────────────────▲

Always: steps are words about work that is done; losing some loses nothing else, so they are sent once and nobody
waits for them.  What waits is written every second: a process that is killed takes at most that with it.
Called by `controlplane.messaging.messengers` (`Hearing`, the leader's) and `controlplane.app` (`Keeping`).
"""

from typing import Final

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from controlplane import errors
from controlplane.store.stores import Store
from controlplane.telemetry.tracing import Book
from controlplane.telemetry.tracing import book as own
from schemas import names
from schemas.kits import hearing
from schemas.kits.clocks import Clock
from schemas.kits.natslink import NatsLink
from schemas.traces import StepReport

logger = structlog.get_logger("controlplane.messaging.steps")

PACE_SECONDS: Final = 1.0
PAGE: Final = 1_000
"""Steps of one transaction."""


class Hearing:
    """Hears the workers' steps; one at a time, the leader's."""

    def __init__(self, link: NatsLink, clock: Clock, book: Book = own) -> None:
        self._link = link
        self._clock = clock
        self._book = book

    async def run(self) -> None:
        """Hear until cancelled, on every session anew."""
        await hearing.lasting(self._link, self._clock, names.steps_subject("*"), self._hear)

    async def _hear(self, message: Msg) -> None:
        try:
            report = StepReport.model_validate_json(message.data)
        except ValidationError as error:
            logger.warning("steps refused", subject=message.subject, problem=f"{error.error_count()} problems")
            return
        if message.subject != names.steps_subject(report.worker):
            logger.warning("steps refused", subject=message.subject, problem="of another worker")
            return
        for step in report.steps:
            # whatever it says itself: only its own subject tells
            own_words = step if step.who == report.worker else step.model_copy(update={"who": report.worker})
            self._book.note(own_words)


class Keeping:
    """Writes the steps of this process's book."""

    def __init__(self, store: Store, clock: Clock, book: Book = own) -> None:
        self._store = store
        self._clock = clock
        self._book = book

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._clock.sleep(PACE_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Write what waits now."""
        while steps := self._book.take(PAGE):
            try:
                await self._store.write(lambda tx: tx.keep_steps(steps))
            except (errors.StoreBusy, errors.StoreClosed) as trouble:
                logger.info("steps not kept", reason=str(trouble), steps=len(steps))
                return
