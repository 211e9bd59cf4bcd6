"""A reference is a whole text, and what stands around it stays as it is."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import references

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["secret://a", "secret://b-2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("secret://api-key", "api-key"),
        ("secret://a", "a"),
        ("secret://" + "x" * 63, "x" * 63),
        ("secret://", None),
        ("secret://" + "x" * 64, None),
        ("secret://API", None),
        ("secret://a_b", None),
        ("secret://../a", None),
        ("secret://a\n", None),
        (" secret://a", None),
        ("see secret://a", None),
        ("Secret://a", None),
        ("secret:/a", None),
    ],
)
def test_a_reference_is_a_whole_text_with_a_dns_label(text: str, name: str | None) -> None:
    assert references.name_of(text) == name


def test_a_secret_has_one_environment_variable() -> None:
    assert references.variable("api-key-2") == "MODPLANE_SECRET_API_KEY_2"


def test_references_are_found_wherever_values_stand_but_not_in_keys() -> None:
    config = {"a": ["secret://x", {"secret://key": "secret://y"}], "b": "secret://x", "c": 1}
    assert references.mentioned(config) == {"x", "y"}
    assert references.replaced(config, str.upper) == {"a": ["X", {"secret://key": "Y"}], "b": "X", "c": 1}


@given(VALUES)
def test_nothing_but_references_is_replaced_and_the_original_stays(value: Any) -> None:
    before = copy.deepcopy(value)
    assert references.replaced(value, lambda name: f"secret://{name}") == value == before
    asked: set[str] = set()

    def asking(name: str) -> str:
        asked.add(name)
        return ""

    references.replaced(value, asking)
    assert asked == references.mentioned(value)
