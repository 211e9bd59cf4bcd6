"""Background tasks that are held, named, and never die unseen.

`asyncio` keeps only weak references to tasks; a task that nobody holds may vanish, and one that fails is
silent until it is collected.  A `TaskGroup` of the standard library ends all for the failure of one.  What
servers need is between: each task is held, its failure is logged and counted, and it is started anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock, SystemClock

logger = logging.getLogger(__name__)


class Tasks:
    """A set of background tasks that are ended together."""

    def __init__(self, clock: Clock | None = None, backoff: Backoff | None = None) -> None:
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(base=0.1, cap=5.0)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failures = 0
        """How many times a supervised body failed."""

    def start(self, body: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``body`` once, held until it ends; a failure is logged."""
        task = asyncio.get_running_loop().create_task(body, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(self, body: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[Any]:
        """Run ``body`` for ever: after a failure, or an end, start it anew with back-off."""
        return self.start(self._for_ever(body, name), name)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        while tasks := {task for task in self._tasks if not task.done()}:
            for task in tasks:
                task.cancel()
            # again after a second: `asyncio.wait_for` of Python 3.11 may swallow a cancellation
            await asyncio.wait(tasks, timeout=1.0)

    def __len__(self) -> int:
        """How many tasks are running."""
        return len(self._tasks)

    async def _for_ever(self, body: Callable[[], Awaitable[None]], name: str) -> None:
        failures = 0
        while True:
            started = self._clock.monotonic()
            try:
                await body()
            except asyncio.CancelledError:
                raise
            except Exception:
                self.failures += 1
                logger.exception("task failed", extra={"task": name})
            if self._clock.monotonic() - started > self._backoff.cap:
                failures = 0
            failures += 1
            await self._clock.sleep(self._backoff.delay(failures))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures += 1
            logger.error("task failed", exc_info=error, extra={"task": task.get_name()})
