"""Asks the database now and then whether it answers, for the checks of ``/ready``: who reads a check waits for nobody.

Always: what the database says is told in its own words; a question that hangs is a trouble, too.
Run by `controlplane.app`, from its start to its end, whether this process leads or not.
"""

import asyncio
from typing import Final

import structlog

from controlplane import errors
from controlplane.store.readings import Reading
from controlplane.store.stores import Store
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.probing")

EVERY_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 5.0


class StoreProbe:
    """Whether the database answers."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.trouble = ""
        """What is wrong with it; empty: nothing."""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            trouble = await self._ask()
            if bool(trouble) is not bool(self.trouble):
                logger.warning("database does not answer" if trouble else "database answers again", reason=trouble)
            self.trouble = trouble
            await self._clock.sleep(EVERY_SECONDS)

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._store.read(_revision)
        except TimeoutError:
            return f"the database did not answer within {PATIENCE_SECONDS:g} s; look at its server and its disk"
        except errors.ModplaneError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is this check's answer
            return f"the database failed: {type(error).__name__}: {error}"
        return ""


def _revision(reading: Reading) -> int:
    return reading.revision
