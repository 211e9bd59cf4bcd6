"""One reading, or a sentence that says why not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits import strictjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**50), 10**50) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_what_json_writes_is_read_as_it_was(value: Any) -> None:
    assert strictjson.decode(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands twice"),
        ("7" * 61, "more than 60 characters"),
        ("0." + "7" * 60, "more than 60 characters"),
        ("-1e999", "too big to hold"),
        ("[NaN]", "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ("01", "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_what_has_no_or_two_readings_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        strictjson.decode(text)
