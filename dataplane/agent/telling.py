"""Tells the control plane what modules wrote last, when it asks: one question, one answer, nothing kept on NATS.

Only the control plane may ask and hear (`controlplane.cli.natsusers`).  Runs on the agent's loop.
"""

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from dataplane.telemetry.lines import Lines
from schemas import names
from schemas.kits import hearing
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink
from schemas.kits.tasks import Tasks
from schemas.lines import LineReport, LineRequest

logger = structlog.get_logger("dataplane.agent.telling")


class Telling:
    """Answers questions about modules' lines, on every session anew."""

    def __init__(self, link: NatsLink, clock: Clock, lines: Lines, tasks: Tasks, *, worker: str, boot: str) -> None:
        self._link = link
        self._clock = clock
        self._lines = lines
        self._tasks = tasks
        self._worker = worker
        self._boot = boot

    async def run(self) -> None:
        """Answer until cancelled."""
        await hearing.lasting(self._link, self._clock, names.ask_subject(self._worker), self._asked)

    async def _asked(self, message: Msg) -> None:
        try:
            request = LineRequest.model_validate_json(message.data)
        except ValidationError as error:
            logger.warning("question refused", problem=f"{error.error_count()} problems")
            return
        self._tasks.start(self._tell(request), "tell lines")

    async def _tell(self, request: LineRequest) -> None:
        known = request.after if request.boot == self._boot else 0
        lines, dropped = self._lines.of(request.module, known)
        report = LineReport(id=request.id, worker=self._worker, boot=self._boot, lines=lines, dropped=dropped)
        body = report.model_dump_json(by_alias=True).encode()
        try:
            await self._link.call(
                lambda session: session.client.publish(names.told_subject(self._worker), body), deadline=2.0
            )
        except (NatsError, LinkError, TimeoutError, OSError) as error:
            logger.debug("lines not told", error=f"{type(error).__name__}: {error}")
