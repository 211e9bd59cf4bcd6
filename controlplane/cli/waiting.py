"""Waiting for objects: what is waited for, when it is reached, when it never will be.

The predicates are pure functions over an object as the API shows it; `until` lists, watches and ends the
command: it returns when all targets are there, raises code 1 on a terminal error and 5 at the deadline.
Called by wait, apply and delete.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.cli import client, exits, printing
from schemas import kinds
from schemas.meta import Json


@dataclass(frozen=True, slots=True)
class Target:
    """Which object is meant: a name, and if known its uid and the generation that has to be seen."""

    name: str
    uid: str | None = None
    generation: int = 0

    @staticmethod
    def of_applied(item: Json) -> "Target":
        """The very generation that an apply stored."""
        metadata = item["metadata"]
        return Target(metadata["name"], metadata.get("uid"), int(metadata.get("generation", 0)))


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for."""

    words: str
    """For messages: ``state=ACTIVE``."""
    reached: Callable[[Json], bool]
    """Whether a present object is there."""
    gone: bool = False
    """Whether the absence of the object is the goal."""


def in_state(state: str) -> Goal:
    """``status.state`` of the latest generation is ``state``."""

    def reached(item: Json) -> bool:
        status = item.get("status", {})
        return _current(item, status.get("observedGeneration", 0)) and status.get("state") == state

    return Goal(f"state={state}", reached)


def with_condition(kind: str, wanted: str) -> Goal:
    """A condition has a status, observed at the latest generation."""

    def reached(item: Json) -> bool:
        condition = _condition(item, kind)
        if condition is None:
            return wanted == "Unknown"
        return condition["status"] == wanted and _current(item, condition.get("observedGeneration", 0))

    return Goal(f"condition={kind}={wanted}", reached)


def deleted() -> Goal:
    """The object is gone."""
    return Goal("delete", lambda item: False, gone=True)


def parse(text: str) -> Goal:
    """``state=ACTIVE``, ``condition=Ready``, ``condition=Ready=False`` or ``delete``; exit code 2 for anything else."""
    what, _, rest = text.partition("=")
    if text == "delete":
        return deleted()
    if what == "state" and rest:
        return _known_state(rest)
    if what == "condition" and rest:
        kind, _, wanted = rest.partition("=")
        statuses = {"": "True", "true": "True", "false": "False", "unknown": "Unknown"}
        if wanted.lower() in statuses:
            return with_condition(_known_condition(kind), statuses[wanted.lower()])
    raise exits.usage(
        f"--for {text!r} is none of: state=STATE, condition=TYPE, condition=TYPE=True|False|Unknown, delete"
    )


def terminal(item: Json) -> str | None:
    """Why an object will never get further by itself: the reason and message of ``Stalled=True``, or None."""
    stalled = _condition(item, "Stalled")
    if stalled is None or stalled["status"] != "True" or not _current(item, stalled.get("observedGeneration", 0)):
        return None
    return f"{stalled.get('reason', 'Stalled')}: {stalled.get('message', '')}".rstrip(": ")


def until(
    api: client.Client,
    plural: str,
    targets: Mapping[str, Target],
    goal: Goal,
    *,
    deadline: float,
    told: Callable[[str], None] | None = None,
) -> None:
    """Wait until every target is at the goal; ``told`` hears the name of each one that got there."""
    left = dict(targets)
    last: dict[str, Json] = {}
    while left:
        listed = api.list_all(plural, fields=f"metadata.name={next(iter(left))}" if len(left) == 1 else None)
        present = {item["metadata"]["name"]: item for item in listed["items"]}
        for name in list(left):
            last[name] = present.get(name, {})
            _judge(left, name, present.get(name), goal, told, plural)
        if left:
            _follow(api, plural, left, last, goal, told, str(listed["metadata"]["resourceVersion"]), deadline)


