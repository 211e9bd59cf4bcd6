"""Which unloaded generations are still there, though they should be gone: a leak's name, before it is a problem.

An unloaded generation leaves weak references behind (`dataplane.gateway.serving.Loaded.unload`).  What of it is alive
after a full garbage collection is held by somebody: a task, a thread or a registry that the module's author forgot.
No collection is run for this; Python's own are counted.  Written on the serving loop by `dataplane.gateway.hosting`,
read from any thread.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from schemas.meta import Json

_FULL: Final = 2
"""CPython's oldest generation: a collection of it sees everything."""


@dataclass(frozen=True, slots=True)
class Departed:
    """One generation that was unloaded."""

    module: str
    generation: int
    at: datetime
    collections: int
    """How many full collections there had been."""
    remains: Sequence["weakref.ref[Any]"]

    @property
    def alive(self) -> bool:
        """Whether something of it is still there."""
        return any(ref() is not None for ref in self.remains)

    def wire(self) -> Json:
        """What is shown of it."""
        return {"module": self.module, "generation": self.generation, "unloadedAt": self.at.isoformat()}


def full_collections() -> int:
    """How many full collections this process has seen."""
    return int(gc.get_stats()[_FULL]["collections"])


class Watch:
    """The generations that left this worker."""

    def __init__(self, collections: Callable[[], int] = full_collections) -> None:
        self._collections = collections
        self._departed: tuple[Departed, ...] = ()
        self.unloaded = 0
        """How many generations were unloaded in this boot."""

    def left(self, module: str, generation: int, at: datetime, remains: Sequence["weakref.ref[Any]"]) -> None:
        """A generation was unloaded; ``remains`` must die."""
        self.unloaded += 1
        departed = Departed(module, generation, at, self._collections(), remains)
        self._departed = (*(each for each in self._departed if each.alive), departed)

    def pinned(self) -> list[Departed]:
        """Those that outlived a full collection, the oldest first."""
        now = self._collections()
        return [each for each in self._departed if each.collections < now and each.alive]

    def wire(self) -> Json:
        """The gauge, as ``/modules/system/info`` shows it."""
        pinned = self.pinned()
        return {"unloaded": self.unloaded, "pinned": len(pinned), "pinnedGenerations": [p.wire() for p in pinned[:20]]}
