"""The status that a decision writes, put together condition by condition.

Pure.  What always holds: every condition carries the generation that was read; one that stays as it is keeps
its transition time; the state is projected from the conditions, never set; each change of it is a step.
Called by `deciding` and `unregistering`.
"""

from dataclasses import dataclass, field

from controlplane.reconcile import diagnosing
from controlplane.reconcile.facts import Action, Decision, Facts, Step
from controlplane.store.records import Contest
from schemas import conditions, names
from schemas.meta import Condition, ConditionStatus
from schemas.module import (
    DesiredModule,
    HealthSummary,
    ModuleState,
    ModuleStatus,
    RouteStatus,
    ServingStatus,
    WorkerCounts,
)

_SPEAKER = {
    ModuleState.DISCOVERED: conditions.VALID,
    ModuleState.VALIDATED: conditions.VALID,
    ModuleState.REGISTERED: conditions.REGISTERED,
    ModuleState.ACTIVE: conditions.PROGRAMMED,
    ModuleState.ERROR: conditions.STALLED,
    ModuleState.UNREGISTERED: conditions.DELETING,
}
"""Whose reason and message a step into a state carries."""


@dataclass(slots=True)
class Draft:
    """A status in the making."""

    facts: Facts
    listed: list[Condition] = field(default_factory=list)
    serving: ServingStatus | None = None
    last_good: ServingStatus | None = None
    health: HealthSummary | None = None
    routes: list[RouteStatus] = field(default_factory=list)
    workers: WorkerCounts = field(default_factory=WorkerCounts)
    contests: tuple[Contest, ...] | None = None
    touching: set[str] | None = None

    @classmethod
    def of(cls, facts: Facts) -> "Draft":
        """A draft that begins with what the status says now."""
        status = facts.status
        return cls(
            facts,
            list(status.conditions),
            status.serving,
            status.last_good,
            status.health,
            list(status.routes),
            status.workers,
        )

    def put(self, kind: str, status: ConditionStatus | bool, reason: str, message: str) -> None:
        """Set a condition for the generation that was read."""
        if isinstance(status, bool):
            status = ConditionStatus.TRUE if status else ConditionStatus.FALSE
        generation = self.facts.record.generation
        stored = conditions.get(self.facts.status.conditions, kind)
        if stored is None or stored.status is not status:
            new = conditions.condition(kind, status, reason, message, generation, self.facts.now)
        elif (stored.reason, stored.message, stored.observed_generation) == (reason, message, generation):
            new = stored
        else:
            new = conditions.condition(kind, status, reason, message, generation, stored.last_transition_time)
        self.listed = conditions.put(conditions.drop(self.listed, kind), new)

    def stall(self, reason: str, message: str) -> None:
        """Say that only a person can bring this generation further."""
        self.put(conditions.STALLED, True, reason, message)

    def diagnosed(self, found: diagnosing.Diagnosis) -> None:
        """Say what is known of the health of what serves."""
        self.put(conditions.HEALTHY, found.status, found.reason, found.message)
        self.health = found.summary

    def drop(self, kind: str) -> None:
        """Take a condition away."""
        self.listed = conditions.drop(self.listed, kind)

    def get(self, kind: str) -> Condition | None:
        """A condition, if it observed the generation that was read."""
        found = conditions.get(self.listed, kind)
        return found if found is not None and found.observed_generation == self.facts.record.generation else None

    def holds(self, kind: str) -> bool:
        """Whether a condition is True for the generation that was read."""
        return conditions.is_true(self.listed, kind, self.facts.record.generation)

    def decision(
        self,
        action: Action = Action.NOTHING,
        *,
        desired: DesiredModule | None = None,
        requeue_after: float | None = None,
        awaits_fleet: bool = False,
        awaits_claims: bool = False,
        unregistered: bool = False,
    ) -> Decision:
        """The finished decision."""
        self._put_ready()
        record = self.facts.record
        state = conditions.state(self.listed, record.generation, unregistered=unregistered)
        status = ModuleStatus(
            state=state,
            observed_generation=record.generation,
            serving=self.serving,
            last_good=self.last_good,
            health=self.health,
            conditions=self.listed,
            routes=self.routes,
            workers=self.workers,
        )
        return Decision(
            status=_calm(status, self.facts.status),
            action=action,
            steps=tuple(self._steps(state)),
            desired=desired,
            requeue_after=requeue_after,
            awaits_fleet=awaits_fleet,
            awaits_claims=awaits_claims,
            contests=self.contests,
            touching=None if self.touching is None else frozenset(self.touching),
        )

    def _put_ready(self) -> None:
        stalled = self.get(conditions.STALLED)
        healthy = conditions.get(self.listed, conditions.HEALTHY)
        deleting = self.get(conditions.DELETING)
        if deleting is not None:
            self.put(conditions.READY, False, deleting.reason, deleting.message)
        elif stalled is not None:
            self.put(conditions.READY, False, stalled.reason, stalled.message)
        elif not self.holds(conditions.PROGRAMMED):
            self.put(conditions.READY, False, *self._first_gap())
        elif healthy is not None and healthy.status is ConditionStatus.FALSE:
            self.put(conditions.READY, False, healthy.reason, healthy.message)
        else:
            self.put(conditions.READY, True, "Serving", "this generation serves")

    def _first_gap(self) -> tuple[str, str]:
        for kind in (
            conditions.VALID,
            conditions.ROUTES_ACCEPTED,
            conditions.DEPENDENCIES_READY,
            conditions.REGISTERED,
            conditions.PROGRAMMED,
        ):
            found = self.get(kind)
            if found is not None and found.status is not ConditionStatus.TRUE:
                return found.reason, found.message
        return "Pending", "waiting for the control plane"

    def _steps(self, state: ModuleState) -> list[Step]:
        before = self.facts.status
        old: ModuleState | None = before.state
        steps = []
        generation = self.facts.record.generation
        validated = self.holds(conditions.VALID) and not conditions.is_true(
            before.conditions, conditions.VALID, generation
        )
        if validated and state not in (ModuleState.VALIDATED, ModuleState.DISCOVERED, ModuleState.UNREGISTERED):
            steps.append(self._step(old, ModuleState.VALIDATED))
            old = ModuleState.VALIDATED
        if state is not old or self._lost_its_workers(state):
            steps.append(self._step(old, state))
        return steps

    def _lost_its_workers(self, state: ModuleState) -> bool:
        """One event tells of NoWorkers, also when the state stays REGISTERED."""
        new = conditions.get(self.listed, conditions.PROGRAMMED)
        old = conditions.get(self.facts.status.conditions, conditions.PROGRAMMED)
        return (
            state is ModuleState.REGISTERED
            and new is not None
            and new.reason == "NoWorkers"
            and (old is None or old.reason != "NoWorkers" or old.observed_generation != new.observed_generation)
        )

    def _step(self, old: ModuleState | None, to: ModuleState) -> Step:
        speaker = self.get(_SPEAKER[to])
        programmed = self.get(conditions.PROGRAMMED)
        if to is ModuleState.REGISTERED and programmed is not None and programmed.status is ConditionStatus.FALSE:
            speaker = programmed
        if speaker is None:
            return Step(old, to, str(to).capitalize(), "")
        return Step(old, to, speaker.reason, speaker.message)


def _calm(new: ModuleStatus, old: ModuleStatus) -> ModuleStatus:
    """The new status, or the old one if only the time of the last check differs: that is worth no write."""
    if new.health is None or old.health is None:
        return new
    quiet = new.model_copy(update={"health": new.health.model_copy(update={"last_check": old.health.last_check})})
    return quiet if quiet == old else new


def blocked_by(finalizers: tuple[str, ...]) -> list[str]:
    """The finalizers that are not ours."""
    return [finalizer for finalizer in finalizers if finalizer != names.FINALIZER]
