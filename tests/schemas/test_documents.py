"""Desired documents: tolerant to newer writers, exact in their digests, a set hash that adds up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import documents
from schemas.documents import Beat, DesiredDocument, Head

MEMBERS = st.lists(st.tuples(st.text(max_size=8), st.integers(0, 10**6), st.text(max_size=8)), max_size=8, unique=True)

DOCUMENT = DesiredDocument(
    kind="Module",
    name="thing",
    uid="u",
    generation=1,
    epoch=2,
    revision=3,
    digest=documents.payload_digest("{}"),
    payload="{}",
)


@given(MEMBERS, st.randoms())
def test_the_set_hash_does_not_depend_on_order(members: list[tuple[str, int, str]], random: object) -> None:
    shuffled = sorted(members, key=lambda member: hash((member, id(random))))
    assert documents.set_hash(members) == documents.set_hash(shuffled)


@given(MEMBERS, MEMBERS)
def test_adding_and_removing_undo_each_other(
    kept: list[tuple[str, int, str]], passing: list[tuple[str, int, str]]
) -> None:
    total = documents.add_members(0, [documents.member_hash(*member) for member in kept])
    grown = documents.add_members(total, [documents.member_hash(*member) for member in passing])
    for member in passing:
        grown = documents.remove_member(grown, documents.member_hash(*member))
    assert documents.hash_text(grown) == documents.set_hash(kept)


@given(MEMBERS, MEMBERS)
def test_different_sets_have_different_hashes(
    one: list[tuple[str, int, str]], other: list[tuple[str, int, str]]
) -> None:
    assert (documents.set_hash(one) == documents.set_hash(other)) == (set(one) == set(other))


def test_an_empty_set_has_a_hash_of_zeros_and_fields_do_not_run_together() -> None:
    assert documents.set_hash([]) == "0" * 32
    assert documents.member_hash("a", 11, "b") != documents.member_hash("a1", 1, "b")


def test_a_document_has_the_names_of_the_wire_and_reads_itself() -> None:
    wire = DOCUMENT.wire()
    assert wire["schema"] == documents.SCHEMA
    assert "kid" not in wire
    assert DesiredDocument.model_validate_json(json.dumps(wire)) == DOCUMENT
    assert DOCUMENT.order == (2, 3)


def test_a_reader_ignores_what_a_newer_writer_adds() -> None:
    assert DesiredDocument.model_validate({**DOCUMENT.wire(), "new": {"field": 1}}) == DOCUMENT


def test_a_document_without_its_order_is_refused() -> None:
    wire = DOCUMENT.wire()
    del wire["revision"]
    with pytest.raises(ValidationError):
        DesiredDocument.model_validate(wire)


def test_a_changed_payload_is_noticed() -> None:
    assert DOCUMENT.intact()
    assert not DOCUMENT.model_copy(update={"payload": "{} "}).intact()


def test_a_beat_is_a_head_and_where_it_stands() -> None:
    head = Head(store="s", epoch=1, revision=2, count=3, hash="0" * 32)
    beat = Beat(**head.model_dump(), sequence=9, created="2030-01-01T00:00:00Z")
    assert beat.order == head.order == (1, 2)
    assert beat.wire()["schema"] == 1


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=5))
def test_canonical_json_has_one_spelling(value: dict[str, object]) -> None:
    text = documents.canonical_json(value)
    assert json.loads(text) == value
    assert documents.canonical_json(dict(reversed(value.items()))) == text


def test_canonical_json_knows_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        documents.canonical_json(float("nan"))
