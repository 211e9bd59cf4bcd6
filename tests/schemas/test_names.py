"""Names: one spelling, and addresses that others rely on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import names


@given(st.text("abc_-", max_size=6))
def test_an_object_name_never_has_underscores_and_is_its_own_name(text: str) -> None:
    name = names.object_name(text)
    assert "_" not in name
    assert names.object_name(name) == name
    assert names.object_name(names.module_id(name)) == name


@pytest.mark.parametrize("label", ["a", "0", "a-b", "a" * 63, "analytics-core"])
def test_labels_are_labels(label: str) -> None:
    assert names.is_dns_label(label)


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "é", "a\n", " a", "а"])
def test_other_texts_are_none(text: str) -> None:
    assert not names.is_dns_label(text)


def test_addresses_are_what_the_documentation_says() -> None:
    assert names.API_PREFIX == "/apis/modplane.dev/v1"
    assert names.module_key("a-b") == "module.a-b"
    assert names.module_event_subject("a-b", "ACTIVE") == "modplane.events.module.a-b.active"
    assert names.worker_event_subject("w0", "joined") == "modplane.events.worker.w0.joined"
    assert names.access_name("acme", "analytics_core") == "acme--analytics-core"
