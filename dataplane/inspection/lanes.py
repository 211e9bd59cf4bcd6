"""Who is inspected when: a quick lane for nearly all, and slower ones for those who take their time.

An inspection begins in the quick lane.  One that has no answer when its time in a lane is over goes on in the next
slower one and gives its place to others; where that is full it is ended, and begins again when that lane has room.  So
code that hangs costs the ones behind it a tenth of a second of one place, however many hang; and code that takes
somewhat longer waits for those that hang only as long as they are in the same lane.  How long the machine kept it from
the processor does not count (`excuse`): where everything is slow, nothing is slower than the rest.

Pure: holds requests and moments, knows neither processes nor a clock.  Used by `dataplane.inspection.zygotes`.
"""

import enum
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from schemas.inspections import InspectionRequest

SHARED: Final = 64
"""How many inspections one process does at most; making one costs as much as five plain modules' inspections."""
MANY: Final = 8
"""How many have to wait for another process to be made, which costs as much as some plain modules' inspections."""
STAY_SECONDS: Final = 2.0
"""How long a process that left no trace waits for somebody else's request: in a stream of them that comes slowly, too,
a process is shared."""


class Lane(enum.IntEnum):
    """Where an inspection runs; the greater, the slower."""

    QUICK = 0
    SLOW = 1
    LAST = 2


PLACES: Final = {Lane.QUICK: 2, Lane.SLOW: 2, Lane.LAST: 3}
"""Inspections at once; more quick ones would take the machine from those who serve, the others have lower priority."""
REST_SECONDS: Final = 0.15
"""For how long nothing was asked when a process in reserve is made: the way from an inspection to the workers is over
by then, and did not have to share two cores with a fork and its page faults."""
SECONDS: Final = {Lane.QUICK: 0.1, Lane.SLOW: 1.0, Lane.LAST: math.inf}
"""How long an inspection may stay."""


@dataclass(slots=True, eq=False)
class Run:
    """One process at work."""

    request: InspectionRequest
    started: float
    """When the present inspection began."""
    lane: Lane = Lane.QUICK
    entered: float = 0.0
    """When it came into its lane."""
    alone: bool = False
    """Whether it does this one only."""
    done: int = 0
    """How many it has done before."""

    @property
    def fresh(self) -> bool:
        """Whether no other code ran in this process before."""
        return self.done == 0

    @property
    def deadline(self) -> float:
        """When the present inspection's time is over."""
        return self.started + self.request.timeout_seconds

    @property
    def stays_until(self) -> float:
        """When its time in its lane is over."""
        return self.entered + SECONDS[self.lane]

    @property
    def open(self) -> bool:
        """Whether another request can follow in this process."""
        return self.lane is Lane.QUICK and not self.alone and self.done + 1 < SHARED


@dataclass(slots=True)
class Lanes:
    """Who waits, who runs, and who is next."""

    waiting: deque[InspectionRequest] = field(default_factory=deque)
    again: deque[InspectionRequest] = field(default_factory=deque)
    """Those that went wrong behind others: each is next, in a process of its own."""
    aside: dict[Lane, deque[InspectionRequest]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    """Those that wait for a slower lane."""
    running: list[Run] = field(default_factory=list)
    resting: list[Run] = field(default_factory=list)
    """Those that have answered, left no trace, and wait for another request."""
    asked_at: float = -math.inf
    """When the newest request came."""

    def ask(self, request: InspectionRequest, now: float) -> None:
        """A request came."""
        self.waiting.append(request)
        self.asked_at = now

    def reserve_at(self) -> float | None:
        """From when on a process may be made in reserve; None: somebody waits, and is to have the machine first."""
        return None if self.waiting else self.asked_at + REST_SECONDS

    def begin(self, now: float) -> Run | None:
        """Who begins now in a new process; None: nobody waits, there is no room, or a process is free in a moment."""
        for lane in (Lane.LAST, Lane.SLOW):
            if self.aside[lane] and self._room(lane):
                return self._run(Run(self.aside[lane].popleft(), now, lane, now, alone=True))
        if not self._room(Lane.QUICK):
            return None
        if self.again:
            return self._run(Run(self.again.popleft(), now, entered=now, alone=True))
        if self.waiting and (len(self.waiting) >= MANY or not any(run.open for run in self.running)):
            return self._run(Run(self.waiting.popleft(), now, entered=now))
        return None

    def follow(self, run: Run, now: float) -> bool:
        """``run`` has answered and left no trace: whether it goes on with another request."""
        if not run.open or self.again or not self.waiting:
            return False
        self._next(run, now)
        return True

    def rest(self, run: Run, now: float) -> bool:
        """``run`` has answered, left no trace, and nobody waits: whether it stays for a while."""
        if not run.open or self.again:
            return False
        self.running.remove(run)
        self.resting.append(run)
        run.entered = now
        return True

    def resume(self, now: float) -> Run | None:
        """Who begins now in a process that rests; None: nobody waits, none rests, or there is no room."""
        if self.again or not self.waiting or not self.resting or not self._room(Lane.QUICK):
            return None
        run = self._run(self.resting.pop())
        self._next(run, now)
        return run

    def rested(self, now: float) -> list[Run]:
        """Those that have rested long enough, which are over."""
        over = [run for run in self.resting if run.entered + STAY_SECONDS <= now]
        for run in over:
            self.end(run)
        return over

    def end(self, run: Run) -> None:
        """``run`` is over."""
        (self.resting if run in self.resting else self.running).remove(run)

    def repeat(self, run: Run) -> None:
        """What ``run`` was at has to be inspected again, by itself."""
        self.again.append(run.request)

    def slowed(self, now: float) -> Iterator[tuple[Run, bool]]:
        """Those whose time in their lane is over, and whether they go on in the next; who does not is to be ended."""
        for run in self.overdue(now):
            slower = Lane(run.lane + 1)
            stays = not self.aside[slower] and self._room(slower)
            if stays:
                run.lane, run.entered = slower, now
            else:
                self.aside[slower].append(run.request)
            yield run, stays

    def overdue(self, now: float) -> list[Run]:
        """Those whose time in their lane is over, as far as `excuse` was told."""
        return [run for run in self.running if run.stays_until <= now]

    def excuse(self, run: Run, seconds: float) -> None:
        """For so long ``run`` had to wait for the processor: that is not its own time."""
        run.entered += seconds

    def late(self, now: float) -> list[Run]:
        """Those whose time is over."""
        return [run for run in self.running if run.deadline <= now]

    def next_moment(self) -> float | None:
        """When somebody's time is over, here, in its lane or at rest; None: there is nobody."""
        moments = [min(run.deadline, run.stays_until) for run in self.running]
        return min([*moments, *(run.entered + STAY_SECONDS for run in self.resting)], default=None)

    def _room(self, lane: Lane) -> bool:
        return sum(run.lane is lane for run in self.running) < PLACES[lane]

    def _next(self, run: Run, now: float) -> None:
        run.request, run.started, run.entered, run.done = self.waiting.popleft(), now, now, run.done + 1

    def _run(self, run: Run) -> Run:
        self.running.append(run)
        return run
