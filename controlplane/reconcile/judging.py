"""What the workers' reports mean for one registered generation: the Programmed condition and the numbers.

Pure.  Only *counted* workers decide: selected by placement, first sync of this boot done, reporting freshly.
Programmed is judged once per generation and latches; only the loss of every counted worker for 30 s, seen over
a report channel that is proven alive, takes it away.  Called by `deciding` and `unregistering`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.reconcile.fleet import LOADING, FleetView, Standing, WorkerView
from controlplane.store.records import DesiredRow
from schemas.meta import ConditionStatus
from schemas.module import WorkerCounts
from schemas.reports import Rejected, WorkerReport

NO_WORKERS_AFTER = 30.0
"""Seconds without a counted worker after which NoWorkers is said."""

NO_WORKERS = "NoWorkers"

SLOW_APPLYING = 0.5
"""Seconds after which it is worth a status write that some workers have applied a generation and others not yet."""
_EACH = 0.02
"""Seconds more for each module that a worker has to load."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the fleet says about one generation."""

    status: ConditionStatus | None
    """None: it was programmed before and stays so."""
    reason: str
    message: str
    counts: WorkerCounts
    stalled: tuple[str, str] | None = None
    """Reason and message of a deterministic rejection."""
    requeue_after: float | None = None
    passing: float = 0.0
    """Seconds for which it is not worth telling, since workers are only busy with it; 0: it is."""


@dataclass(frozen=True, slots=True)
class _Tally:
    applied: list[WorkerView]
    waiting: list[WorkerView]
    rejected: list[tuple[WorkerView, Rejected]]
    joining: list[WorkerView]
    lost: list[WorkerView]

    def counts(self) -> WorkerCounts:
        decided = len(self.applied) + len(self.waiting) + len(self.rejected)
        return WorkerCounts(
            desired=decided + len(self.joining) + len(self.lost),
            applied=len(self.applied),
            rejected=len(self.rejected),
            joining=len(self.joining),
            lost=len(self.lost),
        )


def judge(
    view: FleetView,
    selector: Mapping[str, str],
    name: str,
    row: DesiredRow | None,
    store_id: str,
    *,
    programmed: bool,
) -> Judgement:
    """The judgement on desired row ``row`` of module ``name``; ``row`` None: it is being written right now."""
    tally = _tally(view, selector, name, row, store_id)
    counts = tally.counts()
    if not (tally.applied or tally.waiting or tally.rejected):
        return _nobody(view, selector, tally, counts, programmed=programmed)
    if programmed:
        return Judgement(None, "", "", counts)
    if tally.rejected:
        return _refused(tally, counts)
    if tally.waiting:
        busy = all(_is_busy(worker, name) for worker in tally.waiting)
        passing = SLOW_APPLYING + _EACH * max(len(worker.pending) for worker in tally.waiting) if busy else 0.0
        return Judgement(ConditionStatus.UNKNOWN, "Applying", _waits_for(tally, name), counts, passing=passing)
    many = "1 worker has" if counts.applied == 1 else f"{counts.applied} workers have"
    return Judgement(ConditionStatus.TRUE, "Applied", f"{many} applied this generation", counts)


def covers(report: WorkerReport, row: DesiredRow, store_id: str) -> bool:
    """Whether a worker has dealt with ``row``: applied, pending or rejected."""
    if store_id and report.store and report.store != store_id:
        return False
    return (report.applied_epoch, report.applied_revision) >= (row.epoch, row.revision)


def unconfirmed(view: FleetView, name: str, tombstone: DesiredRow, store_id: str) -> list[str]:
    """The counted workers that have not yet reported the routes of a withdrawn module gone."""
    return [
        worker
        for worker, known in sorted(view.workers.items())
        if known.standing is Standing.COUNTED
        and (not covers(known.report, tombstone, store_id) or name in known.pending)
    ]


def counted(view: FleetView) -> bool:
    """Whether any worker counts."""
    return any(known.standing is Standing.COUNTED for known in view.workers.values())


def lost_workers(view: FleetView) -> list[str]:
    """The workers that are silent, by id."""
    return [worker for worker, known in sorted(view.workers.items()) if known.standing is Standing.LOST]


