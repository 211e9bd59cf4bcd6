"""Policies conjoin as logic does: checked against an evaluator that knows nothing of clauses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.module import DesiredRoute
from schemas.policies import OPEN, AuthLevel, AuthRequirement, EffectivePolicy, Match, conjoin

WORDS = st.lists(st.sampled_from("abc"), max_size=3)
REQUIREMENTS = st.builds(
    AuthRequirement,
    level=st.sampled_from(AuthLevel),
    permissions=WORDS,
    permissions_match=st.sampled_from(Match),
    roles=WORDS,
    roles_match=st.sampled_from(Match),
    feature_flags=WORDS,
)
CALLERS = st.tuples(
    st.booleans(),
    st.sets(st.sampled_from("abc")),
    st.sets(st.sampled_from(["a", "b", "admin"])),
    st.sets(st.sampled_from("abc")),
)
Caller = tuple[bool, set[str], set[str], set[str]]


def allows(policy: EffectivePolicy, caller: Caller) -> bool:
    """The gateway's evaluation, in its plainest form."""
    known, permissions, roles, flags = caller
    return (
        (known or not policy.authenticated)
        and ("admin" in roles or not policy.admin)
        and all(permissions & set(clause) for clause in policy.permissions)
        and all(roles & set(clause) for clause in policy.roles)
        and set(policy.feature_flags) <= flags
    )


def satisfied(requirement: AuthRequirement, caller: Caller) -> bool:
    """What the words of a requirement mean, from their docstrings."""
    known, permissions, roles, flags = caller

    def listed(words: list[str], match: Match, held: set[str]) -> bool:
        return not words or (any if match is Match.ANY else all)(word in held for word in words)

    needs_token = requirement.level is not AuthLevel.NONE or requirement.permissions or requirement.roles
    return bool(
        (known or not needs_token)
        and ("admin" in roles or requirement.level is not AuthLevel.ADMIN)
        and listed(requirement.permissions, requirement.permissions_match, permissions)
        and listed(requirement.roles, requirement.roles_match, roles)
        and set(requirement.feature_flags) <= flags
    )


@given(REQUIREMENTS, REQUIREMENTS, CALLERS)
def test_floor_and_route_must_both_hold(floor: AuthRequirement, route: AuthRequirement, caller: Caller) -> None:
    both = satisfied(floor, caller) and satisfied(route, caller)
    assert allows(conjoin(floor, route), caller) == both


@given(REQUIREMENTS, REQUIREMENTS)
def test_the_order_of_the_two_does_not_matter(floor: AuthRequirement, route: AuthRequirement) -> None:
    assert conjoin(floor, route) == conjoin(route, floor)


@given(REQUIREMENTS)
def test_asking_twice_is_asking_once(requirement: AuthRequirement) -> None:
    assert conjoin(requirement, requirement) == conjoin(None, requirement)


@given(REQUIREMENTS, REQUIREMENTS)
def test_the_level_shown_is_never_weaker_than_a_part(floor: AuthRequirement, route: AuthRequirement) -> None:
    order = list(AuthLevel)
    whole = conjoin(floor, route)
    for part in (conjoin(None, floor), conjoin(None, route)):
        assert order.index(whole.level) >= order.index(part.level)
    assert whole.open == (not floor_or_flags(whole))


def floor_or_flags(policy: EffectivePolicy) -> bool:
    return policy.level is not AuthLevel.NONE or bool(policy.feature_flags)


def test_a_route_that_declares_nothing_is_basic() -> None:
    assert conjoin(None, None).level is AuthLevel.BASIC
    assert conjoin(AuthRequirement(level=AuthLevel.NONE), None).level is AuthLevel.BASIC


def test_only_a_route_that_says_none_is_open() -> None:
    assert conjoin(None, AuthRequirement(level=AuthLevel.NONE)) == OPEN
    assert OPEN.open
    assert not conjoin(AuthRequirement(), AuthRequirement(level=AuthLevel.NONE)).open


def test_a_policy_with_a_clause_that_is_not_known_is_no_policy() -> None:
    """Default deny: who cannot read all of a policy cannot say that it holds."""
    with pytest.raises(ValidationError):
        EffectivePolicy.model_validate({"authenticated": False, "addresses": [["10.0.0.0/8"]]})
    route = {"methods": ["GET"], "path": "/a", "policy": {"authenticated": True, "until": "tomorrow"}}
    with pytest.raises(ValidationError):
        DesiredRoute.model_validate(route)
    with pytest.raises(ValidationError):
        DesiredRoute.model_validate({"methods": ["GET"], "path": "/a"})
