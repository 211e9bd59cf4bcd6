"""What a flag is for a caller: nine steps, the first that applies decides, and its name is the reason.

    unknown → killed, disabled → prerequisites → (the tenant's right: `dataplane.gateway.tenants`) → user's override →
    organisation's override → targeting → rollout → default

Rules and rollouts are evaluated by flagd's own core, whose bucketing is pinned with its version; the context is
OpenFeature's: its targeting key is the user, its attribute ``organisation`` the tenant.  Pure; made off the serving
loop, one `FlagSet` for each change, which shares what did not change.

Always: what cannot be decided is off; nothing that a caller says makes an evaluation fail for others or print.
Asked by `dataplane.gateway.deciding`, by `dataplane.gateway.providing` and, for modules, by the SDK.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails

from dataplane.gateway.standing import Evaluation
from schemas import targeting
from schemas.flag import PARTS, BucketBy, FlagDefinition, FlagOverride, FlagReason, FlagState
from schemas.principals import Principal

# the core logs what callers send, with stack traces, whenever an operator does not like it
logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)

T = TypeVar("T")

CACHED: Final = 10_000
"""Evaluations that a set remembers at most."""
MAX_PREREQUISITES: Final = 100
"""Of one flag, those of its prerequisites included; one with more is off."""

Ask = Callable[..., "FlagResolutionDetails[Any]"]
NOBODY: Final = EvaluationContext(attributes={"roles": [], "permissions": [], "claims": {}})


@dataclass(frozen=True, slots=True)
class Resolution:
    """The variant that a flag has for a caller; ``variant`` None: it is off, whatever its values are."""

    variant: str | None
    value: Any
    reason: FlagReason
    until: float | None = None
    """The earliest unix time at which this may change by itself; None: never."""

    @property
    def on(self) -> bool:
        """Whether the value is true, and not merely something."""
        return self.value is True


@dataclass(frozen=True, slots=True)
class _Fixed:
    variant: str
    expires: float | None


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag, made ready."""

    name: str
    definition: FlagDefinition
    malformed: bool
    moves: bool
    """Whether the targeting reads the clock."""
    users: Mapping[str, _Fixed]
    organisations: Mapping[str, _Fixed]
    rules: Ask | None
    """Which variant the targeting names."""
    split: Ask | None
    """Whether a key is within the rollout."""

    def decided(self, context: EvaluationContext, now: float) -> Resolution:
        """Steps five to nine."""
        organisation = context.attributes.get("organisation")
        for fixed, reason in (
            (self.users.get(context.targeting_key or ""), FlagReason.USER),
            (self.organisations.get(organisation) if isinstance(organisation, str) else None, FlagReason.ORGANISATION),
        ):
            if fixed is not None and (fixed.expires is None or now < fixed.expires):
                return self._resolution(fixed.variant, reason, fixed.expires)
        until = math.floor(now) + 1.0 if self.moves else None
        if self.malformed:
            return Resolution(None, None, FlagReason.MALFORMED)
        if self.rules is not None and (found := _variant(self.rules, self.name, context)) is not None:
            return self._resolution(found, FlagReason.TARGETING, until)
        rollout = self.definition.rollout
        if rollout is not None and self._within(context, organisation):
            return self._resolution(rollout.variant, FlagReason.ROLLOUT, until)
        return self._resolution(self.definition.default_variant, FlagReason.DEFAULT, until)

    def _within(self, context: EvaluationContext, organisation: Any) -> bool:
        rollout = self.definition.rollout
        assert rollout is not None, "asked of a flag with a rollout"
        if rollout.percentage >= 100:
            return True
        key = context.targeting_key if rollout.bucket_by is BucketBy.USER else organisation
        if self.split is None or not isinstance(key, str) or not key:
            return False
        return _variant(self.split, self.name, EvaluationContext(key)) == rollout.variant

    def _resolution(self, variant: str, reason: FlagReason, until: float | None) -> Resolution:
        if variant not in self.definition.variants:
            return Resolution(None, None, FlagReason.MALFORMED, until)
        return Resolution(variant, self.definition.variants[variant], reason, until)


def made(name: str, definition: FlagDefinition) -> Flag:
    """A flag made ready to be evaluated."""
    malformed = any(targeting.faults(definition.targeting))
    overrides, rollout = definition.overrides, definition.rollout
    rules = definition.targeting if definition.targeting and not malformed else None
    split = None
    if rollout is not None and (weight := round(rollout.percentage * PARTS / 100)) > 0:
        split = _core(name, definition, {"fractional": [[rollout.variant, weight], [None, PARTS - weight]]})
    return Flag(
        name=name,
        definition=definition,
        malformed=malformed,
        moves=targeting.moves_with_time(definition.targeting),
        users=_fixed(overrides.users),
        organisations=_fixed(overrides.organisations),
        rules=None if rules is None else _core(name, definition, rules),
        split=split,
    )


def context_of(principal: Principal | None) -> EvaluationContext:
    """What targeting sees of a caller."""
    if principal is None:
        return NOBODY
    attributes: dict[str, Any] = {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "roles": sorted(principal.roles),
        "permissions": sorted(principal.permissions),
        "claims": dict(principal.claims),
    }
    if principal.organisation is not None:
        attributes["organisation"] = principal.organisation
    return EvaluationContext(principal.subject, attributes)


