"""A bounded number of places for work that is mostly quick: whoever takes long goes on without one.

A plain semaphore bounds how much goes on at once, and lets a few that hang keep everybody else waiting.  Here each
piece of work holds its place for a while at most; so many that hang slow the others down, and never stop them.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Places:
    """``count`` pieces of work at once, not counting those that have been at it for longer than ``hold`` seconds."""

    def __init__(self, count: int, hold: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._hold = hold

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which begins when there is a place for it."""
        try:
            await self._free.acquire()
        except BaseException:
            work.close()
            raise
        try:
            task = asyncio.get_running_loop().create_task(work)
            try:
                await asyncio.wait({task}, timeout=self._hold)
            except BaseException:
                task.cancel()
                raise
        finally:
            self._free.release()
        try:
            return await task
        finally:
            task.cancel()
