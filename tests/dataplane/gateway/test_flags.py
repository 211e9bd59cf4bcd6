"""Nine steps, each with its reason; more percent only adds; whatever is wrong is off."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.gateway import flags
from schemas.flag import FlagDefinition
from schemas.meta import Json
from schemas.principals import Principal

NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def flag(**spec: Any) -> FlagDefinition:
    return FlagDefinition.model_validate(spec)


def caller(subject: str = "ann", organisation: str | None = "acme", **more: Any) -> Principal:
    return Principal(issuer="https://login", subject=subject, organisation=organisation, expires=NOW + 60, **more)


def of(**definitions: FlagDefinition) -> flags.FlagSet:
    return flags.FlagSet().with_changes(definitions)


def reason(found: flags.FlagSet, name: str = "f", who: Principal | None = None, now: float = NOW) -> tuple[bool, str]:
    evaluation = found.evaluate(name, who or caller(), now)
    return evaluation.on, evaluation.reason


OVERRIDES: Json = {"users": [{"key": "ann", "variant": "on"}], "organisations": [{"key": "acme", "variant": "off"}]}
TARGETED: Json = {"if": [{"==": [{"var": "organisation"}, "acme"]}, "on", None]}
EVERYBODY: Json = {"percentage": 100}


@pytest.mark.parametrize(
    ("spec", "on", "why"),
    [
        ({"killSwitch": True, "state": "DISABLED", "overrides": OVERRIDES}, False, "FlagKilled"),
        ({"state": "DISABLED", "prerequisites": ["none"], "defaultVariant": "on"}, False, "FlagDisabled"),
        ({"prerequisites": ["none"], "overrides": OVERRIDES, "defaultVariant": "on"}, False, "FlagPrerequisite"),
        ({"overrides": OVERRIDES, "targeting": TARGETED}, True, "FlagUserOverride"),
        ({"overrides": {"organisations": OVERRIDES["organisations"]}, "targeting": TARGETED}, False,
         "FlagOrganisationOverride"),
        ({"targeting": TARGETED, "rollout": {"variant": "off", "percentage": 100}}, True, "FlagTargeting"),
        ({"targeting": {"if": [False, "on"]}, "rollout": EVERYBODY}, True, "FlagRollout"),
        ({"targeting": {"if": [False, "on"]}, "rollout": {"percentage": 0}}, False, "FlagDefault"),
        ({"defaultVariant": "on"}, True, "FlagDefault"),
    ],
)  # fmt: skip
def test_the_first_step_that_applies_decides_and_is_the_reason(spec: Json, on: bool, why: str) -> None:
    assert reason(of(f=flag(**spec))) == (on, why)


def test_what_nobody_knows_is_off() -> None:
    assert reason(flags.FlagSet()) == (False, "FlagUnknown")


@pytest.mark.parametrize(
    "spec",
    [
        {"targeting": {"log": "x"}},
        {"targeting": {"if": [True, "neither"]}},
        {"targeting": {"/": [1, 0]}},
        {"targeting": {"if": [True, ""]}},
        {"variants": {"on": "yes", "off": "no"}, "defaultVariant": "on"},
        {"variants": {"on": 1, "off": 0}, "defaultVariant": "on"},
        {"defaultVariant": "gone"},
        {"overrides": {"users": [{"key": "ann", "variant": "gone"}]}},
        {"rollout": {"percentage": 100, "variant": "gone"}},
    ],
)
def test_whatever_is_wrong_is_off(spec: Json) -> None:
    assert reason(of(f=flag(**{"defaultVariant": "on", **spec}))) == (False, "FlagMalformed")


def test_a_broken_rule_is_off_even_where_the_default_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"sem_ver": [{"var": "claims.version"}, ">=", "1.0.0"]}
    found = of(f=flag(targeting={"if": [bad, "on", "off"]}))
    assert reason(found, who=caller(claims={"version": "\x1b[31mnone"})) == (False, "FlagTargeting")
    assert reason(found, who=caller(claims={"version": "1.2.3"})) == (True, "FlagTargeting")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("who", "key"), [("users", "ann"), ("organisations", "acme")])
def test_an_override_counts_until_it_expires_and_is_then_as_if_absent(who: str, key: str) -> None:
    entry = {"key": key, "variant": "on", "expires": "2030-01-01T00:00:10Z"}
    found, ann = of(f=flag(overrides={who: [entry]})), caller()
    first = found.evaluate("f", ann, NOW)
    assert (first.on, first.until) == (True, NOW + 10)
    assert found.evaluate("f", ann, NOW + 9.9).on
    assert found.evaluate("f", ann, NOW + 10).reason == "FlagDefault"


def test_an_expired_override_of_the_user_leaves_the_organisations() -> None:
    expired = {"users": [{"key": "ann", "variant": "off", "expires": "2029-01-01T00:00:00Z"}],
               "organisations": [{"key": "acme", "variant": "on"}]}  # fmt: skip
    assert reason(of(f=flag(overrides=expired))) == (True, "FlagOrganisationOverride")


def test_overrides_are_for_exactly_whom_they_name() -> None:
    found = of(f=flag(overrides={"users": OVERRIDES["users"]}))
    for other in (caller("Ann"), caller("ann "), caller("bob"), None):
        evaluation = found.evaluate("f", other, NOW)
        assert (evaluation.on, evaluation.reason) == (False, "FlagDefault")


def test_targeting_sees_the_caller_and_nobody_else() -> None:
    rule = {"and": [{"in": ["beta", {"var": "roles"}]}, {"ends_with": [{"var": "claims.email"}, "@acme.com"]}]}
    found = of(f=flag(targeting={"if": [rule, "on", "off"]}))
    assert found.evaluate("f", caller(roles=frozenset({"beta"}), claims={"email": "a@acme.com"}), NOW).on
    assert not found.evaluate("f", caller(roles=frozenset({"beta"}), claims={"email": "a@evil.com"}), NOW).on
    assert not found.evaluate("f", None, NOW).on


def test_a_rule_over_the_clock_is_asked_again_in_the_next_second() -> None:
    found = of(f=flag(targeting={"if": [{">": [{"var": "$flagd.timestamp"}, 0]}, "on"]}))
    assert found.evaluate("f", caller(), NOW + 0.25).until == NOW + 1


# --- prerequisites


def test_prerequisites_must_be_on_for_the_caller() -> None:
    found = of(base=flag(overrides={"users": OVERRIDES["users"]}), f=flag(prerequisites=["base"], defaultVariant="on"))
    assert reason(found) == (True, "FlagDefault")
    assert reason(found, who=caller("bob")) == (False, "FlagPrerequisite")


def test_a_prerequisites_override_bounds_the_answer() -> None:
    entry = {"key": "ann", "variant": "on", "expires": "2030-01-01T00:00:10Z"}
    found = of(base=flag(overrides={"users": [entry]}), f=flag(prerequisites=["base"], defaultVariant="on"))
    assert found.evaluate("f", caller(), NOW).until == NOW + 10


def test_a_circle_is_off_until_it_opens() -> None:
    found = of(a=flag(prerequisites=["b"], defaultVariant="on"), b=flag(prerequisites=["a"], defaultVariant="on"))
    before = found.revision_of("a")
    assert reason(found, "a") == reason(found, "b") == (False, "FlagPrerequisite")
    opened = found.with_changes({"b": flag(defaultVariant="on")})
    assert reason(opened, "a") == (True, "FlagDefault")
    assert opened.revision_of("a") != before
    assert reason(found.with_changes({"b": None}), "a") == (False, "FlagPrerequisite")


def test_a_long_chain_is_off_and_not_a_crash() -> None:
    chain = {f"f{n}": flag(prerequisites=[f"f{n + 1}"], defaultVariant="on") for n in range(3000)}
    found = of(**chain, f3000=flag(defaultVariant="on"))
    assert reason(found, "f0") == (False, "FlagPrerequisite")
    assert reason(found, "f2990") == (True, "FlagDefault")


# --- revisions


def test_revisions_move_for_what_changed_and_what_needs_it_only() -> None:
    found = of(a=flag(), b=flag(prerequisites=["c"]), c=flag(prerequisites=["d"]), z=flag())
    before = {name: found.revision_of(name) for name in "abcdz"}
    after = found.with_changes({"d": flag()})
    moved = {name for name in "abcdz" if after.revision_of(name) != before[name]}
    assert moved == {"b", "c", "d"}
    gone = after.with_changes({"d": None})
    assert {name for name in "abcdz" if gone.revision_of(name) != after.revision_of(name)} == {"b", "c", "d"}
    assert gone.revision_of("d") == 0


NAMES = ["a", "b", "c", "d"]
DEFINITIONS = st.builds(
    lambda needs, default, kill: flag(prerequisites=needs, defaultVariant=default, killSwitch=kill),
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    st.sampled_from(["on", "off"]),
    st.booleans(),
)
CHANGES = st.lists(st.dictionaries(st.sampled_from(NAMES), DEFINITIONS | st.none(), max_size=2), max_size=6)


@given(CHANGES)
def test_an_answer_moves_only_with_its_revision_and_equals_one_made_at_once(
    changes: list[dict[str, FlagDefinition | None]],
) -> None:
    found, whole = flags.FlagSet(), dict[str, FlagDefinition]()
    ann = caller()
    for change in changes:
        before = {name: (found.revision_of(name), found.evaluate(name, ann, NOW).on) for name in NAMES}
        found = found.with_changes(change)
        whole = {name: each for name, each in {**whole, **change}.items() if each is not None}
        fresh = flags.FlagSet().with_changes(dict(whole))
        for name in NAMES:
            now_on = found.evaluate(name, ann, NOW).on
            assert now_on == fresh.evaluate(name, ann, NOW).on
            if found.revision_of(name) == before[name][0]:
                assert now_on == before[name][1]


# --- rollouts

PERCENT = st.floats(0, 100).map(lambda value: round(value, 3))
KEYS = st.text(min_size=1, max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=9), KEYS, PERCENT, PERCENT,
       st.sampled_from(["user", "organisation"]))  # fmt: skip
def test_more_percent_only_ever_adds(name: str, key: str, one: float, other: float, by: str) -> None:
    less, more = sorted((one, other))
    who = caller(key, key)
    was, now = (
        of(**{name: flag(rollout={"percentage": share, "bucketBy": by})}).evaluate(name, who, NOW).on
        for share in (less, more)
    )
    assert now or not was


@pytest.mark.parametrize("by", ["user", "organisation"])
def test_a_rollout_takes_in_about_its_share_and_the_ends_are_exact(by: str) -> None:
    who = [caller(f"user-{n}", f"org-{n}") for n in range(2000)]

    def share(percentage: float) -> int:
        found = of(f=flag(rollout={"percentage": percentage, "bucketBy": by}))
        return sum(found.evaluate("f", each, NOW).on for each in who)

    assert share(0) == 0
    assert share(100) == 2000
    assert 500 < share(30) < 700


def test_users_of_one_organisation_are_together_when_organisations_are_divided() -> None:
    found = of(f=flag(rollout={"percentage": 50, "bucketBy": "organisation"}))
    for n in range(20):
        assert len({found.evaluate("f", caller(f"u{m}", f"org-{n}"), NOW).on for m in range(5)}) == 1


def test_callers_without_a_key_are_taken_in_last() -> None:
    for by, nobody in (("user", None), ("organisation", caller(organisation=None))):
        for percentage, on in ((99.999, False), (100, True)):
            found = of(f=flag(rollout={"percentage": percentage, "bucketBy": by}))
            assert found.evaluate("f", nobody, NOW).on is on


def test_two_flags_divide_differently() -> None:
    found = of(a=flag(rollout={"percentage": 50}), b=flag(rollout={"percentage": 50}))
    who = [caller(f"user-{n}") for n in range(200)]
    both = sum(found.evaluate("a", each, NOW).on and found.evaluate("b", each, NOW).on for each in who)
    assert 25 < both < 75


def test_buckets_stay_where_they_were() -> None:
    """These are of the pinned version of flagd's core: another version may divide anew, which moves people."""
    found = of(f=flag(rollout={"percentage": 50}))
    assert [found.evaluate("f", caller(f"user-{n}"), NOW).on for n in range(12)] == BUCKETS


BUCKETS = [True, False, False, False, False, False, False, False, False, True, False, False]


# --- remembering


def test_answers_are_remembered_for_the_same_caller_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "CACHED", 5)
    found, ann = of(f=flag(defaultVariant="on")), caller()
    assert found.evaluate("f", ann, NOW) is found.evaluate("f", ann, NOW + 1)
    for n in range(50):
        found.evaluate("f", caller(f"u{n}"), NOW)
    assert len(found._known) <= 5
