"""From the agent's loop to the serving loop and back: the gateway's host as the agent sees it.

Modules start and requests run on the serving loop only; each call here is one coroutine over there, awaited here.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import Any, TypeVar

from dataplane.agent.holding import Wanted
from dataplane.gateway import counting, hosting, serving
from dataplane.gateway.standing import Standing
from dataplane.runtime import asking
from dataplane.telemetry import meters

T = TypeVar("T")


class Crossing:
    """Calls `hosting.Host` on the serving loop."""

    def __init__(self, host: hosting.Host, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop

    @property
    def accesses(self) -> counting.Accesses:
        """How often organisations were let in."""
        return self._host.accesses

    @property
    def book(self) -> meters.Book:
        """How often each route was called."""
        return self._host.book

    def counting(self) -> set[int]:
        """The numbers of the series in which somebody may still count."""
        stray = {meter.number for meter in list(self._host.book.stray.values())}
        return stray.union(*(served.counted() for served in self._host.everyone()))

    @property
    def pinned(self) -> int:
        """How many unloaded generations somebody holds on to."""
        return len(self._host.departed.pinned())

    async def install(self, served: serving.Served) -> None:
        """Start a module and publish it; StartFailed."""
        await self._over(self._host.install(served))

    async def block(self, served: serving.Served, *, instead: bool = False) -> None:
        """Publish a module that cannot serve, unless it serves; ``instead``: also in place of this very generation."""

        async def publish() -> None:
            before = self._host.snapshot.modules.get(served.name)
            stays = before is not None and before.uid == served.uid and before.trouble is None
            if not stays or (instead and before is not None and before.generation == served.generation):
                self._host.block(served)

        await self._over(publish())

    async def renew(self, module: Wanted) -> datetime | None:
        """Publish a module around the instance that serves already; when, or None if none does."""

        async def publish() -> datetime | None:
            return self._host.renew(module.name, module.uid, module.generation, module.desired)

        return await self._over(publish())

    def modules(self) -> list[serving.Served]:
        """Every module that is published, now."""
        return list(self._host.snapshot.modules.values())

    async def check(self, name: str, uid: str, timeout: float) -> asking.Answer | None:
        """A module's own check; None: it has none, or is not there."""
        return await self._over(self._host.check(name, uid, timeout))

    async def trouble(self, name: str, uid: str, trouble: serving.Trouble | None) -> bool:
        """Take a running module out of service, or back into it."""

        async def publish() -> bool:
            return self._host.trouble(name, uid, trouble)

        return await self._over(publish())

    async def look(self, names: Iterable[str]) -> None:
        """Let these modules' circuits go on to what time alone brings."""

        async def look() -> None:
            self._host.look(names)

        await self._over(look())

    async def remove(self, name: str, uid: str) -> None:
        """Take a module out and wait until it is drained."""
        await self._over(self._host.remove(name, uid))

    async def stand(self, standing: Standing) -> None:
        """Let decisions read other flags, tenants and revocations."""

        async def publish() -> None:
            self._host.stand(standing)

        await self._over(publish())

    async def lag(self) -> float:
        """How many seconds the serving loop takes until it runs something new."""
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def nothing() -> None:
            return

        await self._over(nothing())
        return loop.time() - started

    async def _over(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
