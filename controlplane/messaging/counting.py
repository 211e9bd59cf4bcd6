"""What workers counted of organisations' calls: from their bucket into the rows of organisation_modules.

Always: a document tells all that its boot has counted, so only the newest of each key is worth writing, and telling it
twice adds nothing (`controlplane.store.counting`); what waits is written at most every second, in one transaction.
Called by `controlplane.messaging.messengers`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError

from controlplane import errors
from controlplane.messaging import streams
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from schemas import names
from schemas.kits import buckets
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink
from schemas.kits.tasks import Tasks
from schemas.usage import UsageReport

logger = structlog.get_logger("controlplane.messaging.counting")

_PACE_SECONDS: Final = 1.0
_TROUBLE: Final = (LinkError, NatsError, OSError, buckets.GapError)


class Counting:
    """Hears what workers counted; one at a time, the leader's."""

    def __init__(self, store: Store, link: NatsLink, clock: Clock, epoch: Callable[[], int]) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._epoch = epoch
        self._backoff = Backoff(base=0.1, cap=2.0)
        self._waiting: dict[str, UsageReport] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Hear and write until cancelled."""
        tasks = Tasks(self._clock)
        tasks.supervise(self._follow, "counted accesses")
        tasks.supervise(self._write_for_ever, "access counters")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await tasks.stop()

    async def _follow(self) -> None:
        failures = 0
        while True:
            session = await self._link.session()
            try:
                await streams.ensure(session, streams.USAGE)
                async with contextlib.aclosing(buckets.follow(session, names.BUCKET_USAGE)) as following:
                    async for entry in following:
                        failures = 0
                        if entry is not None and entry.operation is buckets.Operation.PUT:
                            self._take(entry)
            except _TROUBLE as trouble:
                failures += 1
                logger.info("counted accesses interrupted", reason=f"{type(trouble).__name__}: {trouble}"[:200])
                await self._clock.sleep(self._backoff.delay(failures))

    def _take(self, entry: buckets.Entry) -> None:
        try:
            report = UsageReport.model_validate_json(entry.value)
        except ValidationError as error:
            logger.warning("counted accesses refused", key=entry.key, problem=f"{error.error_count()} problems")
            return
        if report.key != entry.key:
            logger.warning("counted accesses refused", key=entry.key, problem="document and key differ")
            return
        self._waiting[entry.key] = report
        self._news.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            reports, self._waiting = self._waiting, {}
            try:
                await self._store.write(partial(_count, reports=list(reports.values())), epoch=self._epoch())
            except errors.ModplaneError as trouble:
                logger.info("accesses not counted yet", reason=str(trouble))
                self._waiting = {**reports, **self._waiting}
                self._news.set()
            await self._clock.sleep(_PACE_SECONDS)


def _count(tx: Transaction, reports: list[UsageReport]) -> int:
    return sum(tx.count_accesses(report) for report in reports)
