"""The work queue: which module is looked at next, and which has to wait.

What always holds: a key is queued once however often it is added; one worker holds a key at a time; an add
while it is held makes exactly one more turn; of several delayed adds the earliest wins; what a person did
overtakes what only time asked for, and still nothing starves, because priority is a head start in seconds.
Back-off belongs to a uid, lasts outside the worker, and grows only when a retry that was due has failed.

`Schedule` is the pure core (time is an argument); `WorkQueue` waits on a clock around it.  Called by
`controlplane.reconcile.looping`; the store's changes and the fleet add keys, the loop's workers take them.
"""

import asyncio
import heapq
import itertools
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from controlplane.telemetry import instruments
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock


class Priority(IntEnum):
    """How many seconds of waiting a key is given ahead."""

    RESYNC = 0
    """Only time asked for it."""
    WAKE = 30
    """Something that it waits for has moved."""
    EDIT = 60
    """A person, or a program for one, wants something new."""


@dataclass(slots=True)
class _Entry:
    due: float
    priority: Priority
    order: int


@dataclass(slots=True)
class _Failing:
    uid: str
    failures: int
    due: float


class Schedule:
    """Which key is next, as a function of what was added and of time."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._waiting: dict[str, _Entry] = {}
        self._held: set[str] = set()
        self._again: dict[str, _Entry] = {}
        self._failing: dict[str, _Failing] = {}
        self._delayed: list[tuple[float, int, str]] = []
        self._ready: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self.late = 0.0
        """By how many seconds the key was overdue that was taken last."""

    def __len__(self) -> int:
        """How many keys are queued, delayed ones included."""
        return len(self._waiting) + len(self._again)

    @property
    def held(self) -> frozenset[str]:
        """The keys that a worker is busy with."""
        return frozenset(self._held)

    def failures(self, key: str) -> int:
        """How many times in a row ``key`` has failed."""
        failing = self._failing.get(key)
        return failing.failures if failing else 0

    def due(self, key: str) -> float | None:
        """When ``key`` is to be taken at the earliest; None: it is not queued."""
        entry = self._again.get(key) or self._waiting.get(key)
        return entry.due if entry else None

    def add(self, key: str, priority: Priority, now: float, delay: float = 0.0) -> None:
        """Queue ``key``; while it backs off it is held until its retry is due."""
        failing = self._failing.get(key)
        due = max(now + delay, failing.due if failing else now)
        self._merge(key, due, priority)

    def renew(self, key: str, now: float, delay: float = 0.0) -> None:
        """Queue ``key`` for a new intent: whatever failed before is forgotten, no back-off is waited for."""
        self._failing.pop(key, None)
        self._merge(key, now + delay, Priority.EDIT)

    def take(self, now: float) -> str | None:
        """The next key that is due, now held; None: nothing is due."""
        while self._delayed and self._delayed[0][0] <= now:
            _, order, key = heapq.heappop(self._delayed)
            entry = self._waiting.get(key)
            if entry is not None and entry.order == order:
                heapq.heappush(self._ready, (entry.due - entry.priority, order, key))
        while self._ready:
            _, order, key = heapq.heappop(self._ready)
            entry = self._waiting.get(key)
            if entry is not None and entry.order == order:
                del self._waiting[key]
                self._held.add(key)
                self.late = max(now - entry.due, 0.0)
                return key
        return None

    def done(self, key: str) -> None:
        """A worker lets go of ``key``; what was added meanwhile is queued now."""
        self._held.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self._merge(key, again.due, again.priority)

    def succeeded(self, key: str) -> None:
        """The turn of ``key`` came to an answer: its failures are forgotten."""
        self._failing.pop(key, None)

    def failed(self, key: str, uid: str, now: float) -> float:
        """The turn of ``key`` failed: queue it again with back-off; the wait in seconds.

        A failure before the retry was due (someone else woke the key) does not make the wait longer.
        """
        failing = self._failing.get(key)
        if failing is None or failing.uid != uid:
            failing = self._failing[key] = _Failing(uid, 0, now)
        if now >= failing.due:
            failing.failures += 1
            failing.due = now + self._backoff.delay(failing.failures)
        again = self._again.get(key)
        if again is not None and again.priority < Priority.EDIT:
            again.due = max(again.due, failing.due)
        self._merge(key, failing.due, Priority.WAKE)
        return failing.due - now

    def forget(self, key: str) -> None:
        """Drop all memory of ``key`` but for what is queued while a worker holds it."""
        self._failing.pop(key, None)
        self._waiting.pop(key, None)

    def next_due(self) -> float | None:
        """When `take` has something to give at the earliest; None: never, as things stand."""
        while self._ready and not self._is_current(self._ready[0]):
            heapq.heappop(self._ready)
        if self._ready:
            return self._waiting[self._ready[0][2]].due
        while self._delayed and not self._is_current(self._delayed[0]):
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def _is_current(self, item: tuple[float, int, str]) -> bool:
        entry = self._waiting.get(item[2])
        return entry is not None and entry.order == item[1]

    def _merge(self, key: str, due: float, priority: Priority) -> None:
        into = self._again if key in self._held else self._waiting
        old = into.get(key)
        if old is not None:
            if old.due <= due and old.priority >= priority:
                return
            due, priority = min(due, old.due), max(priority, old.priority)
        entry = into[key] = _Entry(due, priority, next(self._order))
        if into is self._waiting:
            heapq.heappush(self._delayed, (due, entry.order, key))


class WorkQueue:
    """A `Schedule` on a clock: workers wait in `get` until a key is due."""

    def __init__(self, clock: Clock, backoff: Backoff) -> None:
        self._clock = clock
        self._schedule = Schedule(backoff)
        self._moved = asyncio.Event()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        """How many keys are queued, delayed ones included."""
        return len(self._schedule)

    @property
    def held(self) -> frozenset[str]:
        """The keys that a worker is busy with."""
        return self._schedule.held

    def failures(self, key: str) -> int:
        """How many times in a row ``key`` has failed."""
        return self._schedule.failures(key)

    def retry_in(self, key: str) -> float | None:
        """Seconds until ``key`` is due; None: it is not queued."""
        due = self._schedule.due(key)
        return None if due is None else max(due - self._clock.monotonic(), 0.0)

    def add(self, key: str, priority: Priority = Priority.WAKE, delay: float = 0.0) -> None:
        """Queue ``key``, after ``delay`` seconds; while it backs off it is held until its retry is due."""
        instruments.QUEUE_ADDS.inc()
        self._schedule.add(key, priority, self._clock.monotonic(), delay)
        self._moved.set()

    def renew(self, key: str, delay: float = 0.0) -> None:
        """Queue ``key`` for a new intent: earlier failures are forgotten, no back-off is waited for."""
        instruments.QUEUE_ADDS.inc()
        self._schedule.renew(key, self._clock.monotonic(), delay)
        self._moved.set()

    async def get(self) -> str:
        """The next key, held until `done`.  A cancelled wait takes nothing."""
        async with self._turn:
            while True:
                self._moved.clear()
                key = self._schedule.take(self._clock.monotonic())
                if key is not None:
                    instruments.QUEUE_WAIT_SECONDS.observe(self._schedule.late)
                    return key
                await self._until_moved(self._schedule.next_due())

    def more(self, most: int) -> list[str]:
        """Up to ``most`` further keys that are due already, held until `done`."""
        keys: list[str] = []
        while len(keys) < most and (key := self._schedule.take(self._clock.monotonic())) is not None:
            instruments.QUEUE_WAIT_SECONDS.observe(self._schedule.late)
            keys.append(key)
        return keys

    def done(self, key: str) -> None:
        """Let go of ``key``."""
        self._schedule.done(key)
        self._moved.set()

    def succeeded(self, key: str) -> None:
        """The turn of ``key`` came to an answer."""
        self._schedule.succeeded(key)

    def failed(self, key: str, uid: str) -> float:
        """The turn of ``key`` failed: queue it again with back-off; the wait in seconds."""
        instruments.QUEUE_RETRIES.inc()
        wait = self._schedule.failed(key, uid, self._clock.monotonic())
        self._moved.set()
        return wait

    def forget(self, key: str) -> None:
        """Drop all memory of ``key``: its object is gone."""
        self._schedule.forget(key)

    async def _until_moved(self, due: float | None) -> None:
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._moved.wait())}
        if due is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(max(due - self._clock.monotonic(), 0.0))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
