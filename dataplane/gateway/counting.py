"""How many calls of each organisation each module has let in: two additions on the way of a request, nothing else.

Counted on the serving loop by `dataplane.gateway.entering`; told from the agent's thread by
`dataplane.agent.counting`.  Bounded by the accesses that there are, for only who was admitted is counted.
"""

import time
from collections.abc import Callable
from typing import Any

Pair = tuple[str, str]
"""Organisation and module."""


class Accesses:
    """The counts of one boot; they only grow."""

    __slots__ = ("_counts", "_now")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._counts: dict[Pair, list[Any]] = {}
        self._now = now

    def count(self, pair: Pair) -> None:
        """One more call that was let in."""
        entry = self._counts.get(pair)
        if entry is None:
            self._counts[pair] = [1, self._now()]
        else:
            entry[0] += 1
            entry[1] = self._now()

    def told(self) -> dict[Pair, tuple[int, float]]:
        """Count and last unix time of each pair, in the order in which they came first; from any thread."""
        return {pair: (entry[0], entry[1]) for pair, entry in self._counts.copy().items()}
