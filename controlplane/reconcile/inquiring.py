"""Many new generations at once: whose code was never inspected is handed to inspection without a turn of its own.

    commit of many ──▶ new ──some at a time──▶ which code is known? ──┬─ no ──▶ inspection; a turn when that is slow
                                                                      └─ yes ─▶ a turn at once
What always holds: everything that is heard gets its turn, at once wherever anything else than an inspection may be
due; nothing is decided here.  Fed and run by `controlplane.reconcile.looping`; goes to `examining` and to the queue.
"""

import asyncio
from collections import deque
from typing import Final

import pydantic
import structlog

from controlplane import errors
from controlplane.reconcile import deciding, examining
from controlplane.reconcile.queueing import WorkQueue
from controlplane.reconcile.waking import Sighting
from controlplane.store.stores import Store
from schemas.meta import Json
from schemas.module import ModuleSpec

logger = structlog.get_logger("controlplane.reconcile.inquiring")

MANY: Final = 8
"""New generations in one commit from which on they are asked about together; of fewer the commit itself has asked."""
_TOGETHER: Final = 64


class Inquirer:
    """Asks for many what the first turn of each would ask."""

    def __init__(self, store: Store, examiner: examining.Examiner, queue: WorkQueue) -> None:
        self._store = store
        self._examiner = examiner
        self._queue = queue
        self._heard: deque[tuple[Sighting, Json]] = deque()
        self._wake = asyncio.Event()

    def hear(self, sighting: Sighting, spec: Json) -> None:
        """A generation is new."""
        self._heard.append((sighting, spec))
        self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._heard:
                await self._ask([self._heard.popleft() for _ in range(min(len(self._heard), _TOGETHER))])

    async def _ask(self, some: list[tuple[Sighting, Json]]) -> None:
        turns = {sighting.name: 0.0 for sighting, _ in some}
        try:
            for sighting, spec in await self._unknown(some):
                self._examiner.start(sighting, spec)
                turns[sighting.name] = deciding.patience(self._examiner.ahead)
        except errors.ModplaneError as error:
            logger.warning("inspections not looked up", error=str(error))
        finally:
            for name, wait in turns.items():
                self._queue.renew(name, wait)

    async def _unknown(self, some: list[tuple[Sighting, Json]]) -> list[tuple[Sighting, ModuleSpec]]:
        """Those of which all that can be said is that their code has to be inspected."""
        asked = []
        for sighting, text in some:
            spec = _readable(text)
            if spec is not None and spec.source.digest is not None:
                asked.append((sighting, spec, self._examiner.keys(sighting, spec)))
        keys = {key for _, _, pair in asked for key in pair}
        known = await self._store.read(lambda reading: reading.inspected(keys)) if keys else set()
        return [(sighting, spec) for sighting, spec, pair in asked if not self._examiner.knows(pair, known)]


def _readable(spec: Json) -> ModuleSpec | None:
    try:
        return ModuleSpec.model_validate(spec)
    except pydantic.ValidationError:
        return None
