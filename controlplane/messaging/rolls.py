"""The roll of workers: what is known of each, what has to be written, who fell silent.  Pure; time is handed in.

Always: only silence while our own beat comes back makes a worker lost, and a channel that comes back gives everybody
the full time again; a report that says nothing new asks for no write; a successor is not unsaid by the process that it
replaces.
Used by `controlplane.messaging.receiving`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from schemas.meta import Json
from schemas.reports import WorkerReport, WorkerStatus

LOST_SECONDS: Final = 10.0
"""Three reports missed."""
PROVEN_SECONDS: Final = 6.0
"""For how long a returned beat proves that reports can reach us: three beats."""
FORGOTTEN_SECONDS: Final = 3600.0
"""A worker that was lost for so long is struck off."""

_VOLATILE: Final = frozenset({"reported_at", "sequence", "loop_lag_seconds", "memory_bytes", "checked", "trials"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What the store should say of one worker."""

    worker: str
    report: WorkerReport | None
    """None: only `lost` changes."""
    lost: bool = False
    gone: bool = False
    """Left in good order, or struck off: the object goes."""
    urgent: bool = True
    """Whether the worker stands differently now; else it only serves something else than a moment ago."""

    def status(self) -> Json:
        """The object's status; only with a report."""
        return WorkerStatus(report=self.report, lost=self.lost).wire()


@dataclass(slots=True)
class _Entry:
    heard: float
    report: WorkerReport | None = None
    lost: bool = False
    lost_at: float = 0.0

    def replaces(self, boot: str) -> bool:
        """Whether this is the successor of that process."""
        return bool(boot) and self.report is not None and self.report.replaces == boot


@dataclass(slots=True)
class Roll:
    """Everybody who was heard of, by id."""

    _entries: dict[str, _Entry] = field(default_factory=dict)
    _wishes: dict[str, Wish] = field(default_factory=dict)
    _beat: float | None = None
    _proven_since: float = 0.0

    def remember(self, worker: str, report: WorkerReport | None, *, lost: bool, now: float) -> None:
        """A worker as the store knows it; it has the full time to be heard."""
        self._entries.setdefault(worker, _Entry(now, report, lost, now))

    def is_news(self, report: WorkerReport) -> bool:
        """Whether this report is newer than the last one heard; False when none was."""
        entry = self._entries.get(report.id)
        if entry is None or entry.report is None:
            return False
        old = entry.report
        return report.sequence > old.sequence if report.boot == old.boot else report.started_at > old.started_at

    def heard(self, report: WorkerReport, now: float) -> None:
        """A fresh report came."""
        entry = self._entries.get(report.id)
        if entry is not None and not entry.lost and entry.replaces(report.boot):
            return
        before = None if entry is None or entry.lost else entry.report
        if before is None or stable(before) != stable(report):
            waits = self._wishes.get(report.id)
            urgent = before is None or _standing(before) != _standing(report) or (waits is not None and waits.urgent)
            self._wishes[report.id] = Wish(report.id, report, urgent=urgent)
        self._entries[report.id] = _Entry(now, report)

    def left(self, worker: str, boot: str = "") -> bool:
        """A worker left in good order; False when it was gone already, or its successor had taken its place."""
        entry = self._entries.get(worker)
        if entry is not None and entry.replaces(boot):
            return False
        if self._entries.pop(worker, None) is None:
            return False
        self._wishes[worker] = Wish(worker, None, gone=True)
        return True

    def beat(self, now: float) -> None:
        """Our own beat came back."""
        if not self._proven(now):
            self._proven_since = now
        self._beat = now

    def look(self, now: float) -> None:
        """Find who fell silent."""
        if not self._proven(now):
            return
        for worker, entry in list(self._entries.items()):
            if entry.lost and now - max(entry.lost_at, self._proven_since) > FORGOTTEN_SECONDS:
                self.left(worker)
            elif not entry.lost and now - max(entry.heard, self._proven_since) > LOST_SECONDS:
                entry.lost, entry.lost_at = True, now
                self._wishes[worker] = Wish(worker, entry.report, lost=True)

    @property
    def urgent(self) -> bool:
        """Whether somebody came, went, or fell silent: worth a write of its own."""
        return any(wish.urgent for wish in self._wishes.values())

    def take(self) -> list[Wish]:
        """What is to be written, once."""
        wishes, self._wishes = self._wishes, {}
        return list(wishes.values())

    def give_back(self, wishes: Iterable[Wish]) -> None:
        """Wishes that could not be written; newer ones of the same worker stand."""
        self._wishes = {wish.worker: wish for wish in wishes} | self._wishes

    def _proven(self, now: float) -> bool:
        return self._beat is not None and now - self._beat <= PROVEN_SECONDS


def _standing(report: WorkerReport) -> tuple[object, ...]:
    return (report.boot, report.state, report.synced, report.leaving)


def stable(report: WorkerReport) -> Json:
    """A report without what changes all the time: only a change in the rest is written."""
    return report.model_dump(exclude=set(_VOLATILE))