@dataclass(frozen=True, slots=True)
class FlagSet:
    """Every flag, as of one revision; never changed but for what it remembers of its own answers."""

    revision: int = 0
    flags: Mapping[str, Flag] = field(default_factory=dict)
    _orders: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    """Of each flag with prerequisites: all that it needs, each behind what that needs; None: a circle, or too many."""
    _revisions: Mapping[str, int] = field(default_factory=dict)
    _known: dict[tuple[str, int], tuple[Principal | None, Evaluation]] = field(default_factory=dict)

    def with_changes(self, changes: Mapping[str, FlagDefinition | None]) -> "FlagSet":
        """This set with some flags changed, added, or (None) gone."""
        flags = dict(self.flags)
        for name, definition in changes.items():
            flags.pop(name, None)
            if definition is not None:
                flags[name] = made(name, definition)
        orders = {name: _order(flags, name) for name, flag in flags.items() if flag.definition.prerequisites}
        revision = self.revision + 1
        revisions = {name: known for name, known in self._revisions.items() if name in flags}
        for name in flags:
            if name in changes or (name in orders and self._touches(orders[name], name, changes)):
                revisions[name] = revision
        return FlagSet(revision, flags, orders, revisions)

    def _touches(self, order: tuple[str, ...] | None, name: str, changes: Mapping[str, Any]) -> bool:
        """Whether changes are about what a flag needs; of one that cannot be ordered, now or before, all may be."""
        return order is None or self._orders.get(name) is None or not changes.keys().isdisjoint(order)

    def revision_of(self, name: str) -> int:
        """Changes when this flag, or one that it needs, changes, appears or goes; 0: there is none."""
        return self._revisions.get(name, 0)

    def evaluate(self, name: str, principal: Principal | None, now: float) -> Evaluation:
        """What the flag is for this caller at this unix time; a flag that nobody knows is off."""
        key = (name, id(principal))
        known = self._known.get(key)
        if known is not None and known[0] is principal and (known[1].until is None or now < known[1].until):
            return known[1]
        found = self.resolve(name, context_of(principal), now)
        reason = found.reason if found.variant is None or isinstance(found.value, bool) else FlagReason.MALFORMED
        evaluation = Evaluation(found.on, reason.value, found.variant, found.until)
        if len(self._known) >= CACHED:
            self._known.clear()
        self._known[key] = (principal, evaluation)
        return evaluation

    def value(self, name: str, principal: Principal | None, now: float, default: T) -> T:
        """The flag's value for this caller; ``default`` where it is off, unknown or of another type."""
        found = self.resolve(name, context_of(principal), now)
        same = isinstance(found.value, type(default)) and isinstance(found.value, bool) is isinstance(default, bool)
        return found.value if found.variant is not None and same else default

    def resolve(self, name: str, context: EvaluationContext, now: float) -> Resolution:
        """The variant that the flag has in this context."""
        order = self._orders.get(name, ())
        if order is None:
            return Resolution(None, None, FlagReason.PREREQUISITE)
        found: dict[str, Resolution] = {}
        for each in order:
            found[each] = self._resolve(each, context, now, found)
        return self._resolve(name, context, now, found)

    def _resolve(
        self, name: str, context: EvaluationContext, now: float, found: Mapping[str, Resolution]
    ) -> Resolution:
        flag = self.flags.get(name)
        if flag is None:
            return Resolution(None, None, FlagReason.UNKNOWN)
        definition = flag.definition
        if definition.kill_switch or definition.state is FlagState.DISABLED:
            return Resolution(None, None, FlagReason.KILLED if definition.kill_switch else FlagReason.DISABLED)
        until = math.inf
        for each in definition.prerequisites:
            needed = found[each]
            until = min(until, math.inf if needed.until is None else needed.until)
            if not needed.on:
                return Resolution(None, None, FlagReason.PREREQUISITE, needed.until)
        own = flag.decided(context, now)
        until = min(until, math.inf if own.until is None else own.until)
        return Resolution(own.variant, own.value, own.reason, None if until == math.inf else until)


def _fixed(overrides: Iterable[FlagOverride]) -> dict[str, _Fixed]:
    return {
        each.key: _Fixed(each.variant, None if each.expires is None else each.expires.timestamp()) for each in overrides
    }


def _core(name: str, definition: FlagDefinition, rules: dict[str, Any]) -> Ask:
    """The core of flagd with one flag, whose answer is a variant or, by having no default, none."""
    core = FlagdCore()
    variants = dict.fromkeys(definition.variants, True)
    core.set_flags({"flags": {name: {"state": "ENABLED", "variants": variants, "targeting": rules}}})
    return core.resolve_boolean_value


def _variant(ask: Ask, name: str, context: EvaluationContext) -> str | None:
    """Which variant flagd's core names; a name that no variant has, when it fails."""
    try:
        return ask(name, False, context).variant
    except Exception:  # noqa: BLE001 - whatever a rule does with what a caller sent, the flag is off for that caller
        return _FAILED


_FAILED: Final = "\0"


def _order(flags: Mapping[str, Flag], name: str) -> tuple[str, ...] | None:
    """All that a flag needs, each behind what that needs; None: a circle, or too many."""
    done: dict[str, None] = {}
    path: dict[str, None] = {}
    todo = [(name, False)]
    while todo:
        each, over = todo.pop()
        if over:
            path.pop(each)
            done[each] = None
        elif each in path:
            return None
        elif each not in done:
            if len(done) + len(path) > MAX_PREREQUISITES:
                return None
            path[each] = None
            flag = flags.get(each)
            needs = () if flag is None else flag.definition.prerequisites
            todo.append((each, True))
            todo.extend((other, False) for other in needs)
    return tuple(other for other in done if other != name)
