"""What the workers' checks and circuits say of one generation: the Healthy condition, and its numbers.

Pure.  Only counted workers that hold the generation speak; one that is ill makes the module unhealthy, one that has not
checked yet makes it unknown.  Called by `deciding` and `baking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.reconcile.fleet import FleetView, Standing, WorkerView
from schemas.meta import ConditionStatus
from schemas.module import CircuitState, HealthSummary
from schemas.reports import Ailing, HealthState

_WORST = (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of one generation's health."""

    status: ConditionStatus
    reason: str
    message: str
    summary: HealthSummary


def diagnose(view: FleetView, selector: Mapping[str, str], name: str, generation: int) -> Diagnosis | None:
    """The diagnosis; None: no worker that counts serves this generation, so nothing new is known."""
    holding = [worker for worker in counted(view, selector) if _holds(worker, name, generation)]
    if not holding:
        return None
    entries = [(worker.report.id, entry) for worker in holding if (entry := worker.ailing.get(name)) is not None]
    ill = [(worker, entry) for worker, entry in entries if is_ill(entry)]
    summary = HealthSummary(
        unhealthy=sum(entry.state is HealthState.UNHEALTHY for _, entry in entries),
        out=sum(entry.out for _, entry in entries),
        circuit=next(state for state in (*_WORST, CircuitState.CLOSED) if _any_circuit(entries, state)),
        last_check=_last_check(holding, name),
    )
    if ill:
        reason = "Unhealthy" if summary.unhealthy else "CircuitOpen"
        said = "; ".join(told(worker, entry) for worker, entry in ill)
        return Diagnosis(ConditionStatus.FALSE, reason, f"on {len(ill)} of {_workers(len(holding))}: {said}", summary)
    waiting = [worker for worker, entry in entries if entry.state is HealthState.UNKNOWN]
    if waiting:
        message = f"waiting for the first checks on {', '.join(waiting)}"
        return Diagnosis(ConditionStatus.UNKNOWN, "Checking", message, summary)
    if any(name in worker.report.checked for worker in holding):
        return Diagnosis(ConditionStatus.TRUE, "ChecksPass", "the module's own check says that it is well", summary)
    return Diagnosis(ConditionStatus.TRUE, "NoCheck", "it serves, and has no check of its own", summary)


def counted(view: FleetView, selector: Mapping[str, str]) -> list[WorkerView]:
    """The workers whose word decides."""
    return [worker for worker in view.selected(selector) if worker.standing is Standing.COUNTED]


def is_ill(entry: Ailing) -> bool:
    """Whether a worker says that a module is not well; not knowing yet is not that."""
    return entry.state is HealthState.UNHEALTHY or entry.circuit is not CircuitState.CLOSED


def told(worker: str, entry: Ailing) -> str:
    """What one worker says of an ill module, for people."""
    if entry.state is HealthState.UNHEALTHY:
        rest = ", out of service there" if entry.out else ""
        return f"{worker}: {entry.message} ({entry.reason}{rest})"
    return f"{worker}: {entry.circuit_message}, so calls are refused there (circuit {entry.circuit.value})"


def _any_circuit(entries: list[tuple[str, Ailing]], state: CircuitState) -> bool:
    return state is CircuitState.CLOSED or any(entry.circuit is state for _, entry in entries)


def _holds(worker: WorkerView, name: str, generation: int) -> bool:
    """Whether a worker may serve this generation: it says nothing else."""
    entry, rejection = worker.ailing.get(name), worker.rejected.get(name)
    if name in worker.pending or (rejection is not None and rejection.generation == generation):
        return False
    return entry is None or entry.generation == generation


def _last_check(holding: list[WorkerView], name: str) -> datetime | None:
    """When the newest check was made; of a module without one, when a worker last said that it serves it."""
    checks = [worker.report.checked[name] for worker in holding if name in worker.report.checked]
    if checks:
        return datetime.fromtimestamp(max(checks), holding[0].report.reported_at.tzinfo)
    return max(worker.report.reported_at for worker in holding)


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
