"""What is known of every generation that ever was, and the pure judges of answers and of lifecycle events.

`History` is filled by `tests.soak.watching` (the API's watch: spec, state, when we saw it) and by the events stream.
`judge` says of one answer why it must not have been, `excuse` which fault explains a call without an answer,
`illegal` what is wrong with the events of one object.  Pure: no I/O, no clock.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SETTLING = 30.0
"""Seconds after a fault's end in which a worker may not have heard yet what was said while it was apart."""
CUTTING = 5.0
"""Seconds after a worker's end in which a caller may still find its kept connection dead."""


class Asked(StrEnum):
    """What a call asked for."""

    OPEN = "open"
    """A route that anybody may call."""
    ALLOWED = "allowed"
    """A guarded route, with a token that it wants."""
    BARE = "bare"
    """A guarded route, without a token."""


@dataclass(slots=True)
class Generation:
    """One generation of one object."""

    name: str
    uid: str
    number: int
    token: str
    stamp: str
    active_at: float = math.inf
    """When we saw it ACTIVE; inf: never yet."""


@dataclass(frozen=True, slots=True)
class Firm:
    """From ``since`` on every worker was seen to serve at least this generation of a name."""

    since: float
    uid: str
    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One call, and what came of it."""

    name: str
    started: float
    ended: float
    asked: Asked = Asked.OPEN
    status: int = 0
    """0: there was no answer; ``failure`` says why."""
    failure: str = ""
    worker: str = ""
    module: str = ""
    token: str = ""
    stamp: str = ""
    detail: str = ""


@dataclass(slots=True)
class Span:
    """A time in which a fault may show to callers."""

    name: str
    since: float
    until: float = math.inf
    cuts: bool = False
    """Connections to a worker may end or stand still."""
    parts: bool = False
    """Workers may be apart from the truth, so that they serve what was."""
    clocks: bool = False
    """Good tokens may seem to be of another time."""

    def touches(self, since: float, until: float, margin: float) -> bool:
        """Whether it was on between two moments, or ended less than ``margin`` before."""
        return self.since <= until and since <= self.until + margin


@dataclass(slots=True)
class History:
    """Everything that was seen; times are of our monotonic clock."""

    generations: dict[tuple[str, int], Generation] = field(default_factory=dict)
    by_content: dict[tuple[str, str, str], list[Generation]] = field(default_factory=lambda: defaultdict(list))
    latest: dict[str, int] = field(default_factory=dict)
    """The newest generation by uid."""
    gone_at: dict[str, float] = field(default_factory=dict)
    """By uid: when we saw that the object is gone."""
    firm: dict[str, Firm] = field(default_factory=dict)
    loose_at: dict[str, float] = field(default_factory=dict)
    """By name: when somebody began to take it away, since it was firm."""
    leaving: set[str] = field(default_factory=set)
    """Objects (by uid) whose deletion was asked for."""
    registered: set[tuple[str, int]] = field(default_factory=set)
    active: set[tuple[str, int]] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)

    def saw(self, name: str, uid: str, number: int, token: str, stamp: str) -> None:
        """An object was stored with this content."""
        self.latest[uid] = max(self.latest.get(uid, 0), number)
        if (uid, number) in self.generations:
            return
        made = self.generations[uid, number] = Generation(name, uid, number, token, stamp)
        self.by_content[name, token, stamp].append(made)

    def saw_active(self, uid: str, number: int, at: float) -> None:
        """A generation was seen to be ACTIVE."""
        found = self.generations.get((uid, number))
        if found is not None:
            found.active_at = min(found.active_at, at)

    def take_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """What the events stream says was registered, and ACTIVE."""
        for event in events:
            data = event["data"]
            if data.get("to") == "REGISTERED":
                self.registered.add((data["uid"], data["generation"]))
            elif data.get("to") == "ACTIVE":
                self.active.add((data["uid"], data["generation"]))

    def is_firm(self, name: str, since: float, until: float) -> Firm | None:
        """What every worker must serve of a name between two moments."""
        firm = self.firm.get(name)
        if firm is None or firm.since > since or self.loose_at.get(name, math.inf) <= until:
            return None
        return firm

    def apart(self, since: float, until: float) -> bool:
        """Whether workers may have been apart from the truth."""
        return any(span.parts and span.touches(since, until, SETTLING) for span in self.spans)


def judge(answer: Answer, history: History) -> str:
    """Why this answer must not have been; empty: all is well."""
    firm = history.is_firm(answer.name, answer.started, answer.ended)
    if answer.status == 0:
        return "" if excuse(answer, history.spans) else f"no answer, and no fault explains it: {answer.failure}"
    if answer.status == 200:
        return _judge_content(answer, history, firm)
    if answer.status == 401 and answer.asked is not Asked.OPEN:
        return _judge_refusal(answer, history)
    if firm is not None:
        return f"status {answer.status} ({answer.detail}) from a module that every worker serves"
    if answer.status >= 500 and answer.status != 503:
        return f"status {answer.status} ({answer.detail}) from a module that answers well"
    return ""


def _judge_content(answer: Answer, history: History, firm: Firm | None) -> str:
    if answer.asked is Asked.BARE:
        return "a guarded route answered a caller without a token"
    made = history.by_content.get((answer.module, answer.token, answer.stamp), [])
    if not made or answer.module != answer.name:
        return "an answer of something that was never stored"
    registered = [each for each in made if (each.uid, each.number) in history.registered]
    if not registered:
        return f"an answer of generation {made[-1].number}, which was never REGISTERED"
    real = [each for each in registered if _was_active(each, history)]
    if not real:
        return f"an answer of generation {registered[-1].number}, which was never ACTIVE and never overtaken"
    newest = max(real, key=lambda each: (history.gone_at.get(each.uid, math.inf), each.number))
    if firm is not None and (newest.uid != firm.uid or newest.number < firm.number):
        return f"an answer of generation {newest.number}, when every worker served generation {firm.number}"
    return _stale(answer, history, newest)


def _judge_refusal(answer: Answer, history: History) -> str:
    moved = any(span.clocks and span.touches(answer.started, answer.ended, SETTLING) for span in history.spans)
    return "" if answer.asked is Asked.BARE or moved else f"a good token was refused: {answer.detail}"


def _was_active(generation: Generation, history: History) -> bool:
    """Whether it was ACTIVE at some time, or the next one (or the deletion) came before it could be."""
    uid, number = generation.uid, generation.number
    return (uid, number) in history.active or history.latest[uid] > number or uid in history.leaving


def _stale(answer: Answer, history: History, newest: Generation) -> str:
    """Outside of faults nobody answers from the past."""
    if history.apart(answer.started, answer.ended):
        return ""
    if history.gone_at.get(newest.uid, math.inf) < answer.started:
        return f"an answer of an object that was gone {answer.started - history.gone_at[newest.uid]:.2f} s before"
    later = [
        each
        for (uid, number), each in history.generations.items()
        if uid == newest.uid and number > newest.number and each.active_at < answer.started
    ]
    if later:
        return f"an answer of generation {newest.number}, after generation {later[-1].number} was ACTIVE"
    return ""


def excuse(answer: Answer, spans: Sequence[Span]) -> str:
    """The fault that explains a call without an answer."""
    for span in spans:
        if span.cuts and span.touches(answer.started, answer.ended, CUTTING):
            return span.name
    return ""


_STEPS = {
    None: {"DISCOVERED"},
    "DISCOVERED": {"DISCOVERED", "VALIDATED", "ERROR", "UNREGISTERED"},
    "VALIDATED": {"DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE", "ERROR", "UNREGISTERED"},
    "REGISTERED": {"DISCOVERED", "REGISTERED", "ACTIVE", "ERROR", "UNREGISTERED"},
    "ACTIVE": {"DISCOVERED", "REGISTERED", "ERROR", "UNREGISTERED"},
    "ERROR": {"DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE", "UNREGISTERED"},
    "UNREGISTERED": set(),
}  # fmt: skip


def illegal(events: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with the events of one object, repeats removed, in order of their sequence; empty: nothing."""
    state, generation = None, 0
    passed: set[tuple[str, int]] = set()
    for number, data in enumerate(events, 1):
        to = data["to"]
        if data["sequence"] != number:
            return f"event {number} is missing: the next has sequence {data['sequence']}"
        if data["from"] != state or to not in _STEPS[state]:
            return f"event {number} goes from {data['from']} to {to}, behind {state}"
        if data["generation"] < generation or (to == "DISCOVERED" and data["generation"] <= generation):
            return f"event {number} ({to}) is of generation {data['generation']}, behind generation {generation}"
        state, generation = to, data["generation"]
        passed.add((to, generation))
        if to == "ACTIVE" and not {("VALIDATED", generation), ("REGISTERED", generation)} <= passed:
            return f"event {number}: generation {generation} is ACTIVE without having been VALIDATED and REGISTERED"
    return ""
