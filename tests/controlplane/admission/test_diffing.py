"""Sameness is exact, and told apart by type."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import diffing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_a_value_is_the_same_as_its_copy(value: Any) -> None:
    assert diffing.same(value, copy.deepcopy(value))


@given(JSON, JSON)
def test_values_are_the_same_when_they_are_written_alike(old: Any, new: Any) -> None:
    assert diffing.same(old, new) == (json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True))


@pytest.mark.parametrize(("old", "new"), [({"a": [True]}, {"a": [1]}), (False, 0), ([], {}), ({"a": None}, {})])
def test_true_is_not_one_and_nothing_is_not_absent(old: Any, new: Any) -> None:
    assert not diffing.same(old, new)
    assert not diffing.same(new, old)
