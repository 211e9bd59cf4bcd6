"""What the last change of a module took: its steps, on the control plane and on each worker, and who was slowest.

Pure but for its questions to the store.  Called by `controlplane.api.managing`; ``modplane trace`` draws it as a tree.
"""

from collections.abc import Sequence

from controlplane import errors
from controlplane.store import tracking
from controlplane.store.readings import Reading
from controlplane.telemetry.tracing import WHO
from schemas import names
from schemas.meta import Json
from schemas.traces import Step


def told(reading: Reading, name: str) -> Json:
    """The trace of a module's newest generation.  errors.NotFound: there is no such module."""
    trace = tracking.of(reading.ask, name)
    if trace is None:
        raise errors.NotFound("Module", name)
    steps = tracking.steps(reading.ask, trace.position.trace_id, name)
    began = min((step.start for step in steps), default=0)
    ended = max((step.start + step.micros for step in steps), default=0)
    return {
        "module_id": names.module_id(name),
        "generation": trace.generation,
        "trace_id": trace.position.trace_id,
        "began_at": trace.at,
        "duration_ms": _ms(ended - began),
        "slowest_worker": _slowest(steps, began),
        "steps": [_shown(step, began) for step in steps],
    }


def _slowest(steps: Sequence[Step], began: int) -> Json | None:
    """The worker that was done last; None: none has told yet."""
    workers = [step for step in steps if step.who != WHO]
    if not workers:
        return None
    last = max(workers, key=lambda step: step.start + step.micros)
    return {"id": last.who, "done_after_ms": _ms(last.start + last.micros - began)}


def _shown(step: Step, began: int) -> Json:
    return {
        "id": step.id,
        "parent": step.parent or None,
        "name": step.name,
        "who": step.who,
        "start_ms": _ms(step.start - began),
        "duration_ms": _ms(step.micros),
        "error": step.error or None,
    }


def _ms(micros: int) -> float:
    return round(micros / 1000, 3)
