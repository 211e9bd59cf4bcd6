"""Modules in and out of service while requests flow: start, publish by one assignment, drain the old, let go.

Lives on the serving loop and is called there only (the agent comes through `asyncio.run_coroutine_threadsafe`).
A request reads `Host.snapshot` once.  An unchanged module keeps its instance through every change of another; a
replaced or removed one keeps answering the requests that are inside it, for at most the grace, in the background.
"""

import asyncio
import dataclasses
from collections.abc import Iterable
from datetime import datetime

import structlog

from dataplane.gateway import counting, pinning, serving, snapshots, standing
from dataplane.runtime import asking, sharing, sweeping
from dataplane.telemetry import meters
from schemas.kits.clocks import Clock, SystemClock
from schemas.kits.tasks import Tasks
from schemas.module import DesiredModule

logger = structlog.get_logger("dataplane.gateway.hosting")

START_SECONDS = 10.0
"""A module's start that takes longer is given up (it is tried again later)."""
STOP_SECONDS = 10.0
"""A module's end that takes longer is cut off."""
GRACE_SECONDS = 30.0
"""How long requests may stay inside a module that was replaced or removed."""


class Host:
    """The modules of one worker."""

    def __init__(
        self, clock: Clock | None = None, *, grace: float = GRACE_SECONDS, start: float = START_SECONDS
    ) -> None:
        self.snapshot = snapshots.Snapshot()
        """What is served; read it once per request."""
        self.departed = pinning.Watch()
        """The generations that were unloaded, and those of them that somebody holds on to."""
        self.accesses = counting.Accesses()
        """How often organisations were let in."""
        self.book = meters.Book()
        """How often each route was called."""
        self._clock = clock or SystemClock()
        self._grace = grace
        self._start = start
        self._retiring = Tasks(self._clock)
        self._old: dict[asyncio.Task[None], serving.Served] = {}
        self._starting: set[serving.Served] = set()

    def everyone(self) -> list[serving.Served]:
        """Every module that may run code here, also those that start or drain; asked from any thread."""
        return [*self._starting, *self.snapshot.modules.values(), *list(self._old.values())]

    @property
    def retiring(self) -> int:
        """How many older instances are still being drained or stopped."""
        return len(self._retiring)

    async def install(self, served: serving.Served) -> None:
        """Start the module and publish it instead of its older generation, which drains in the background.

        StartFailed: nothing was published, what served before still does.
        """
        assert served.instance is not None, "a broken module is blocked, not installed"
        self._starting.add(served)
        try:
            with sharing.within(served.share):
                await served.instance.start(self._start)
        finally:
            self._starting.discard(served)
        served.state = served.instance.state
        self._publish(served)
        logger.info("module serves", module=served.name, generation=served.generation, uid=served.uid)

    def renew(self, name: str, uid: str, generation: int, desired: DesiredModule) -> datetime | None:
        """Publish another generation around the instance that serves; when, or None if none of that uid does.

        Nothing starts, nothing is drained: the requests inside belong to both.
        """
        before = self.snapshot.modules.get(name)
        if before is None or before.uid != uid or before.instance is None:
            return None
        served = before.renewed(generation, desired)
        served.since = self._clock.now()
        self.snapshot = self.snapshot.with_module(served)
        before.release()
        logger.info("module serves", module=name, generation=generation, uid=uid)
        return served.since

    def block(self, served: serving.Served) -> None:
        """Publish a module that cannot serve: its known routes answer 503."""
        self._publish(served)
        logger.warning(
            "module cannot serve",
            module=served.name,
            generation=served.generation,
            reason="" if served.trouble is None else served.trouble.reason,
        )

    def trouble(self, name: str, uid: str, trouble: serving.Trouble | None) -> bool:
        """Take a module that runs out of service, or back into it (None); whether there is one.

        Its instance stays as it is, and so do the requests inside.
        """
        before = self.snapshot.modules.get(name)
        if before is None or before.uid != uid or before.instance is None:
            return False
        served = before.troubled(trouble)
        self.snapshot = self.snapshot.with_module(served)
        before.release()
        reason = "" if trouble is None else trouble.reason
        logger.warning("module out of service" if trouble else "module back in service", module=name, reason=reason)
        return True

    async def check(self, name: str, uid: str, timeout: float) -> asking.Answer | None:
        """What the own check of a module's instance says; None: there is no such instance, or it has no check."""
        served = self.snapshot.modules.get(name)
        if served is None or served.uid != uid or served.instance is None or not served.instance.has_check:
            return None
        with sharing.within(served.share):
            answer = await served.instance.check(timeout)
        served.pulse.answer, served.pulse.checked_at = answer, self._clock.now()
        return answer

    def look(self, names: Iterable[str]) -> None:
        """Let the circuits of these modules go on to what time alone brings."""
        for name in names:
            if (served := self.snapshot.modules.get(name)) is not None:
                served.pulse.breaker.look(self._clock.monotonic())

    def stand(self, now: standing.Standing) -> None:
        """Publish other flags, tenants and revocations; decisions of the next request read them."""
        self.snapshot = self.snapshot.with_standing(now)

    async def remove(self, name: str, uid: str) -> None:
        """Take a module out of service; returns when its routes are gone and nobody is inside any more.

        A module of that name with another uid stays.
        """
        served = self.snapshot.modules.get(name)
        if served is None or served.uid != uid:
            return
        self.snapshot = self.snapshot.without(name)
        sweeping.pace(len(self.snapshot.modules))
        logger.info("module removed", module=name, generation=served.generation, uid=uid)
        await asyncio.shield(self._retire(served))

    async def close(self) -> None:
        """Stop every module, all at once; requests still inside are cut off."""
        modules = list(self.snapshot.modules.values())
        self.snapshot = dataclasses.replace(self.snapshot, number=self.snapshot.number + 1, modules={}, table={})
        for served in self._old.values():
            if served.inside.emptied is not None:
                served.inside.emptied.set()
        await asyncio.gather(*(self._let_go(served, 0.0) for served in modules), *self._old)

    def _publish(self, served: serving.Served) -> None:
        before = self.snapshot.modules.get(served.name)
        if before is not None and (before.uid, before.generation) == (served.uid, served.generation):
            served.pulse = before.pulse
        served.since = self._clock.now()
        served.count_in(self.book, before)
        self.snapshot = self.snapshot.with_module(served)
        sweeping.pace(len(self.snapshot.modules))
        if before is not None:
            self._retire(before)

    def _retire(self, served: serving.Served) -> "asyncio.Task[None]":
        task = self._retiring.start(self._let_go(served, self._grace), f"retire {served.name} {served.generation}")
        self._old[task] = served
        task.add_done_callback(lambda done: self._old.pop(done, None))
        return task

    async def _let_go(self, served: serving.Served, grace: float) -> None:
        instance = served.instance
        if instance is None:
            served.release()
            return
        cut = await served.inside.drain(grace)
        if cut:
            logger.warning("requests cut off", module=served.name, generation=served.generation, requests=cut)
        await instance.stop(STOP_SECONDS)
        served.release()
        self.departed.left(served.name, served.generation, self._clock.now(), instance.unload())
