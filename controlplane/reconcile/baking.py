"""Does a new generation prove itself?  What the workers saw of it, held against its time and its error budget.

    BAKING ──its time is over, and nothing was wrong──▶ PASSED
       └────unhealthy somewhere, or over its budget───▶ FAILED: back to the last good generation, if there is one

Pure.  What always holds: only reports of this very generation count; it passes on the word of workers, never on their
silence; what was decided once is not judged again.  Called by `deciding`; `returning` does what follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.reconcile import diagnosing
from controlplane.reconcile.fleet import FleetView, WorkerView
from schemas.module import Rollout
from schemas.reports import HealthState, Trial


class Verdict(StrEnum):
    """How a generation stands."""

    BAKING = "baking"
    PASSED = "passed"
    FAILED = "failed"
    KEPT = "kept"
    """It failed, and there was nothing to return to."""


@dataclass(frozen=True, slots=True)
class Bake:
    """What follows from the evidence."""

    verdict: Verdict
    reason: str
    message: str
    requeue_after: float | None = None


def judge(
    view: FleetView,
    selector: Mapping[str, str],
    name: str,
    generation: int,
    rollout: Rollout,
    baked_for: float | None,
) -> Bake:
    """The verdict on a generation that has served for ``baked_for`` seconds; None: not everywhere yet."""
    workers = diagnosing.counted(view, selector)
    trials = [(worker.report.id, trial) for worker in workers if (trial := _trial(worker, name, generation))]
    numbers = _numbers(trials)
    ill = [
        (worker.report.id, entry)
        for worker in workers
        if (entry := worker.ailing.get(name)) is not None
        and entry.generation == generation
        and diagnosing.is_ill(entry)
    ]
    if ill:
        said = "; ".join(diagnosing.told(worker, entry) for worker, entry in ill)
        failing = any(entry.state is HealthState.UNHEALTHY for _, entry in ill)
        return Bake(Verdict.FAILED, "BakeUnhealthy" if failing else "BakeCircuitOpen", f"{said}; {numbers}")
    calls, errors = _sums(trials)
    if calls >= rollout.minimum_calls and errors * 100 > rollout.error_percent * calls:
        allowed = f"more than the {rollout.error_percent} % that spec.rollout.errorPercent allows"
        return Bake(Verdict.FAILED, "ErrorBudgetSpent", f"{numbers}, {allowed}")
    if baked_for is None:
        return Bake(Verdict.BAKING, "Baking", _waits(rollout))
    left = rollout.bake_seconds - baked_for
    if left > 0:
        return Bake(Verdict.BAKING, "Baking", _waits(rollout), requeue_after=left)
    if not (workers and view.channel_proven):
        return Bake(Verdict.BAKING, "Baking", _waits(rollout), requeue_after=1.0)
    return Bake(Verdict.PASSED, "Proved", f"it has served for {rollout.bake_seconds} s; {numbers}")


def _trial(worker: WorkerView, name: str, generation: int) -> Trial | None:
    trial = worker.trials.get(name)
    return trial if trial is not None and trial.generation == generation else None


def _sums(trials: list[tuple[str, Trial]]) -> tuple[int, int]:
    return sum(trial.calls for _, trial in trials), sum(trial.errors for _, trial in trials)


def _numbers(trials: list[tuple[str, Trial]]) -> str:
    calls, errors = _sums(trials)
    share = f" ({errors * 100 / calls:.1f} %)" if calls else ""
    each = ", ".join(f"{worker}: {trial.errors} of {trial.calls}" for worker, trial in trials)
    return f"{errors} of {calls} calls failed{share}" + (f" [{each}]" if len(trials) > 1 else "")


def _waits(rollout: Rollout) -> str:
    return f"it has {rollout.bake_seconds} s to prove itself, from when it serves everywhere"
