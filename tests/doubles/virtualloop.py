"""An event loop on virtual time: an hour passes in a moment, and the order of ready callbacks is a seed's.

    loop = VirtualLoop(seed=7)
    loop.run(main())                 # on failure the seed is added to the message

Time moves only when nothing is ready, and then straight to the next timer.  While a thread is busy for the loop
(`loop.outside()` around the call) time stands still and the loop waits for it for real.
"""

import asyncio
import contextlib
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_STUCK = 20.0
"""Real seconds after which waiting for a thread counts as a hang."""


class _VirtualSelector(selectors.SelectSelector):
    """Instead of waiting, moves the clock; waits for real only for threads."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        if loop is None:
            return super().select(0)
        if loop.outsiders and (timeout is None or timeout > 0):
            ready = super().select(_STUCK)
            if not ready:
                raise RuntimeError(f"a thread did not come back within {_STUCK} s")
            return ready
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is ready, and no timer will ever make it so: the test is deadlocked")
        if not ready and timeout:
            loop.skip(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop whose time is virtual and whose ready callbacks are shuffled by a seed."""

    def __init__(self, seed: int = 0, *, shuffle: bool = True) -> None:
        selector = _VirtualSelector()
        super().__init__(selector)
        selector.loop = self
        self.seed = seed
        self.random = Random(seed)
        self.turns = 0
        """How many times the loop went round."""
        self.outsiders = 0
        self.on_turn: Callable[[int], None] | None = None
        """Called at each turn, before its callbacks: where faults are injected."""
        self._shuffle = shuffle
        self._virtual = 0.0

    def time(self) -> float:
        return self._virtual

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self._virtual += seconds

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """A thread works for the loop meanwhile: time stands still."""
        self.outsiders += 1
        try:
            yield
        finally:
            self.outsiders -= 1

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """Run ``body`` to its end and close the loop; a failure tells the seed."""
        try:
            asyncio.set_event_loop(self)
            return self.run_until_complete(body)
        except BaseException as problem:
            problem.add_note(f"seed of the virtual loop: {self.seed}")
            raise
        finally:
            self._wind_up()

    def _run_once(self) -> None:
        self.turns += 1
        if self.on_turn is not None:
            self.on_turn(self.turns)
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]  # asyncio's own queue of ready handles
        if self._shuffle and len(ready) > 1:
            handles = list(ready)
            self.random.shuffle(handles)
            ready.clear()
            ready.extend(handles)
        super()._run_once()  # type: ignore[misc]  # the one method that goes round once

    def _wind_up(self) -> None:
        self.on_turn = None
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError):
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.close()


class VirtualClock:
    """A `schemas.kits.clocks.Clock` on the time of the loop on which it was made; ``skew``: seconds of wall time."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC), skew: float = 0.0) -> None:
        self._start = start + timedelta(seconds=skew)
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def virtually(body: Coroutine[Any, Any, T], seed: int = 0) -> T:
    """Run ``body`` on a virtual loop of its own."""
    return VirtualLoop(seed).run(body)
