"""Differences are exact, ordered, and told apart by type."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import diffing, pointers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert diffing.differences(value, value) == []
    assert diffing.same(value, value)


@given(JSON, JSON)
def test_each_difference_names_what_stands_on_either_side(old: Any, new: Any) -> None:
    found = diffing.differences(old, new)
    for difference in found:
        assert pointers.get(old, difference.pointer) == difference.old
        assert pointers.get(new, difference.pointer) == difference.new
    assert diffing.same(old, new) == (not found)
    assert [(each.pointer, each.new, each.old) for each in found] == [
        (each.pointer, each.old, each.new) for each in diffing.differences(new, old)
    ]


def test_true_is_not_one() -> None:
    assert [each.pointer for each in diffing.differences({"a": [True]}, {"a": [1]})] == ["/a/0"]


def test_verbs_say_what_happened() -> None:
    found = diffing.differences({"a": 1, "b": [1, 2]}, {"b": [1, 3], "c": {"d": 1}})
    assert [(each.pointer, each.verb) for each in found] == [("/a", "removed"), ("/b/1", "changed"), ("/c", "added")]