def _tally(view: FleetView, selector: Mapping[str, str], name: str, row: DesiredRow | None, store_id: str) -> _Tally:
    tally = _Tally([], [], [], [], [])
    for worker in view.selected(selector):
        if worker.standing is Standing.LOST:
            tally.lost.append(worker)
        elif worker.standing is Standing.JOINING:
            tally.joining.append(worker)
        elif row is None or not covers(worker.report, row, store_id):
            tally.waiting.append(worker)
        elif (rejection := worker.rejected.get(name)) and rejection.generation == row.generation:
            tally.rejected.append((worker, rejection))
        elif rejection or name in worker.pending:
            tally.waiting.append(worker)
        else:
            tally.applied.append(worker)
    return tally


def _nobody(
    view: FleetView, selector: Mapping[str, str], tally: _Tally, counts: WorkerCounts, *, programmed: bool
) -> Judgement:
    absent = view.absent_for(selector)
    over = view.channel_proven and absent >= NO_WORKERS_AFTER
    after = None if over or not view.channel_proven else max(NO_WORKERS_AFTER - absent, 0.1)
    unmatched = _unmatched(view, selector)
    if unmatched and (over or (view.settled and not programmed)):
        return Judgement(ConditionStatus.FALSE, "NoMatchingWorker", unmatched, counts)
    if over:
        return Judgement(ConditionStatus.FALSE, NO_WORKERS, _nobody_counts(tally), counts)
    if programmed:
        return Judgement(None, "", "", counts, requeue_after=after)
    if not view.channel_proven:
        message = "nothing is known of the workers: NATS does not return our own beat; check that the server runs"
        return Judgement(ConditionStatus.UNKNOWN, "ReportsUnproven", message, counts)
    if tally.joining:
        message = f"waiting for {_ids(tally.joining)} to finish loading"
        return Judgement(ConditionStatus.UNKNOWN, "WorkersJoining", message, counts, requeue_after=after)
    message = "waiting for a worker to report"
    return Judgement(ConditionStatus.UNKNOWN, "AwaitingWorkers", message, counts, requeue_after=after)


def _unmatched(view: FleetView, selector: Mapping[str, str]) -> str:
    counted = [worker for worker in view.workers.values() if worker.standing is Standing.COUNTED]
    if not selector or not counted or view.selected(selector):
        return ""
    wanted = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return (
        f"no worker carries the labels {wanted} of spec.placement.workerSelector; start a worker with "
        f"MODPLANE_WORKER_LABELS={wanted.replace(', ', ',')} or change the selector"
    )


def _nobody_counts(tally: _Tally) -> str:
    parts = []
    if tally.lost:
        parts.append(f"lost: {_ids(tally.lost)}")
    if tally.joining:
        parts.append(f"still loading: {_ids(tally.joining)}")
    known = f" ({'; '.join(parts)})" if parts else ""
    return f"no worker has reported for {NO_WORKERS_AFTER:.0f} s{known}; start one with `modplane worker`"


def _refused(tally: _Tally, counts: WorkerCounts) -> Judgement:
    worker, rejection = tally.rejected[0]
    others = f" (and {len(tally.rejected) - 1} more)" if len(tally.rejected) > 1 else ""
    serving = "the last good generation keeps serving" if rejection.serving_since else "nothing serves"
    message = (
        f"worker {worker.report.id}{others} rejected generation {rejection.generation}: {rejection.message}; {serving}"
    )
    return Judgement(ConditionStatus.FALSE, "Rejected", message, counts, stalled=(rejection.reason, message))


def _is_busy(worker: WorkerView, name: str) -> bool:
    entry = worker.pending.get(name)
    return entry is None or entry.reason == LOADING


def _waits_for(tally: _Tally, name: str) -> str:
    said = []
    for worker in tally.waiting:
        entry = worker.pending.get(name)
        why = (
            f" ({entry.reason}: {entry.message})" if entry and entry.message else f" ({entry.reason})" if entry else ""
        )
        said.append(f"{worker.report.id}{why}")
    total = len(tally.waiting) + len(tally.applied)
    return f"waiting for {len(said)} of {total} workers to apply this generation: {', '.join(said)}"


def _ids(workers: Iterable[WorkerView]) -> str:
    return ", ".join(worker.report.id for worker in workers)
