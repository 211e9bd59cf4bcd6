"""The desired set in memory and its differences from a bucket, without a server."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.messaging.comparing import DesiredSet, Scribe, compare
from controlplane.store.records import DesiredHead, DesiredRow
from schemas import documents, names
from schemas.documents import DesiredDocument, Head
from schemas.kits.buckets import Entry, Operation
from tests.doubles.keys import SIGNER, STRANGER, TRUSTED

STORE = "store-1"
SCRIBE = Scribe(SIGNER, TRUSTED)
NOTHING = DesiredHead(0, 0, 0, "0" * 32)


def row(key: str, revision: int, *, epoch: int = 1, deleted: bool = False) -> DesiredRow:
    payload = "" if deleted else f"{key}@{revision}"
    digest = documents.payload_digest(payload)
    return DesiredRow(key, "Module", key, f"uid-{key}", 1, epoch, revision, digest, payload, deleted)


def entry(key: str, value: bytes, sequence: int = 1, operation: Operation = Operation.PUT) -> Entry:
    return Entry(key, value, sequence, operation, {}, 0.0)


def bucket_of(desired: DesiredSet, store: str = STORE) -> dict[str, Entry]:
    head = SCRIBE.head(desired.head(store)).model_dump_json(by_alias=True).encode()
    entries = {key: entry(key, SCRIBE.document(held)) for key, held in desired.rows.items()}
    return {**entries, names.KEY_HEAD: entry(names.KEY_HEAD, head)}


rows = st.builds(row, st.sampled_from("abc"), st.integers(1, 30), epoch=st.integers(1, 3), deleted=st.booleans())


@given(st.lists(rows, max_size=20))
def test_the_proof_kept_row_by_row_is_that_of_the_whole(written: list[DesiredRow]) -> None:
    desired = DesiredSet(written, NOTHING)
    living = [(held.key, held.revision, held.digest) for held in desired.rows.values() if not held.deleted]
    head = desired.head(STORE)
    assert (head.count, head.hash) == (len(living), documents.set_hash(living))
    assert head.order == max([(0, 0), *((each.epoch, each.revision) for each in written)])


@given(st.lists(rows, max_size=20))
def test_a_bucket_that_was_written_from_the_set_differs_in_nothing(written: list[DesiredRow]) -> None:
    desired = DesiredSet(written, NOTHING)
    difference = compare(desired, bucket_of(desired), STORE, SCRIBE)
    assert difference == type(difference)()


def test_a_document_says_what_its_row_says() -> None:
    document = DesiredDocument.model_validate_json(SCRIBE.document(row("a", 4)))
    assert (document.schema_, document.name, document.revision, document.payload) == (1, "a", 4, "a@4")
    assert document.intact()


def test_missing_marked_and_damaged_keys_are_wrong_and_unknown_ones_are_strangers() -> None:
    desired = DesiredSet([row("a", 1), row("b", 2), row("c", 3)], NOTHING)
    entries = bucket_of(desired)
    del entries["a"]
    entries["b"] = entry("b", b"", 9, Operation.DELETE)
    entries["c"] = entry("c", b"{}", 10)
    entries["x"] = entry("x", b"{}", 11)
    difference = compare(desired, entries, STORE, SCRIBE)
    assert {held.key for held in difference.wrong} == {"a", "b", "c"}
    assert difference.strangers == {"x": 11}
    assert difference.ahead is None


def test_a_bucket_is_ahead_by_its_head_by_a_document_or_by_a_key_that_nobody_knows() -> None:
    old, new = DesiredSet([row("a", 1)], NOTHING), DesiredSet([row("a", 1), row("b", 5)], NOTHING)
    assert compare(old, bucket_of(new), STORE, SCRIBE).ahead == (1, 5)
    entries = bucket_of(old)
    entries["a"] = entry("a", SCRIBE.document(row("a", 7)))
    assert compare(old, entries, STORE, SCRIBE).ahead == (1, 7)
    entries["a"] = entry("a", SCRIBE.document(row("a", 1, epoch=2)))
    assert compare(old, entries, STORE, SCRIBE).ahead == (2, 1)
    entries = {"x": entry("x", SCRIBE.document(row("x", 9)))}
    assert compare(old, entries, STORE, SCRIBE).ahead == (1, 9)


def test_an_older_document_is_only_wrong() -> None:
    desired = DesiredSet([row("a", 5)], NOTHING)
    entries = bucket_of(desired)
    entries["a"] = entry("a", SCRIBE.document(row("a", 2)))
    difference = compare(desired, entries, STORE, SCRIBE)
    assert [held.revision for held in difference.wrong] == [5]
    assert difference.ahead is None


def test_another_store_is_foreign_and_never_ahead() -> None:
    theirs = DesiredSet([row("a", 90, epoch=9)], NOTHING)
    difference = compare(DesiredSet([], NOTHING), bucket_of(theirs, "store-2"), STORE, SCRIBE)
    assert difference.foreign
    assert difference.ahead is None
    assert set(difference.strangers) == {"a"}


def test_forgotten_tombstones_leave_the_order_where_it_was() -> None:
    desired = DesiredSet([row("a", 1), row("a", 4, deleted=True)], NOTHING)
    desired.forget("a")
    assert desired.rows == {}
    assert desired.head(STORE) == Head(store=STORE, epoch=1, revision=4, count=0, hash="0" * 32)
    assert DesiredSet([], DesiredHead(1, 4, 0, "0" * 32)).order == (1, 4)


def test_a_living_key_cannot_be_forgotten() -> None:
    desired = DesiredSet([row("a", 1)], NOTHING)
    desired.forget("a")
    assert "a" in desired.rows
    assert not desired.apply(replace(row("a", 1), payload="other"))


def test_what_a_stranger_wrote_is_set_right_and_tells_nothing_of_lost_revisions() -> None:
    stranger = Scribe(STRANGER, TRUSTED)
    desired = DesiredSet([row("a", 1)], NOTHING)
    entries = bucket_of(desired)
    entries["a"] = entry("a", stranger.document(row("a", 7)))
    entries["x"] = entry("x", stranger.document(row("x", 9)), 4)
    forged = stranger.head(Head(store=STORE, epoch=9, revision=9, count=1, hash="0" * 32))
    entries[names.KEY_HEAD] = entry(names.KEY_HEAD, forged.model_dump_json(by_alias=True).encode())
    difference = compare(desired, entries, STORE, SCRIBE)
    assert [held.key for held in difference.wrong] == ["a"]
    assert difference.strangers == {"x": 4}
    assert difference.ahead is None


def test_a_set_that_another_key_signed_is_signed_anew() -> None:
    desired = DesiredSet([row("a", 1), row("b", 2)], NOTHING)
    entries = {key: entry(key, Scribe(STRANGER, TRUSTED).document(held)) for key, held in desired.rows.items()}
    assert len(compare(desired, entries, STORE, SCRIBE).wrong) == 2