def _follow(
    api: client.Client,
    plural: str,
    left: dict[str, Target],
    last: dict[str, Json],
    goal: Goal,
    told: Callable[[str], None] | None,
    after: str,
    deadline: float,
) -> None:
    fields = f"metadata.name={next(iter(left))}" if len(left) == 1 else None
    try:
        for event in api.watch(plural, after=after, deadline=deadline, fields=fields):
            item = event["object"]
            name = item["metadata"]["name"]
            if name in left:
                last[name] = item
                _judge(left, name, None if event["type"] == "DELETED" else item, goal, told, plural)
            if not left:
                return
    except client.GoneError:
        return
    except exits.Exit as end:
        if end.code != exits.TIMED_OUT:
            raise
        waits = [f"{_label(plural, name)}: {_standing(last.get(name, {}))}" for name in left]
        raise exits.timed_out(f"{goal.words} was not reached in time\n" + "\n".join(waits)) from end


def _judge(
    left: dict[str, Target],
    name: str,
    item: Json | None,
    goal: Goal,
    told: Callable[[str], None] | None,
    plural: str,
) -> None:
    target = left[name]
    absent = item is None or (target.uid is not None and item["metadata"].get("uid") != target.uid)
    if absent and not goal.gone:
        raise exits.no(f"{_label(plural, name)} is not there" + (" any more" if target.uid else ""))
    if absent or (item is not None and _new_enough(item, target) and goal.reached(item)):
        del left[name]
        if told:
            told(name)
        return
    if item is not None and not goal.gone and _new_enough(item, target) and (why := terminal(item)):
        raise exits.no(
            f"{_label(plural, name)} will not reach {goal.words}: {why}", hint=f"See: modplane describe {plural} {name}"
        )


def _new_enough(item: Json, target: Target) -> bool:
    return int(item["metadata"].get("generation", 0)) >= target.generation


def _known_state(state: str) -> Goal:
    from schemas.module import ModuleState

    known = [each.value for each in ModuleState]
    if state.upper() not in known:
        raise exits.usage(f"--for state={state}: the states are {', '.join(known)}")
    if state.upper() == ModuleState.UNREGISTERED:
        # An object that is UNREGISTERED is gone a moment later.
        return Goal("state=UNREGISTERED", in_state(state.upper()).reached, gone=True)
    return in_state(state.upper())


def _known_condition(kind: str) -> str:
    from schemas import conditions

    known = {each.lower(): each for each in conditions.ORDER}
    if kind.lower() not in known:
        raise exits.usage(f"--for condition={kind}: the conditions are {', '.join(conditions.ORDER)}")
    return known[kind.lower()]


def _current(item: Json, observed: int) -> bool:
    return int(observed) >= int(item["metadata"].get("generation", 0))


def _condition(item: Json, kind: str) -> Json | None:
    conditions: list[Json] = item.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"].lower() == kind.lower()), None)


def _label(plural: str, name: str) -> str:
    return f"{kinds.BY_PLURAL[plural].singular}/{name}"


def _standing(item: Json) -> str:
    state = item.get("status", {}).get("state")
    return f"{state}; waits for {waits_for(item)}" if state else f"waits for {waits_for(item)}"


def waits_for(item: Json) -> str:
    """What stands between a Module and Ready, another object and Applied; ``nothing`` when it is there."""
    conditions = {each["type"]: each for each in item.get("status", {}).get("conditions", [])}
    for kind in ("Deleting", "Suspended", "Stalled"):
        if conditions.get(kind, {}).get("status") == "True":
            return _because(conditions[kind])
    if conditions.get("Ready", {}).get("status") == "True":
        return "nothing"
    for kind in ("Valid", "RoutesAccepted", "DependenciesReady", "Registered", "Programmed", "Healthy"):
        if kind in conditions and conditions[kind]["status"] != "True":
            return _because(conditions[kind])
    if "Applied" in conditions and conditions["Applied"]["status"] != "True":
        return _because(conditions["Applied"])
    return _because(conditions["Ready"]) if "Ready" in conditions else "the control plane's first look"


def _because(condition: Json) -> str:
    words = f"{condition['type']}={condition['status']} ({condition.get('reason', '')})"
    return f"{words}: {condition['message']}" if condition.get("message") else words


def announce(plural: str, words: str) -> Callable[[str], None]:
    """A hearer for `until` that prints ``module/x words``."""
    return lambda name: printing.show(f"{_label(plural, name)} {words}")


def deadline(timeout: float) -> float:
    """The monotonic moment ``timeout`` seconds from now."""
    return time.monotonic() + timeout
