"""Conditions and the state that is projected from them.

Pure.  A condition is an observation with the generation that it observed; `ModuleState` is computed here and
nowhere else, so that it can never disagree with the conditions.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from schemas.meta import Condition, ConditionStatus, Json
from schemas.module import ModuleState

VALID: Final = "Valid"
ROUTES_ACCEPTED: Final = "RoutesAccepted"
DEPENDENCIES_READY: Final = "DependenciesReady"
REGISTERED: Final = "Registered"
PROGRAMMED: Final = "Programmed"
BAKED: Final = "Baked"
APPLIED: Final = "Applied"
"""Of flags, organisations, accesses and revocations: every worker that counts goes by this generation."""
HEALTHY: Final = "Healthy"
READY: Final = "Ready"
SOURCE_CURRENT: Final = "SourceCurrent"
ROUTES_CONTESTED: Final = "RoutesContested"
ROUTES_OVERLAP: Final = "RoutesOverlap"
SUSPENDED: Final = "Suspended"
STALLED: Final = "Stalled"
DELETING: Final = "Deleting"

SOURCE_INVALID: Final = "SourceInvalid"
"""The reason of `SOURCE_CURRENT` for code that cannot be packed; without older code it is that of `VALID` too."""

ORDER: Final = (
    VALID,
    ROUTES_ACCEPTED,
    DEPENDENCIES_READY,
    REGISTERED,
    PROGRAMMED,
    BAKED,
    HEALTHY,
    READY,
    APPLIED,
    SOURCE_CURRENT,
    ROUTES_CONTESTED,
    ROUTES_OVERLAP,
    SUSPENDED,
    STALLED,
    DELETING,
)
"""In which order conditions are stored and shown."""

_PLACES: Final = {kind: (place, kind) for place, kind in enumerate(ORDER)}


def get(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of a type, or None (which means Unknown)."""
    for condition in conditions:
        if condition.type == kind:
            return condition
    return None


def is_true(conditions: Iterable[Condition], kind: str, generation: int | None = None) -> bool:
    """Whether a condition is True, and, if ``generation`` is given, observed at that generation."""
    condition = get(conditions, kind)
    return (
        condition is not None
        and condition.status is ConditionStatus.TRUE
        and (generation is None or condition.observed_generation == generation)
    )


def put(conditions: Sequence[Condition], new: Condition) -> list[Condition]:
    """``conditions`` with ``new`` in its place; a status that stays keeps its transition time."""
    old = get(conditions, new.type)
    if old is not None and old.status is new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    others = [condition for condition in conditions if condition.type != new.type]
    return sorted([*others, new], key=_place)


def put_wire(stored: Iterable[Json], new: Condition) -> list[Json]:
    """What `put` does, on conditions as they are stored; all but ``new`` stay as they are written."""
    others = [entry for entry in stored if entry.get("type") != new.type]
    old = next((entry for entry in stored if entry.get("type") == new.type), None)
    told = new.wire()
    if old is not None and old.get("status") == told["status"]:
        told["lastTransitionTime"] = old.get("lastTransitionTime", told["lastTransitionTime"])
    return sorted([*others, told], key=lambda entry: _position(str(entry.get("type"))))


def drop(conditions: Sequence[Condition], kind: str) -> list[Condition]:
    """``conditions`` without the one of a type."""
    return [condition for condition in conditions if condition.type != kind]


def condition(
    kind: str, status: ConditionStatus | bool, reason: str, message: str, generation: int, at: datetime
) -> Condition:
    """A condition; a bool stands for True or False."""
    if isinstance(status, bool):
        status = ConditionStatus.TRUE if status else ConditionStatus.FALSE
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=at,
    )


def state(conditions: Iterable[Condition], generation: int, *, unregistered: bool = False) -> ModuleState:
    """The state of a module's latest generation.

    Precedence: UNREGISTERED > ERROR > ACTIVE > REGISTERED > VALIDATED > DISCOVERED; a condition counts only
    when it observed ``generation``.
    """
    listed = list(conditions)
    if unregistered:
        return ModuleState.UNREGISTERED
    if is_true(listed, STALLED, generation):
        return ModuleState.ERROR
    if is_true(listed, REGISTERED, generation):
        return ModuleState.ACTIVE if is_true(listed, PROGRAMMED, generation) else ModuleState.REGISTERED
    if is_true(listed, VALID, generation):
        return ModuleState.VALIDATED
    return ModuleState.DISCOVERED


def _place(condition: Condition) -> tuple[int, str]:
    return _position(condition.type)


def _position(kind: str) -> tuple[int, str]:
    return _PLACES.get(kind) or (len(ORDER), kind)
