"""What ``get`` shows: objects as rows of a Kubernetes ``Table``, from the columns of the catalogue of kinds.

Pure; the moment is handed in, because ages are computed here.  Source: meta.k8s.io/v1 Table.  Called by the list,
get and watch handlers when the caller's ``Accept`` says ``as=Table``.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from schemas import kinds
from schemas.flag import FlagOverrides
from schemas.meta import Json

NAME_COLUMN: Final[Json] = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Unique name of the object",
    "priority": 0,
}


def table(
    kind: kinds.Kind,
    documents: Iterable[Json],
    now: datetime,
    *,
    metadata: Json,
    include: str = "Metadata",
    headed: bool = True,
) -> Json:
    """Objects as a Table; ``include`` is ``None``, ``Metadata`` or ``Object``; only the first of a watch is headed."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": headings(kind) if headed else [],
        "rows": [_row(kind, document, now, include) for document in documents],
    }


def headings(kind: kinds.Kind) -> list[Json]:
    """The column definitions of a kind; wide columns have priority 1."""
    own = [
        {"name": column.name, "type": column.type, "format": "", "description": "", "priority": int(column.wide)}
        for column in kind.columns
    ]
    return [NAME_COLUMN, *own]


def cells(kind: kinds.Kind, document: Json, now: datetime) -> list[Any]:
    """The cells of one object, the name first."""
    return [document["metadata"].get("name", ""), *(_cell(column, document, now) for column in kind.columns)]


def age(since: str | None, now: datetime) -> str:
    """How long ago, in at most two units (``45s``, ``3m20s``, ``5h``, ``12d``), as kubectl writes it."""
    if not since:
        return "<unknown>"
    seconds = max(int((now - datetime.fromisoformat(since)).total_seconds()), 0)
    for below, unit, small in _AGES:
        if seconds < below:
            first, rest = divmod(seconds, _UNITS[unit])
            least = rest // _UNITS[small] if small else 0
            return f"{first}{unit}" + (f"{least}{small}" if least else "")
    return f"{seconds // _UNITS['y']}y"


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
_AGES: Final = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (48 * 3600, "h", ""),
    (8 * 86_400, "d", "h"),
    (730 * 86_400, "d", ""),
)
"""Below how many seconds which units are written."""


def _row(kind: kinds.Kind, document: Json, now: datetime, include: str) -> Json:
    row: Json = {"cells": cells(kind, document, now)}
    if include == "Object":
        row["object"] = document
    elif include == "Metadata":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {key: value for key, value in document["metadata"].items() if key != "managedFields"},
        }
    return row


def _cell(column: kinds.Column, document: Json, now: datetime) -> Any:
    if column.path.startswith("@"):
        return _COMPUTED[column.path](document, now)
    found: Any = document
    for part in column.path[1:].split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found if found is not None or column.type != "string" else ""


def _age(document: Json, now: datetime) -> str:
    return age(document["metadata"].get("creationTimestamp"), now)


def _conditions(document: Json) -> dict[str, Json]:
    return {entry["type"]: entry for entry in document.get("status", {}).get("conditions", ())}


def _ready(document: Json, _: datetime) -> str:
    found = _conditions(document).get("Ready")
    current = found is not None and found.get("observedGeneration") == document["metadata"].get("generation")
    return str(found["status"]) if found is not None and current else "Unknown"


def _path(document: Json, _: datetime) -> str:
    routing = document.get("spec", {}).get("routing", {})
    version = routing.get("apiVersion", "v1")
    return f"/{version}/{routing.get('namespace') or document['metadata'].get('name', '')}"


def _workers(document: Json, _: datetime) -> str:
    counts = document.get("status", {}).get("workers", {})
    return f"{counts.get('applied', 0)}/{counts.get('desired', 0)}"


def _confirmed(document: Json, now: datetime) -> str:
    """On how many workers the newest generation holds; empty until that is known."""
    status = document.get("status", {})
    current = status.get("observedGeneration") == document["metadata"].get("generation")
    return _workers(document, now) if current and "workers" in status else ""


def _reason(document: Json, _: datetime) -> str:
    """Why the module is not ready, in one word; empty when it is."""
    known = _conditions(document)
    for name in ("Deleting", "Stalled", "Suspended"):
        if name in known and known[name]["status"] == "True":
            return str(known[name].get("reason", name))
    waiting = (entry for name, entry in known.items() if name in _PROGRESS and entry["status"] != "True")
    return next((str(entry.get("reason", "")) for entry in waiting), "")


def _report(document: Json) -> Json:
    return document.get("status", {}).get("report") or {}


def _labels(document: Json, _: datetime) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(_report(document).get("labels", {}).items()))


def _rollout(document: Json, _: datetime) -> str:
    """``30% of users``; empty where there is none."""
    rollout = document.get("spec", {}).get("rollout")
    return f"{rollout.get('percentage', 0):g}% of {rollout.get('bucketBy', 'user')}s" if rollout else ""


def _overrides(document: Json, now: datetime) -> int:
    """How many overrides are in force."""
    overrides = FlagOverrides.model_validate(document.get("spec", {}).get("overrides", {}))
    return sum(entry.expires is None or entry.expires > now for entry in (*overrides.users, *overrides.organisations))


def _targeting(document: Json, _: datetime) -> str:
    return "yes" if document.get("spec", {}).get("targeting") else ""


def _revokes(document: Json, _: datetime) -> str:
    spec = document.get("spec", {})
    words = {"tokenId": "token", "subject": "subject", "organisation": "organisation"}
    return next((f"{word} {spec[field]}" for field, word in words.items() if spec.get(field)), "")


_PROGRESS: Final = ("Valid", "RoutesAccepted", "DependenciesReady", "Registered", "Programmed", "Healthy", "Ready")

_COMPUTED: Final[dict[str, Callable[[Json, datetime], str | int]]] = {
    "@age": _age,
    "@ready": _ready,
    "@path": _path,
    "@workers": _workers,
    "@confirmed": _confirmed,
    "@reason": _reason,
    "@pending": lambda document, _: len(_report(document).get("pending", ())),
    "@rejected": lambda document, _: len(_report(document).get("rejected", ())),
    "@labels": _labels,
    "@rollout": _rollout,
    "@overrides": _overrides,
    "@targeting": _targeting,
    "@revokes": _revokes,
}
