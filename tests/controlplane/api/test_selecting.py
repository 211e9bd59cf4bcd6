"""Selectors mean what Kubernetes means by them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api import answering, selecting
from schemas import kinds

MODULE = kinds.BY_NAME["Module"]
EVENT = kinds.BY_NAME["ModuleEvent"]


def matches(selector: str, labels: dict[str, str]) -> bool:
    document = {"metadata": {"name": "orders", "labels": labels}}
    return selecting.parse(MODULE, selector, "").matches(document)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("", {}, True),
        ("team=a", {"team": "a"}, True),
        ("team==a", {"team": "b"}, False),
        ("team=", {"team": ""}, True),
        ("team=a,tier=x", {"team": "a"}, False),
        ("team!=a", {}, True),
        ("team!=a", {"team": "a"}, False),
        ("team in (a, b)", {"team": "b"}, True),
        ("team in (a,b),tier", {"team": "b"}, False),
        ("team notin (a,b)", {}, True),
        ("team notin (a,b)", {"team": "a"}, False),
        ("team", {"team": "x"}, True),
        ("!team", {"team": "x"}, False),
        ("example.com/team in (a)", {"example.com/team": "a"}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert matches(selector, labels) is expected


@pytest.mark.parametrize("selector", ["a b", "=x", "team in a", "team in (a", "a=b=c", ",", "te am=x", "x" * 9000])
def test_a_selector_that_makes_no_sense_is_refused_with_an_example(selector: str) -> None:
    with pytest.raises(answering.Refusal) as caught:
        selecting.parse(MODULE, selector, "")
    assert caught.value.code == 400


def test_fields_of_columns_can_be_selected_by() -> None:
    document = {"metadata": {"name": "e-1"}, "spec": {"module": "orders", "to": "ACTIVE", "generation": 3}}
    chosen = selecting.parse(EVENT, "", "spec.module=orders,spec.to!=ERROR,spec.generation=3")
    assert chosen.matches(document)
    assert not selecting.parse(EVENT, "", "spec.module=other").matches(document)


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(answering.Refusal, match=r"metadata\.name"):
        selecting.parse(MODULE, "", "spec.nonsense=1")
    with pytest.raises(answering.Refusal):
        selecting.parse(MODULE, "", "metadata.name")


def test_a_name_is_known_from_the_selector() -> None:
    assert selecting.parse(MODULE, "", "metadata.name=orders").value("metadata.name") == "orders"
    assert selecting.parse(MODULE, "", "metadata.name!=orders").value("metadata.name") is None


def test_booleans_and_absent_fields_have_a_text() -> None:
    assert selecting.field_text({"spec": {"enabled": True}}, "spec.enabled") == "true"
    assert selecting.field_text({"spec": {"enabled": False}}, "spec.enabled") == "false"
    assert selecting.field_text({}, "spec.enabled") == ""


KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["x", "y", "z"])


@given(st.dictionaries(KEYS, VALUES), KEYS, st.sets(VALUES, min_size=1))
def test_a_set_is_the_sum_of_its_equalities(labels: dict[str, str], key: str, values: set[str]) -> None:
    listed = ",".join(values)
    single = any(matches(f"{key}={value}", labels) for value in values)
    assert matches(f"{key} in ({listed})", labels) is single
    assert matches(f"{key} notin ({listed})", labels) is not single
    assert matches(f"!{key}", labels) is not matches(key, labels)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_either_a_selector_or_refused(labels: str, fields: str) -> None:
    with contextlib.suppress(answering.Refusal):
        selecting.parse(MODULE, labels, fields).matches({"metadata": {"name": "x"}})
