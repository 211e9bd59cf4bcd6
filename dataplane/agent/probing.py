"""What follows from a module's checks: is it well, and what is to be done when it is not.

    UNKNOWN ──a good check──▶ HEALTHY ◀──a good check──────────────────────┐ PUT_BACK if it was out
       └──────── failureThreshold bad ones in a row ──▶ UNHEALTHY ──▶ REBUILD, with back-off, while it stays so
                                                            └── `TRIES` fresh instances failed too ──▶ TAKE_OUT, once

Pure: time is handed in.  What always holds: fewer bad checks in a row than the threshold do nothing; each fresh
instance gets as many chances as the first; a module is out only while it is unhealthy; one good check ends all of it.
Called by `dataplane.agent.checking`.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from dataplane.runtime.asking import Answer
from schemas.module import HealthPolicy
from schemas.reports import HealthState

TRIES: Final = 2
"""How many fresh instances have to fail as well, before the module's routes are taken out."""
LONGEST_SECONDS: Final = 300.0
"""Between two fresh instances, at most."""


class Step(StrEnum):
    """What is to be done after a check."""

    NOTHING = "nothing"
    REBUILD = "rebuild"
    """Put a fresh instance of the same generation in place."""
    TAKE_OUT = "take_out"
    """Let the module's routes answer 503."""
    PUT_BACK = "put_back"
    """Let them answer again."""


@dataclass(frozen=True, slots=True)
class Vital:
    """What is known of one generation on this worker."""

    since: datetime
    """When ``state`` was entered."""
    state: HealthState = HealthState.UNKNOWN
    failures: int = 0
    """Bad checks in a row of this instance."""
    reason: str = ""
    message: str = ""
    rebuilds: int = 0
    """Fresh instances since it is unhealthy."""
    out: bool = False
    rebuild_at: float = 0.0
    """Monotonic seconds before which no further fresh instance is made."""


def heard(vital: Vital, answer: Answer, policy: HealthPolicy, now: float, at: datetime) -> tuple[Vital, Step]:
    """What is known after one more check, and what to do about it."""
    if answer.healthy:
        since = vital.since if vital.state is HealthState.HEALTHY else at
        return Vital(since, HealthState.HEALTHY), Step.PUT_BACK if vital.out else Step.NOTHING
    failures = vital.failures + 1
    if failures < policy.failure_threshold:
        return replace(vital, failures=failures), Step.NOTHING
    if vital.state is not HealthState.UNHEALTHY:
        # the words of the first failure stay: a report that says nothing new costs nothing
        vital = Vital(at, HealthState.UNHEALTHY, reason=answer.reason, message=answer.message)
    if vital.rebuilds >= TRIES and not vital.out:
        return replace(vital, failures=failures, out=True), Step.TAKE_OUT
    if now < vital.rebuild_at:
        return replace(vital, failures=failures), Step.NOTHING
    wait = min(policy.interval_seconds * 2.0 ** min(vital.rebuilds, 16), LONGEST_SECONDS)
    return replace(vital, failures=0, rebuilds=vital.rebuilds + 1, rebuild_at=now + wait), Step.REBUILD
