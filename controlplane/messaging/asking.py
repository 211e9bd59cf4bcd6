"""Asks workers for the last lines of a module: each once, all at the same time, for a moment.

Any control plane may ask, whether it leads or not.  Who does not answer in time is named by whoever asked.
Called by `controlplane.api.tailing` through its port; goes to `dataplane.agent.telling` over NATS.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from controlplane import errors
from schemas import names
from schemas.kits import hearing
from schemas.kits.natslink import LinkError, NatsLink
from schemas.lines import LineReport, LineRequest

logger = structlog.get_logger("controlplane.messaging.asking")

PATIENCE_SECONDS: Final = 2.0


class Asking:
    """Asks over one link."""

    def __init__(self, link: NatsLink, patience: float = PATIENCE_SECONDS) -> None:
        self._link = link
        self._patience = patience

    async def lines(self, module: str, known: Mapping[str, tuple[str, int]]) -> list[LineReport]:
        """What the workers of ``known`` have of a module; of each its boot and last line that the asker has already.

        errors.Unreachable: NATS is away.
        """
        question, found = secrets.token_hex(8), dict[str, LineReport]()
        complete = asyncio.Event()

        async def told(message: Msg) -> None:
            try:
                report = LineReport.model_validate_json(message.data)
            except ValidationError as error:
                logger.warning("lines refused", subject=message.subject, problem=f"{error.error_count()} problems")
                return
            if (
                report.id == question
                and report.worker in known
                and message.subject == names.told_subject(report.worker)
            ):
                found[report.worker] = report
                if len(found) == len(known):
                    complete.set()

        try:
            async with asyncio.timeout(self._patience):
                session = await self._link.session()
                async with hearing.subscribed(session, names.told_subject("*"), told):
                    for worker, (boot, after) in known.items():
                        request = LineRequest(id=question, module=module, boot=boot, after=after)
                        await session.client.publish(names.ask_subject(worker), request.model_dump_json().encode())
                    if known:
                        await complete.wait()
        except TimeoutError:
            if not self._link.connected:
                raise errors.Unreachable("workers cannot be asked: NATS is away; try again shortly") from None
        except (LinkError, NatsError, OSError) as trouble:
            raise errors.Unreachable(f"workers cannot be asked: {type(trouble).__name__}: {trouble}") from trouble
        return [found[worker] for worker in sorted(found)]
