"""The circuit breaker of one module on one worker: who fails most calls gets none for a while.

    CLOSED ──too many errors, or slow answers, within the window──▶ OPEN ──its time is over──▶ HALF_OPEN
       ▲                                                             ▲                            │
       └── every probe went well, or nobody called for a minute ─────┼────────────────────────────┤
                                                                     └── a probe failed ──────────┘

Pure: time is handed in (monotonic seconds).  What always holds: fewer calls than the policy's minimum open nothing; an
open circuit hands on no call before its time is over; a half-open one hands on `PROBES` at a time; what ends later than
the state in which it began changes nothing.  Asked by `dataplane.gateway.pulsing` on the way of each request.

Source: M. Nygard, Release It!, 2nd edition, "Circuit Breaker"; the sliding window is in buckets, as in resilience4j.
"""

import math
from typing import Final

from schemas.module import BreakerPolicy, CircuitState

PROBES: Final = 3
"""How many calls have to go well, and may be under way, while a circuit is half open."""
LONGEST_SECONDS: Final = 60.0
"""An open circuit lets somebody through after this time at the latest; a half-open one that nobody calls closes."""
_BUCKETS: Final = 10


class Breaker:
    """One circuit."""

    __slots__ = (
        "_bucket",
        "_buckets",
        "_passed",
        "_policy",
        "_since",
        "_trips",
        "_under_way",
        "_until",
        "_width",
        "message",
        "state",
        "turn",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._width = policy.window_seconds / _BUCKETS
        self._buckets = [[0, 0, 0] for _ in range(_BUCKETS)]
        self._bucket = 0
        self._trips = 0
        self._until = 0.0
        self._since = 0.0
        self._passed = 0
        self._under_way = 0
        self.state = CircuitState.CLOSED
        self.turn = 0
        """Counts half-open times; a probe carries the one in which it was let through."""
        self.message = ""
        """What opened the circuit; empty while it is closed."""

    def admit(self, now: float) -> int:
        """For a circuit that is not closed: the turn under which a call is let through as a probe; 0: it is not."""
        self.look(now)
        if self.state is CircuitState.HALF_OPEN and self._under_way + self._passed < PROBES:
            self._under_way += 1
            return self.turn
        return 0

    def note(self, now: float, *, failed: bool, slow: bool, turn: int = 0) -> None:
        """A call that the module was given has ended; ``turn`` as `admit` gave it, 0 for one that needed no leave."""
        if turn:
            self._probed(now, bad=failed or slow, turn=turn)
        elif self.state is CircuitState.CLOSED:
            counts = self._counts(now)
            counts[0] += 1
            if failed or slow:
                counts[1] += failed
                counts[2] += slow
                self._judge(now)

    def withdraw(self, turn: int) -> None:
        """A probe ended without saying anything about the module."""
        if turn and turn == self.turn and self.state is CircuitState.HALF_OPEN:
            self._under_way -= 1

    def look(self, now: float) -> None:
        """Go on to what time alone brings."""
        if self.state is CircuitState.OPEN and now >= self._until:
            self.state = CircuitState.HALF_OPEN
            self.turn += 1
            self._since, self._passed, self._under_way = now, 0, 0
        elif self.state is CircuitState.HALF_OPEN and not self._under_way and now - self._since >= LONGEST_SECONDS:
            self._close()

    def retry_after(self, now: float) -> int:
        """In how many seconds a refused caller may try again, at least 1."""
        return max(1, math.ceil(self._until - now))

    def _counts(self, now: float) -> list[int]:
        """The bucket of this moment; those that are over are emptied."""
        bucket = int(now / self._width)
        if bucket != self._bucket:
            for step in range(1, min(bucket - self._bucket, _BUCKETS) + 1):
                self._buckets[(self._bucket + step) % _BUCKETS] = [0, 0, 0]
            self._bucket = bucket
        return self._buckets[bucket % _BUCKETS]

    def _judge(self, now: float) -> None:
        calls, errors, slow = (sum(column) for column in zip(*self._buckets, strict=True))
        if calls < self._policy.minimum_calls:
            return
        within = f"of {calls} calls within {self._policy.window_seconds:g} s"
        if errors * 100 >= self._policy.error_percent * calls:
            self._trip(now, f"{errors} {within} failed")
        elif slow * 100 >= self._policy.slow_percent * calls:
            self._trip(now, f"{slow} {within} took nearly as long as they may")

    def _probed(self, now: float, *, bad: bool, turn: int) -> None:
        if turn != self.turn or self.state is not CircuitState.HALF_OPEN:
            return
        self._under_way -= 1
        if bad:
            self._trip(now, self.message)
            return
        self._since = now
        self._passed += 1
        if self._passed >= PROBES:
            self._close()

    def _trip(self, now: float, message: str) -> None:
        self._trips += 1
        wait = min(self._policy.open_seconds * 2.0 ** min(self._trips - 1, 16), LONGEST_SECONDS)
        self.state, self.message = CircuitState.OPEN, message
        self._until = now + max(wait, self._policy.open_seconds)
        self._empty()

    def _close(self) -> None:
        self.state, self.message, self._trips = CircuitState.CLOSED, "", 0
        self._empty()

    def _empty(self) -> None:
        self._buckets = [[0, 0, 0] for _ in range(_BUCKETS)]
