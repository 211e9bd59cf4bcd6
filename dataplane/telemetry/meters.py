"""Counts the calls of routes: on the way of a request some additions, and nothing that waits or locks.

A snapshot's route holds its `Methods`, and for each method that was ever called its `Meter`.  Only the serving loop
counts.  The agent's thread looks on: it copies what it tells, and a number that is a moment old is made good by the
next look, since all of them only grow.

    Dispatcher ─▶ Methods[method] ─▶ Meter.began() … Meter.ended(…)        Book.live() ─▶ `dataplane.agent.metering`

Always: what names a series comes out of the module's description, never out of a request; methods are those of HTTP,
or `_other`.  So there are at most as many series as routes times methods, each of at most `SERIES_BYTES`, and one whose
calls took between a second and five, or between one millisecond and five, of at most `USUAL_BYTES`.
"""

import itertools
import math
import time
from collections.abc import Iterable
from typing import Final

from schemas.kits import sketches
from schemas.measures import OTHER
from schemas.paths import WEBSOCKET

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", WEBSOCKET})
"""Each a series of its own where it is called."""
SERIES_BYTES: Final = 48 * 1024
"""Of memory that one series takes at the most, when its calls took every duration there is."""
USUAL_BYTES: Final = 4 * 1024
"""Of memory that one takes whose durations lie in 40 buckets: between the shortest and the longest is a factor of 5."""
SUCCESS, CLIENT_ERROR, SERVER_ERROR, REFUSED, TIMEOUT = range(5)
"""What became of a call."""

_log = math.log
_FACTOR: Final = sketches.FACTOR
_OFFSET: Final = sketches.OFFSET
_LEAST: Final = sketches.LEAST
_LAST: Final = sketches.LAST

_OFFSET_OF_DAY: Final = time.time() - time.monotonic()


def time_of(monotonic: float) -> float:
    """Seconds since 1970 of a monotonic time; they never go back, whatever is done to the clock."""
    return monotonic + _OFFSET_OF_DAY


class Meter:
    """One series: the calls of one route with one method, since this boot began or since the route came."""

    __slots__ = ("buckets", "calls", "inside", "last", "method", "number", "of", "outcomes", "received", "route",
                 "seconds", "sent")  # fmt: skip

    def __init__(self, of: "Owner", route: str, method: str, number: int) -> None:
        self.of = of
        self.route = route
        self.method = method
        self.number = number
        self.calls = 0
        self.inside = 0
        self.outcomes = [0, 0, 0, 0, 0]
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.last = 0.0
        """By the monotonic clock."""
        self.buckets: sketches.Sketch = {}

    def ended(self, began: float, now: float, outcome: int, received: int = 0, sent: int = 0) -> None:
        """A call is over; times by the monotonic clock."""
        took = now - began
        index = int(_log(took) * _FACTOR + _OFFSET) if took > _LEAST else 0
        if index > _LAST:  # noqa: PLR1730 - half as long as a call of min
            index = _LAST
        buckets = self.buckets
        if index in buckets:
            buckets[index] += 1
        else:
            buckets[index] = 1
        self.seconds += took
        self.outcomes[outcome] += 1
        self.received += received
        self.sent += sent
        self.last = now
        self.calls += 1


class Owner:
    """Whose routes they are: one version of a module."""

    __slots__ = ("book", "module", "uid", "version")

    def __init__(self, module: str, uid: str, version: str) -> None:
        self.module = module
        self.uid = uid
        self.version = version
        self.book: Book | None = None
        """Where new series are entered, once the module is published."""


class Methods(dict[str, Meter]):
    """The series of one route by method; one comes into being with its first call."""

    __slots__ = ("of", "route")

    def __init__(self, of: Owner, route: str) -> None:
        super().__init__()
        self.of = of
        self.route = route

    def __missing__(self, method: str) -> Meter:
        """The series of a method that was not called before."""
        known = method if method in METHODS else OTHER
        meter = self.get(known)
        if meter is None:
            meter = Meter(self.of, self.route, known, next(_numbers))
            self[known] = meter
            if self.of.book is not None:
                self.of.book.enter(meter)
        return meter


_numbers = itertools.count(1)


class Book:
    """Every series that somebody may still count in, and those whose last numbers were not told yet."""

    def __init__(self) -> None:
        self._entered: dict[int, Meter] = {}
        self.stray = Methods(self.owner(OTHER), OTHER)
        """Calls to addresses that belong to no module."""

    def __len__(self) -> int:
        """How many series there are."""
        return len(self._entered)

    def owner(self, module: str, uid: str = "", version: str = "") -> Owner:
        """An owner whose series are entered here."""
        owner = Owner(module, uid, version)
        owner.book = self
        return owner

    def enter(self, meter: Meter) -> None:
        """A series came into being."""
        self._entered[meter.number] = meter

    def strike(self, numbers: Iterable[int]) -> None:
        """These series are gone and their last numbers told."""
        for number in numbers:
            self._entered.pop(number, None)

    def live(self) -> list[Meter]:
        """All of them, in the order in which they came; from any thread."""
        return list(self._entered.values())
