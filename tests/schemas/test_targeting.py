"""Targeting that passes is small, ends soon and only answers; what moves with time is known to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import targeting
from schemas.meta import Json

LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sorted(targeting.OPERATORS), "log", "reduce", "x"]), inner, max_size=2)
    ),
    max_leaves=20,
)


def words(rule: Any) -> set[str]:
    if isinstance(rule, list):
        return set().union(*map(words, rule)) if rule else set()
    if isinstance(rule, dict) and len(rule) == 1:
        return {*rule, *words(next(iter(rule.values())))}
    return set()


@given(st.dictionaries(st.sampled_from([*sorted(targeting.OPERATORS), "log"]), ANYTHING, min_size=1, max_size=1))
def test_what_passes_uses_known_operators_only(rule: Json) -> None:
    if not list(targeting.faults(rule)):
        assert words(rule) <= targeting.OPERATORS


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"if": [{"==": [{"var": "organisation"}, "acme"]}, "on", None]},
        {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "claims.email"}]}, ["on", 30], ["off", 70]]},
        {"some": [{"var": "roles"}, {"in": [{"var": ""}, ["beta", "staff"]]}]},
        {"filter": [{"map": [[1, 2], {"+": [{"var": ""}, 1]}]}, {">": [{"var": ""}, 2]}]},
        {"in": ["x", {"a": 1, "b": {"log": 1}}]},
    ],
)
def test_good_rules_pass(rule: Json) -> None:
    assert list(targeting.faults(rule)) == []


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"if": [True, {"reduce": [[1], {"var": "accumulator"}, 0]}]}, ("if", 1, "reduce")),
        ({"all": [[1], {"some": [[1], True]}]}, ("all", 1, "some")),
        ({"map": [[1], {"if": [{"none": [[], 1]}]}]}, ("map", 1, "if", 0, "none")),
        ({"a.b": []}, ("a.b",)),
    ],
)
def test_what_may_not_end_soon_or_does_more_is_told_with_its_place(rule: Json, path: tuple[str | int, ...]) -> None:
    assert [fault.path for fault in targeting.faults(rule)] == [path]


def test_size_and_depth_are_bounded() -> None:
    deep: Any = "on"
    for _ in range(targeting.MAX_DEPTH // 2 + 1):
        deep = {"if": [deep]}
    assert [fault.path for fault in targeting.faults(deep)] == [()]
    assert not list(targeting.faults({"in": ["x", list(range(targeting.MAX_NODES - 4))]}))
    assert list(targeting.faults({"in": ["x", list(range(targeting.MAX_NODES))]}))


@pytest.mark.parametrize(
    ("rule", "moves"),
    [
        ({"<": [{"var": "$flagd.timestamp"}, 5]}, True),
        ({"<": [{"var": ["$flagd.timestamp", 0]}, 5]}, True),
        ({"var": {"cat": ["$flag", "d.timestamp"]}}, True),
        ({"var": ""}, True),
        ({"var": "claims.email"}, False),
        ({"some": [{"var": "roles"}, {"==": [{"var": ""}, "beta"]}]}, False),
        ({"some": [{"var": "$flagd"}, True]}, True),
        ({}, False),
    ],
)
def test_what_reads_the_clock_is_known(rule: Json, moves: bool) -> None:
    assert targeting.moves_with_time(rule) is moves
