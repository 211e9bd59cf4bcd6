"""JSON quickly: what it says is what the standard library says, or nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits import jsontexts

_PLAIN = st.text() | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    _PLAIN | st.none() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


def slow(value: Any) -> bytes:
    """As the standard library says it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@given(_VALUES)
def test_what_is_said_quickly_is_what_the_standard_library_says(value: Any) -> None:
    data = jsontexts.quick(value)
    if data is not None:
        assert json.loads(data) == json.loads(slow(value))
        if not any(isinstance(part, float) for part in _parts(value)):
            assert data == slow(value)


@given(_VALUES)
def test_with_its_keys_in_order_too(value: Any) -> None:
    data = jsontexts.quick(value, ordered=True)
    if data is not None and not any(isinstance(part, float) for part in _parts(value)):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=True)
        assert data == text.encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "null" not in text)))
def test_ordinary_text_is_said_quickly(value: list[str]) -> None:
    assert jsontexts.quick(value) == slow(value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), None, "null", 2**64, -(2**63) - 1, "\ud800", datetime(2030, 1, 1, tzinfo=UTC)]
)
def test_what_orjson_would_change_or_refuse_is_left_to_the_standard_library(value: Any) -> None:
    assert jsontexts.quick({"a": [value]}) is None


def test_who_has_no_such_numbers_may_have_nulls() -> None:
    assert jsontexts.quick([None, 1], nulls=True) == b"[null,1]"


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for item in value.values() for part in _parts(item)]
    return [part for item in value for part in _parts(item)] if isinstance(value, list) else [value]
