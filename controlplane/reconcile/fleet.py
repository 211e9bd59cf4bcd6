"""What the leader remembers of the workers: who reports, who is joining, who is lost.

What always holds: a worker is lost only by silence on our monotonic clock while our own beat comes back, so a
broken report channel loses nobody; a quiet channel that comes back gives every worker its full time again.
While a slot's successor and the process it replaces both serve, the one that is behind speaks for the slot.
`views` is an immutable picture that `controlplane.reconcile.judging` reads.

`controlplane.messaging` tells it (`reported`, `gone`, `beat_returned`); it tells the loop what to look at again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

import structlog

from schemas.kits.clocks import Clock
from schemas.reports import Ailing, Pending, Rejected, Trial, WorkerReport

logger = structlog.get_logger("controlplane.reconcile.fleet")

LOST_AFTER = 10.0
"""Seconds without a report, three reports missed, after which a worker is lost."""
PROVEN_FOR = 6.0
"""Seconds, three beats, for which a returned beat proves the report channel."""
SETTLED_AFTER = 4.0
"""Seconds of proven channel, more than one report, after which every living worker must have been heard."""
FORGOTTEN_AFTER = 3600.0
"""Seconds after which a lost worker is no longer counted as lost."""
LOADING = "Loading"
"""Why a module is pending that a worker is only busy with: nothing to look at before that is over."""
_TICK = 1.0

Order: TypeAlias = tuple[int, int]
"""(epoch, revision): how far a worker has applied the desired state."""


class Standing(StrEnum):
    """How a worker stands to the fleet."""

    COUNTED = "counted"
    """Reports freshly and has finished its first sync: what it says decides."""
    JOINING = "joining"
    """Reports freshly, first sync not finished."""
    LOST = "lost"
    """Silent for too long."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker in a picture."""

    report: WorkerReport
    standing: Standing
    pending: Mapping[str, Pending] = field(init=False, repr=False, compare=False)
    """By module; a thousand modules ask for theirs."""
    rejected: Mapping[str, Rejected] = field(init=False, repr=False, compare=False)
    ailing: Mapping[str, Ailing] = field(init=False, repr=False, compare=False)
    trials: Mapping[str, Trial] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the report."""
        object.__setattr__(self, "pending", {entry.module: entry for entry in self.report.pending})
        object.__setattr__(self, "rejected", {entry.module: entry for entry in self.report.rejected})
        object.__setattr__(self, "ailing", {entry.module: entry for entry in self.report.ailing})
        object.__setattr__(self, "trials", {entry.module: entry for entry in self.report.trials})


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet at one moment."""

    workers: Mapping[str, WorkerView] = field(default_factory=dict)
    channel_proven: bool = False
    """Whether our own beat comes back: only then does silence mean anything."""
    proven_for: float = 0.0
    """Seconds for which the channel has been proven without a break."""
    absences: tuple[tuple[Mapping[str, str], float], ...] = ()
    """Of each worker that does not count (gone ones too): labels, and for how many seconds it has not."""

    @property
    def settled(self) -> bool:
        """Whether every living worker must have been heard by now."""
        return self.channel_proven and self.proven_for >= SETTLED_AFTER

    def selected(self, selector: Mapping[str, str]) -> list[WorkerView]:
        """The workers that carry every label of ``selector``, by id."""
        return [view for _, view in sorted(self.workers.items()) if matches(selector, view.report.labels)]

    def absent_for(self, selector: Mapping[str, str]) -> float:
        """For how many seconds of proven channel no selected worker has counted; 0 while one does."""
        if any(view.standing is Standing.COUNTED for view in self.selected(selector)):
            return 0.0
        absences = [seconds for labels, seconds in self.absences if matches(selector, labels)]
        return min([self.proven_for, *absences])


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` carry every pair of ``selector``."""
    return all(labels.get(key) == value for key, value in selector.items())


@dataclass(slots=True)
class _Known:
    report: WorkerReport
    heard: float
    lost: bool = False
    gone: bool = False
    uncounted: float | None = None
    """Since when it does not count any more; None: it counts, or it never did."""
    elder: "_Known | None" = None
    """The process that it replaces, for as long as that one still reports."""
    _view: WorkerView | None = None

    @property
    def standing(self) -> Standing:
        if self.lost or self.gone:
            return Standing.LOST
        return Standing.COUNTED if self.report.synced and not self.report.leaving else Standing.JOINING

    @property
    def view(self) -> WorkerView:
        standing = self.standing
        if self._view is None or self._view.standing is not standing:
            self._view = WorkerView(self.report, standing)
        return self._view

    @property
    def speaker(self) -> "_Known":
        """Who speaks for the slot: requests may still be answered by the one that is behind."""
        elder = self.elder
        if elder is None or elder.standing is not Standing.COUNTED:
            return self
        if self.standing is not Standing.COUNTED or elder.report.pending:
            return elder
        return elder if _order(elder.report) < _order(self.report) else self


def _ignore_names(names: frozenset[str] | None) -> None:
    """Before a loop listens there is nobody to wake."""


def _ignore_progress(before: Order, after: Order, loading: frozenset[str]) -> None:
    """Before a loop listens there is nobody to wake."""


def _ignore() -> None:
    """Before a loop listens there is nobody to wake."""


class Fleet:
    """The leader's memory of workers, on the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._beat: float | None = None
        self._proven_since: float | None = None
        self.on_change: Callable[[frozenset[str] | None], None] = _ignore_names
        """Called with the modules whose report changed; None: all that wait for workers."""
        self.on_progress: Callable[[Order, Order, frozenset[str]], None] = _ignore_progress
        """Called when a worker has applied more: how far before, and how far now."""
        self.on_membership: Callable[[], None] = _ignore
        """Called when a worker joined, began to count, left or was lost: every module's numbers move."""

    def reset(self) -> None:
        """Forget everything: another leadership begins."""
        self._known.clear()
        self._beat = self._proven_since = None

    def reported(self, report: WorkerReport) -> None:
        """A fresh report arrived."""
        known = self._known.get(report.id)
        if known is not None and known.report.boot == report.boot and report.sequence < known.report.sequence:
            return
        now = self._clock.monotonic()
        if known is not None and report.boot == known.report.replaces and known.standing is not Standing.LOST:
            before = known.elder or known
            known.elder = _Known(report, now)
            self._tell_progress(before.report, report)
            return
        fresh = _Known(report, now, elder=_elder(known, report))
        if fresh.standing is not Standing.COUNTED and known is not None:
            counted = known.standing is Standing.COUNTED
            fresh.uncounted = now if counted else known.uncounted
        self._known[report.id] = fresh
        if known is None or _membership(known) != _membership(fresh):
            logger.info("worker standing", worker=report.id, boot=report.boot, standing=str(fresh.standing))
            self.on_membership()
            return
        self._tell_progress(known.report, report)

    def gone(self, worker_id: str, boot: str = "") -> None:
        """A worker left cleanly; ``boot`` tells which process, where that is known."""
        known = self._known.get(worker_id)
        if known is None or known.gone:
            return
        if boot and boot == known.report.replaces:
            known.elder = None
            self.on_change(None)
            return
        if known.standing is Standing.COUNTED:
            known.uncounted = self._clock.monotonic()
        known.gone = True
        self.on_membership()

    def beat_returned(self) -> None:
        """Our own beat came back: the report channel is proven alive."""
        now = self._clock.monotonic()
        was_proven = self._proven(now)
        if not was_proven:
            self._proven_since = now
        self._beat = now
        if not was_proven:
            self.on_change(None)

    def have_all(self, order: Order) -> bool:
        """Whether every worker that counts has applied the desired state up to ``order``."""
        speakers = (known.speaker for known in self._known.values())
        return all(_order(each.report) >= order for each in speakers if each.standing is Standing.COUNTED)

    def still_loads(self, module: str) -> bool:
        """Whether all that is said of a module is that a worker which counts is not through with loading it."""
        loading = False
        for known in self._known.values():
            view = known.speaker.view
            entry = view.pending.get(module)
            if module in view.rejected or module in view.ailing or (entry is not None and entry.reason != LOADING):
                return False
            loading = loading or (entry is not None and view.standing is Standing.COUNTED)
        return loading

    def last_check(self, module: str) -> datetime | None:
        """When any worker that reports made its newest check of a module."""
        checks = [known.report.checked[module] for known in self._known.values() if module in known.report.checked]
        return datetime.fromtimestamp(max(checks), UTC) if checks else None

    def views(self) -> FleetView:
        """The fleet now."""
        now = self._clock.monotonic()
        self._sweep(now)
        proven = self._proven(now)
        since = self._proven_since if proven and self._proven_since is not None else now
        return FleetView(
            workers=MappingProxyType(
                {worker: known.speaker.view for worker, known in self._known.items() if not known.gone}
            ),
            channel_proven=proven,
            proven_for=now - since,
            absences=tuple(
                (known.report.labels, now - known.uncounted)
                for known in self._known.values()
                if known.uncounted is not None
            ),
        )

    async def watch(self) -> None:
        """Notice silence: runs beside the loop until cancelled."""
        proven = False
        while True:
            await self._clock.sleep(_TICK)
            now = self._clock.monotonic()
            self._sweep(now)
            if self._proven(now) != proven:
                proven = not proven
                self.on_change(None)

    def _proven(self, now: float) -> bool:
        return self._beat is not None and now - self._beat <= PROVEN_FOR

    def _sweep(self, now: float) -> None:
        if not self._proven(now) or self._proven_since is None:
            return
        moved = False
        for worker, known in list(self._known.items()):
            if known.elder is not None and now - max(known.elder.heard, self._proven_since) > LOST_AFTER:
                known.elder, moved = None, True
            quiet = now - max(known.heard, self._proven_since)
            if quiet > FORGOTTEN_AFTER:
                del self._known[worker]
                moved = True
            elif quiet > LOST_AFTER and not (known.lost or known.gone):
                if known.standing is Standing.COUNTED:
                    known.uncounted = now
                known.lost = moved = True
                logger.warning("worker lost", worker=worker, boot=known.report.boot, silent_seconds=round(quiet, 1))
        if moved:
            self.on_membership()

    def _tell_progress(self, old: WorkerReport, new: WorkerReport) -> None:
        before, after = _order(old), _order(new)
        loading = frozenset(entry.module for entry in new.pending if entry.reason == LOADING)
        if before != after:
            self.on_progress(before, after, loading)
        troubles = _troubles(old) ^ _troubles(new)
        if moved := frozenset(str(trouble[0]) for trouble in troubles) - loading:
            self.on_change(moved)


def _order(report: WorkerReport) -> Order:
    return (report.applied_epoch, report.applied_revision)


def _elder(known: _Known | None, report: WorkerReport) -> _Known | None:
    """The process that still serves beside the one that reports."""
    if known is None or known.standing is Standing.LOST:
        return None
    if known.report.boot == report.boot:
        return known.elder
    return replace(known, elder=None) if known.report.boot == report.replaces else None


def _membership(known: _Known) -> tuple[object, ...]:
    return (known.standing, known.gone, known.report.boot, known.report.labels, known.report.store)


def _troubles(report: WorkerReport) -> set[tuple[object, ...]]:
    """What of a report is news to a module, its name first."""
    return {
        *((entry.module, entry.generation, entry.reason, entry.message) for entry in report.pending),
        *((entry.module, entry.generation, entry.reason, entry.message) for entry in report.rejected),
        *((entry.module, "ailing", *entry.model_dump(exclude={"module"}).values()) for entry in report.ailing),
        *((entry.module, "trial", entry.generation, entry.errors) for entry in report.trials if entry.errors),
    }
