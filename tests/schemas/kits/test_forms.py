"""A filled form is the record that it stands for, spelled key by key: no reader can tell them apart."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.kits import chains, forms
from schemas.kits.chains import Chain
from schemas.kits.forms import Form

CHAIN, OTHER = Chain("w0", "b1"), Chain("w1", "b2")

keys = st.text(max_size=8).filter(lambda key: key not in {"writer", "boot", "seq"})
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text(), max_size=3)


@given(st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=4), st.integers(1, 2**53))
@example({"100%": "%b %d %%"}, {"a%s": "%(x)s", "z": "é"}, 7)
def test_a_filled_form_is_the_canonical_record(common: dict[str, Any], own: dict[str, Any], seq: int) -> None:
    common = {key: value for key, value in common.items() if key not in own}
    form = Form(common, sorted(own))
    brought = tuple(forms.spelled(own[key]) for key in sorted(own))
    for chain in (CHAIN, OTHER, CHAIN):
        record = {**common, **own, **chain._asdict(), "seq": seq}
        assert form.spell(chain, seq, brought) == chains.canonical(record)


@pytest.mark.parametrize("own", [["b", "a"], ["a", "a"], ["seq"], ["writer"], ["kind"]])
def test_keys_are_there_once_and_in_order(own: list[str]) -> None:
    with pytest.raises(AssertionError, match="in order"):
        Form({"kind": "decision"}, own)
