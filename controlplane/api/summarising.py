"""A module and its events in the words of the management API (the seed's: snake case, module ids, small states).

Pure.  Called by `controlplane.api.managing`.
"""

from datetime import datetime

from controlplane.store.records import Record
from schemas import names
from schemas.meta import Json, now_text

_HEALTH = {"True": "healthy", "False": "unhealthy"}


def state(record: Record) -> str:
    """A module's state."""
    return str(record.status.get("state") or "DISCOVERED").lower()


def namespace(record: Record) -> str:
    """The namespace of a module's routes."""
    return str((record.spec.get("routing") or {}).get("namespace") or record.name)


def summary(record: Record) -> Json:
    """One line about a module."""
    spec = record.spec
    version = (spec.get("routing") or {}).get("apiVersion", "v1")
    return {
        "module_id": names.module_id(record.name),
        "name": spec.get("displayName") or record.name,
        "state": state(record),
        "version": spec.get("version"),
        "type": spec.get("type"),
        "stage": spec.get("stage"),
        "namespace": namespace(record),
        "path": f"{names.MODULES_PREFIX}/{version}/{namespace(record)}",
        "labels": dict(record.labels),
        "health": _word(_conditions(record).get("Healthy")),
        "generation": record.generation,
        "deleting": record.deleting,
    }


def detail(record: Record, last_check: datetime | None = None) -> Json:
    """All that is seen of a module; ``last_check``: of the newest check, where this process knows better."""
    status = record.status
    conditions = _conditions(record)
    stalled = conditions.get("Stalled", {})
    return {
        **summary(record),
        "observed_generation": status.get("observedGeneration", 0),
        "health": _health(conditions.get("Healthy"), status.get("health") or {}, last_check),
        "error": stalled.get("message") if stalled.get("status") == "True" else None,
        "routes": status.get("routes", []),
        "workers": status.get("workers", {}),
        "serving": status.get("serving"),
        "last_good": status.get("lastGood"),
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


def trouble(record: Record) -> str | None:
    """What is not as it should be with a module, in one line."""
    found = _conditions(record)
    for kind, bad in (("Stalled", "True"), ("Healthy", "False")):
        entry = found.get(kind, {})
        if entry.get("status") == bad:
            return f"{entry.get('reason', '')}: {entry.get('message', '')}"
    return None


def worker_state(record: Record) -> str:
    """How a worker stands, in one word."""
    report = record.status.get("report") or {}
    return "lost" if record.status.get("lost") else str(report.get("state", "unknown"))


def worker(record: Record) -> Json:
    """One worker."""
    report = record.status.get("report") or {}
    return {
        "worker_id": record.name,
        "lost": bool(record.status.get("lost")),
        "state": report.get("state"),
        "message": report.get("message", ""),
        "boot": report.get("boot"),
        "address": report.get("address"),
        "labels": dict(record.labels),
        "modules": report.get("modules", 0),
        "pending": report.get("pending", []),
        "rejected": report.get("rejected", []),
        "ailing": report.get("ailing", []),
        "applied_revision": report.get("appliedRevision", 0),
        "host_version": report.get("hostVersion"),
        "started_at": report.get("startedAt"),
        "joined_at": now_text(record.created_at),
    }


def _conditions(record: Record) -> dict[str, Json]:
    return {entry["type"]: entry for entry in record.status.get("conditions", ())}


def _word(found: Json | None) -> str:
    return _HEALTH.get(str((found or {}).get("status")), "unknown")


def _health(found: Json | None, summed: Json, last_check: datetime | None) -> Json:
    """What the workers' checks said last."""
    told = found or {"message": "no worker has checked it yet"}
    stored = summed.get("lastCheck")
    known = [moment for moment in (last_check, stored and datetime.fromisoformat(stored)) if moment]
    return {
        "status": _word(found),
        "last_check": now_text(max(known)) if known else None,
        "since": told.get("lastTransitionTime"),
        "reason": told.get("reason", ""),
        "message": told.get("message", ""),
        "unhealthy": summed.get("unhealthy", 0),
        "out": summed.get("out", 0),
        "circuit": summed.get("circuit", "closed"),
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
