"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time by hand: `advance` moves both clocks and wakes whoever slept long enough."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + max(seconds, 0.0), next(self._order), future))
        await future

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as when the machine sleeps or somebody sets it."""
        self._start += timedelta(seconds=seconds)

    @property
    def sleepers(self) -> int:
        """How many tasks are waiting."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers one by one in the order of their deadlines."""
        target = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._elapsed = target
        await self.settle()

    @staticmethod
    async def settle(rounds: int = 50) -> None:
        """Let every ready task run until it waits again."""
        for _ in range(rounds):
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn
