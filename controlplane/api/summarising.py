"""A module and its events in the words of the management API (the seed's: snake case, module ids, small states).

Pure.  Called by `controlplane.api.managing`.
"""

from controlplane.store.records import Record
from schemas import names
from schemas.meta import Json, now_text

_HEALTH = {"True": "healthy", "False": "unhealthy"}


def summary(record: Record) -> Json:
    """One line about a module."""
    spec, status = record.spec, record.status
    routing = spec.get("routing", {})
    version, namespace = routing.get("apiVersion", "v1"), routing.get("namespace") or record.name
    return {
        "module_id": names.module_id(record.name),
        "name": spec.get("displayName") or record.name,
        "state": str(status.get("state", "DISCOVERED")).lower(),
        "version": spec.get("version"),
        "type": spec.get("type"),
        "stage": spec.get("stage"),
        "path": f"{names.MODULES_PREFIX}/{version}/{namespace}",
        "generation": record.generation,
        "deleting": record.deleting,
    }


def detail(record: Record) -> Json:
    """All that is seen of a module."""
    status = record.status
    conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
    stalled = conditions.get("Stalled", {})
    return {
        **summary(record),
        "observed_generation": status.get("observedGeneration", 0),
        "health": _health(conditions.get("Healthy")),
        "error": stalled.get("message") if stalled.get("status") == "True" else None,
        "routes": status.get("routes", []),
        "workers": status.get("workers", {}),
        "serving": status.get("serving"),
        "conditions": [_condition(entry) for entry in status.get("conditions", ())],
        "created_at": now_text(record.created_at),
        "deleted_at": now_text(record.deleted_at) if record.deleted_at else None,
        "permissions": spec_list(record, "permissions"),
        "dependencies": spec_list(record, "dependencies"),
    }


def event(record: Record) -> Json:
    """One transition, from its stored event."""
    step = record.spec
    before = step.get("from")
    return {
        "event_id": record.name,
        "module_id": names.module_id(str(step.get("module", ""))),
        "uid": step.get("uid"),
        "sequence": step.get("sequence"),
        "generation": step.get("generation"),
        "from": before.lower() if isinstance(before, str) else None,
        "state": str(step.get("to", "")).lower(),
        "reason": step.get("reason"),
        "message": step.get("message", ""),
        "at": step.get("at"),
    }


def spec_list(record: Record, field: str) -> list[object]:
    """A list of the spec, empty when absent."""
    return list(record.spec.get(field) or [])


def _health(found: Json | None) -> Json:
    """What the workers' checks said last."""
    if found is None:
        return {"status": "unknown", "last_check": None, "message": "no worker has checked it yet"}
    return {
        "status": _HEALTH.get(str(found.get("status")), "unknown"),
        "last_check": found.get("lastTransitionTime"),
        "message": found.get("message", ""),
    }


def _condition(entry: Json) -> Json:
    return {
        "type": entry["type"],
        "status": entry["status"],
        "reason": entry.get("reason", ""),
        "message": entry.get("message", ""),
        "observed_generation": entry.get("observedGeneration", 0),
        "last_transition_time": entry.get("lastTransitionTime"),
    }
