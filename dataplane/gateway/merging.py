"""The OpenAPI document of what a host serves at this moment: made when somebody asks, kept while it is true.

Fragments (`dataplane.gateway.describing`) are made once per module generation, in a thread with short turns that rests
between them, never on the serving loop.  A module whose models hang the thread is described plainly and the thread left
behind; the others are not held up.  Called by `dataplane.gateway.pages`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from dataplane.gateway import describing
from dataplane.gateway.serving import Served
from dataplane.gateway.snapshots import Snapshot
from dataplane.runtime import turns

logger = structlog.get_logger("dataplane.gateway.merging")

DEADLINE_SECONDS: Final = 5.0
"""A module that takes longer to describe itself is left undescribed."""
_REST_SECONDS: Final = 0.0005


class Book:
    """The merged document, and those of single modules."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        version: str,
        *,
        deadline: float = DEADLINE_SECONDS,
        describe: Callable[[Served], describing.Fragment] = describing.fragment,
    ) -> None:
        self._snapshot = snapshot
        self._version = version
        self._deadline = deadline
        self._describe = describe
        self._making = asyncio.Lock()
        self._made: tuple[int, describing.Document] | None = None

    async def document(self) -> describing.Document:
        """Everything that is served now; never older than this call."""
        if self._made is None or self._made[0] != self._snapshot().number:
            async with self._making:
                snapshot = self._snapshot()
                if self._made is None or self._made[0] != snapshot.number:
                    self._made = (snapshot.number, await self._make(_in_service(snapshot)))
        return self._made[1]

    async def of_modules(self, names: Iterable[str]) -> describing.Document | None:
        """The document of those of the modules that serve; None if none does."""
        async with self._making:
            wanted = set(names)
            served = [each for each in _in_service(self._snapshot()) if each.name in wanted]
            return await self._make(served) if served else None

    async def _make(self, modules: list[Served]) -> describing.Document:
        while True:
            job = _Job(modules, self._version, self._describe)
            stuck = await job.run(self._deadline)
            if stuck is None:
                return job.document.result()
            logger.error("module takes too long to describe", module=stuck.name, generation=stuck.generation)
            stuck.fragment = describing.plain(stuck, "making its OpenAPI document took too long")


def _in_service(snapshot: Snapshot) -> list[Served]:
    return [snapshot.modules[name] for name in sorted(snapshot.modules) if snapshot.modules[name].instance is not None]


class _Job:
    """One thread's work: the missing fragments, then the document."""

    def __init__(self, modules: list[Served], version: str, describe: Callable[[Served], describing.Fragment]) -> None:
        self._loop = asyncio.get_running_loop()
        self.document: asyncio.Future[describing.Document] = self._loop.create_future()
        self._at: Served | None = None
        self._modules = modules
        self._version = version
        self._describe = describe
        self._left = False

    async def run(self, deadline: float) -> Served | None:
        """Wait for the document; if one module takes longer than ``deadline``, leave the thread and return it."""
        threading.Thread(target=self._work, name="modplane-openapi", daemon=True).start()
        while True:
            at = self._at
            done, _ = await asyncio.wait({self.document}, timeout=deadline)
            if done:
                return None
            if at is not None and at is self._at and at.fragment is None:
                self._left = True
                return at

    def _work(self) -> None:
        try:
            with turns.short():
                parts = [self._part(served) for served in self._modules]
                self._deliver(describing.joined(parts, self._version))
        except _LeftError:
            return
        except Exception as error:  # noqa: BLE001 - handed over to whoever waits
            self._deliver(error)

    def _part(self, served: Served) -> describing.Fragment:
        if self._left:
            raise _LeftError
        part = served.fragment
        if part is None:
            self._at = served
            made = self._describe(served)
            # a description that came too late does not take the place of the plain one
            served.fragment = part = served.fragment or made
            time.sleep(_REST_SECONDS)
        return part

    def _deliver(self, outcome: describing.Document | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: describing.Document | Exception) -> None:
        if self.document.done():
            return
        if isinstance(outcome, Exception):
            self.document.set_exception(outcome)
        else:
            self.document.set_result(outcome)


class _LeftError(Exception):
    """Nobody waits for this thread any more."""
