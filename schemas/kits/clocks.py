"""Time as a thing that is handed in, so that tests can hold it.

Wall time is for people and stored records; monotonic time for every deadline, lease and age.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What reads and waits for time."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def unix(self) -> float:
        """The same in seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of monotonic time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    unix = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    """The functions themselves, since each request reads them several times."""

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)
