"""Who would be shut by a deletion: what asks for a flag in its manifest, in the code of its routes, or as prerequisite.

Pure over a reading.  Always holds: who is being deleted asks for nothing any more.  Called by `controlplane.writing`
before a flag goes.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from controlplane import errors
from controlplane.store.records import DesiredRow, Record
from schemas import names
from schemas.documents import canonical_json
from schemas.meta import Json
from schemas.module import DesiredModule

MOST = 5
"""How many are named; the rest is counted."""


class Seeing(Protocol):
    """What is asked: a transaction or a reading."""

    def list(self, kind: str) -> Sequence[Record]:
        """Every object of a kind."""
        ...

    def desired(self) -> Sequence[DesiredRow]:
        """Every desired row."""
        ...


def check_flag(seeing: Seeing, name: str) -> None:
    """errors.StillNeeded: somebody asks for this flag."""
    needing = list(needing_flag(seeing, name))
    if needing:
        raise errors.StillNeeded("FeatureFlag", name, _listed(needing))


def needing_flag(seeing: Seeing, name: str) -> Iterator[str]:
    """What asks for a flag, as ``Kind name``, in the order of names."""
    routes = {row.name: row for row in seeing.desired() if row.kind == "Module" and not row.deleted}
    for record in seeing.list("Module"):
        if record.deleting:
            continue
        floor = record.spec.get("auth") or {}
        if name in _names(floor, "featureFlags") or _asked_by_route(routes.get(record.name), name):
            yield f"Module {record.name}"
    for record in seeing.list("FeatureFlag"):
        if not record.deleting and name in _names(record.spec, "prerequisites"):
            yield f"FeatureFlag {record.name}"


def _names(holder: Json, field: str) -> set[str]:
    return {names.object_name(word) for word in holder.get(field) or ()}


def _asked_by_route(row: DesiredRow | None, name: str) -> bool:
    if row is None or canonical_json(name) not in row.payload:
        return False
    module = DesiredModule.model_validate_json(row.payload)
    return any(name in route.policy.feature_flags for route in module.routes)


def _listed(needing: list[str]) -> str:
    rest = len(needing) - MOST
    return ", ".join(needing[:MOST]) + (f" and {rest} more" if rest > 0 else "")
