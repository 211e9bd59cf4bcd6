"""When a worker has grown too large to stay: it asks for a successor, and serves on until that is ready.

Code that Python cannot take back (C extensions, what a module's author holds on to) makes a worker grow.  Above the
limit it asks once; who supervises it starts another worker beside it and then ends this one by a drain, so that no
request fails.  Without a supervisor the question is a log line.  Pure; told of memory by `dataplane.app`.
"""

from collections.abc import Callable
from typing import Final

import structlog

logger = structlog.get_logger("dataplane.recycling")

LOOKS: Final = 3
"""So often in a row, some seconds apart, memory has to be above the limit: a peak is no reason."""
_ROOM: Final = 1.25
"""A successor needs what this worker needed at its start: with less room than this above it, each would ask at once."""
_MIB: Final = 1024 * 1024


class Recycler:
    """Looks at one worker's memory."""

    def __init__(self, limit: int, pinned: Callable[[], int], ask: Callable[[str], None]) -> None:
        """``limit`` in bytes, 0: none; ``pinned`` counts generations that should be gone; ``ask`` is called once."""
        self._limit = limit
        self._pinned = pinned
        self._ask = ask
        self._effective: float | None = None
        self._above = 0
        self.asked = False
        """Whether it asked."""

    def look(self, memory: int) -> None:
        """The worker has ``memory`` resident bytes now; the first look is right after its start."""
        if not self._limit or self.asked:
            return
        if self._effective is None:
            self._effective = max(float(self._limit), memory * _ROOM)
            if self._effective > self._limit:
                logger.warning(
                    "memory limit is too low for the modules of this worker; the worker asks later",
                    limit_mib=self._limit // _MIB,
                    at_start_mib=memory // _MIB,
                    asks_above_mib=int(self._effective) // _MIB,
                )
        self._above = self._above + 1 if memory > self._effective else 0
        if self._above >= LOOKS:
            self.asked = True
            reason = f"memory is {memory // _MIB} MiB, above the limit of {int(self._effective) // _MIB} MiB"
            if pinned := self._pinned():
                reason += f"; {pinned} unloaded generations are still held by their own code"
            logger.warning("worker asks to be recycled", reason=reason)
            self._ask(reason)
