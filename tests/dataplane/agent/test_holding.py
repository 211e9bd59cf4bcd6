"""What is believed: forward only, key by key, and nothing goes because it is absent."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.agent.holding import Held, Standing, understood_of
from schemas import documents, names
from schemas.documents import Beat, DesiredDocument, Head
from schemas.flag import FlagDefinition
from schemas.kits.signatures import Signer
from schemas.module import DesiredModule
from tests.doubles.keys import SIGNER, STRANGER, TRUSTED, signed

MODULE = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a")


def document(
    name: str,
    revision: int,
    *,
    epoch: int = 1,
    uid: str = "u",
    deleted: bool = False,
    signer: Signer = SIGNER,
    **more: Any,
) -> bytes:
    payload = (
        "" if deleted else documents.canonical_json(MODULE.model_copy(update={"version": f"{revision}.0.0"}).wire())
    )
    row: dict[str, Any] = {
        "kind": "Module", "name": name, "uid": uid, "generation": 1, "epoch": epoch, "revision": revision,
        "digest": documents.payload_digest(payload), "payload": payload, "deleted": deleted, **more,
    }  # fmt: skip
    return signed(DesiredDocument.model_validate(row), signer).model_dump_json(by_alias=True).encode()


def head(entries: dict[str, bytes], revision: int, *, epoch: int = 1, store: str = "s") -> bytes:
    rows = {key: DesiredDocument.model_validate_json(data) for key, data in entries.items()}
    live = [(key, row.revision, row.digest) for key, row in rows.items() if not row.deleted]
    proof = Head(store=store, epoch=epoch, revision=revision, count=len(live), hash=documents.set_hash(live))
    return signed(proof).model_dump_json(by_alias=True).encode()


def snapshot(held: Held, entries: dict[str, bytes], proof: bytes | None) -> Standing:
    held.begin()
    for key, data in entries.items():
        held.read(key, data)
    if proof is not None:
        held.read(names.KEY_HEAD, proof)
    return held.finish()


def key(name: str) -> str:
    return names.module_key(name)


@pytest.fixture
def held() -> Held:
    """Modules a and b, proven at revision 2."""
    made = Held(TRUSTED)
    entries = {key("a"): document("a", 1), key("b"): document("b", 2)}
    assert snapshot(made, entries, head(entries, 2)) is Standing.PROVEN
    assert set(made.take_changes()) == {"a", "b"}
    return made


def test_a_proven_snapshot_is_held(held: Held) -> None:
    assert set(held.wanted) == {"a", "b"}
    assert (held.store, held.applied, held.observed) == ("s", (1, 2), (1, 2))
    assert held.take_changes() == {}


def test_an_empty_bucket_without_head_takes_nothing_away(held: Held) -> None:
    assert snapshot(held, {}, None) is Standing.UNPROVEN
    assert set(held.wanted) == {"a", "b"}


def test_a_half_snapshot_takes_nothing_away(held: Held) -> None:
    entries = {key("a"): document("a", 1), key("b"): document("b", 2)}
    assert snapshot(held, {key("a"): entries[key("a")]}, head(entries, 2)) is Standing.UNPROVEN
    assert set(held.wanted) == {"a", "b"}


def test_a_verified_snapshot_takes_away_what_it_lacks(held: Held) -> None:
    entries = {key("a"): document("a", 1), key("b"): document("b", 3, deleted=True)}
    assert snapshot(held, {key("a"): entries[key("a")]}, head(entries, 3)) is Standing.PROVEN
    assert held.take_changes() == {"b": None}


def test_a_tombstone_takes_away_at_once(held: Held) -> None:
    held.read(key("b"), document("b", 3, deleted=True))
    assert held.take_changes() == {"b": None}


def test_a_removed_entry_proves_nothing(held: Held) -> None:
    assert held.read(key("b"), None) is Standing.UNPROVEN
    assert set(held.wanted) == {"a", "b"}


def test_a_document_newer_than_the_head_is_applied_and_proven_by_the_next_head(held: Held) -> None:
    newer = document("b", 3)
    assert held.read(key("b"), newer) is Standing.OLDER
    assert held.wanted["b"].order == (1, 3)
    assert held.applied == (1, 2)
    entries = {key("a"): document("a", 1), key("b"): newer}
    assert held.read(names.KEY_HEAD, head(entries, 3)) is Standing.PROVEN
    assert held.applied == (1, 3)


def test_an_older_document_is_ignored(held: Held) -> None:
    held.read(key("b"), document("b", 1, uid="older"))
    assert held.wanted["b"].uid == "u"


def test_order_is_epoch_before_revision_and_never_generation(held: Held) -> None:
    held.read(key("b"), document("b", 1, epoch=2, uid="new"))
    assert held.wanted["b"].uid == "new"


def test_a_bucket_rolled_back_keeps_what_is_held(held: Held) -> None:
    entries = {key("a"): document("a", 1)}
    assert snapshot(held, entries, head(entries, 1)) is Standing.OLDER
    assert set(held.wanted) == {"a", "b"}
    assert held.applied == (1, 2)
    again = {key("a"): document("a", 1, epoch=2)}
    assert snapshot(held, again, head(again, 1, epoch=2)) is Standing.PROVEN
    assert set(held.wanted) == {"a"}


def test_another_stores_bucket_is_not_believed(held: Held) -> None:
    entries = {key("a"): document("a", 9, epoch=9, uid="foreign")}
    assert snapshot(held, entries, head(entries, 9, epoch=9, store="other")) is Standing.FOREIGN
    assert held.read(key("c"), document("c", 10, epoch=9)) is Standing.FOREIGN
    assert held.wanted["a"].uid == "u"
    assert set(held.wanted) == {"a", "b"}
    assert held.observed == (1, 2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not json", "DocumentUnreadable"),
        (b'{"kind": "Module"}', "DocumentUnreadable"),
        (document("b", 3, digest="sha256:" + "f" * 64), "DigestMismatch"),
        (document("b", 3, schema_=2), "UnknownSchema"),
        (document("other", 3), "KeyMismatch"),
    ],
)
def test_a_document_that_cannot_be_believed_is_reported_and_the_last_good_stays(
    held: Held, data: bytes, reason: str
) -> None:
    held.read(key("b"), data)
    assert [each.reason for each in held.refused] == [reason]
    assert held.wanted["b"].order == (1, 2)
    held.read(key("b"), document("b", 4))
    assert held.refused == []
    assert held.wanted["b"].order == (1, 4)


def test_a_payload_that_is_no_module_is_refused(held: Held) -> None:
    payload = '{"nothing":1}'
    held.read(key("b"), document("b", 3, payload=payload, digest=documents.payload_digest(payload)))
    assert [each.reason for each in held.refused] == ["PayloadUnreadable"]


def test_a_head_that_cannot_be_read_changes_nothing(held: Held) -> None:
    assert held.read(names.KEY_HEAD, b"nonsense") is Standing.PROVEN
    assert held.read(names.KEY_HEAD, b'{"schema":2,"store":"s","epoch":1,"revision":9,"count":0,"hash":""}') is (
        Standing.PROVEN
    )


FLAG = FlagDefinition(kill_switch=True)


def flag(revision: int, name: str = "f", **more: Any) -> bytes:
    payload = documents.canonical_json(FLAG.wire())
    known = {"kind": "FeatureFlag", "payload": payload, "digest": documents.payload_digest(payload)}
    return document(name, revision, **{**known, **more})


@pytest.fixture
def flagged(held: Held) -> Held:
    """Beside the modules also a flag f, proven at revision 3."""
    entries = {key("a"): document("a", 1), key("b"): document("b", 2), "flag.f": flag(3)}
    assert snapshot(held, entries, head(entries, 3)) is Standing.PROVEN
    assert held.take_notes() == {("FeatureFlag", "f"): FLAG}
    assert set(held.wanted) == {"a", "b"}
    return held


def test_a_tombstone_takes_a_note_back(flagged: Held) -> None:
    flagged.read("flag.f", flag(4, deleted=True, payload="", digest=documents.payload_digest("")))
    assert flagged.take_notes() == {("FeatureFlag", "f"): None}


def test_absence_takes_a_note_back_with_the_proof_only(flagged: Held) -> None:
    flagged.read("flag.f", None)
    assert flagged.take_notes() == {}
    entries = {key("a"): document("a", 1), key("b"): document("b", 2)}
    assert snapshot(flagged, entries, head(entries, 4)) is Standing.PROVEN
    assert flagged.take_notes() == {("FeatureFlag", "f"): None}


def test_notes_are_made_again_in_the_next_boot(flagged: Held) -> None:
    row = flagged.document("flag.f")
    assert row is not None
    fresh = Held(TRUSTED)
    fresh.restore(flagged.proof, {"flag.f": (row, understood_of("flag.f", row))})
    assert fresh.take_notes() == {("FeatureFlag", "f"): FLAG}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            flag(9, payload='{"state":"MAYBE"}', digest=documents.payload_digest('{"state":"MAYBE"}')),
            "PayloadUnreadable",
        ),
        (flag(9, name="g"), "KeyMismatch"),
        (document("f", 9), "KeyMismatch"),
        (flag(9, signer=STRANGER), "NotTrusted"),
    ],
)
def test_a_flag_that_cannot_be_believed_leaves_the_last_good_one(flagged: Held, data: bytes, reason: str) -> None:
    flagged.read("flag.f", data)
    assert [each.reason for each in flagged.refused] == [reason]
    assert flagged.take_notes() == {}
    assert flagged.document("flag.f") is not None


def test_the_tombstone_of_one_object_does_not_stand_for_another(flagged: Held) -> None:
    """A signature covers no key: what was signed for a may be written under b by whoever can write to the bucket."""
    flagged.read(key("b"), document("a", 9, deleted=True))
    flagged.read("flag.f", document("a", 9, deleted=True))
    assert {each.reason for each in flagged.refused} == {"KeyMismatch"}
    assert set(flagged.wanted) == {"a", "b"}
    assert flagged.take_notes() == {}


def test_an_empty_proven_set_is_empty() -> None:
    held = Held(TRUSTED)
    assert snapshot(held, {}, head({}, 0)) is Standing.PROVEN
    assert held.empty


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_any_delivery_order_with_repeats_ends_in_the_same_world(source: random.Random, steps: int) -> None:
    rows: dict[str, bytes] = {}
    sent: list[tuple[str, bytes]] = []
    for revision in range(1, steps + 1):
        name = source.choice("abcd")
        rows[key(name)] = document(name, revision, uid=f"u{revision}", deleted=source.random() < 0.3)
        sent.append((key(name), rows[key(name)]))
    source.shuffle(sent)
    held = Held(TRUSTED)
    held.begin()
    held.finish()
    for name, data in [*sent, *source.choices(sent, k=steps)]:
        held.read(name, data)
    for name, data in rows.items():
        held.read(name, data)
    assert held.read(names.KEY_HEAD, head(rows, steps)) is Standing.PROVEN
    expected = {
        row.name: row.uid
        for row in (DesiredDocument.model_validate_json(data) for data in rows.values())
        if not row.deleted
    }
    assert {name: wanted.uid for name, wanted in held.wanted.items()} == expected


def restored(held: Held) -> Held:
    """What another boot makes of what this one held on disk."""
    rows = {name: held.document(name) for name in (key("a"), key("b"), key("c"))}
    fresh = Held(TRUSTED)
    fresh.restore(held.proof, {name: (row, understood_of(name, row)) for name, row in rows.items() if row is not None})
    return fresh


def test_what_was_proven_is_wanted_again_in_the_next_boot_before_anything_is_read(held: Held) -> None:
    again = restored(held)
    assert set(again.take_changes()) == {"a", "b"}
    assert (again.proof, again.observed, again.empty) == (held.proof, (1, 2), False)
    assert again.take_touched() == set()
    assert snapshot(again, {}, None) is Standing.UNPROVEN
    assert set(again.wanted) == {"a", "b"}
    entries = {key("a"): document("a", 1), key("b"): document("b", 2)}
    assert snapshot(again, entries, head(entries, 2)) is Standing.PROVEN
    assert again.take_changes() == {}
    assert again.take_touched() == set()


def test_what_went_meanwhile_goes_with_the_first_proof_of_the_next_boot(held: Held) -> None:
    again = restored(held)
    again.take_changes()
    entries = {key("a"): document("a", 3)}
    assert snapshot(again, entries, head(entries, 3)) is Standing.PROVEN
    assert again.take_changes().keys() == {"a", "b"}
    assert again.take_touched() == {key("a"), key("b")}
    assert again.document(key("b")) is None


def test_another_stores_bucket_is_not_believed_after_a_restart_either(held: Held) -> None:
    again = restored(held)
    entries = {key("a"): document("a", 9, epoch=9, uid="foreign")}
    assert snapshot(again, entries, head(entries, 9, epoch=9, store="other")) is Standing.FOREIGN
    assert again.wanted["a"].uid == "u"


@pytest.mark.parametrize("boot", ["same", "next"])
def test_an_older_bucket_brings_nothing_back_that_went(held: Held, boot: str) -> None:
    entries = {key("a"): document("a", 1), key("b"): document("b", 3, deleted=True)}
    held.read(key("b"), entries[key("b")])
    assert held.read(names.KEY_HEAD, head(entries, 3)) is Standing.PROVEN
    entries = {key("a"): document("a", 4)}
    assert snapshot(held, entries, head(entries, 4)) is Standing.PROVEN
    world = held if boot == "same" else restored(held)
    world.take_changes()
    older = {key("a"): document("a", 1), key("b"): document("b", 2)}
    assert snapshot(world, older, head(older, 2)) is Standing.OLDER
    assert snapshot(world, older, None) is Standing.UNPROVEN
    assert set(world.wanted) == {"a"}
    assert world.take_changes() == {}


def test_a_document_that_was_passed_over_is_accepted_with_the_proof_that_has_it(held: Held) -> None:
    """The set that was proven lacked it because this program could not read it then, say."""
    entries = {key("a"): document("a", 1), key("b"): document("b", 2), key("c"): document("c", 1)}
    held.begin()
    for name, data in entries.items():
        held.read(name, data)
    assert held.finish() is Standing.UNPROVEN
    assert "c" not in held.wanted
    assert held.read(names.KEY_HEAD, head(entries, 3)) is Standing.PROVEN
    assert "c" in held.wanted
    held.take_touched()
    assert held.read(names.KEY_HEAD, head(entries, 3)) is Standing.PROVEN
    assert held.take_touched() == set()


def test_changed_keys_are_told_once_and_a_tombstone_is_no_document(held: Held) -> None:
    assert held.take_touched() == {key("a"), key("b")}
    held.read(key("b"), document("b", 3, deleted=True))
    held.read(key("a"), document("a", 1))
    assert held.take_touched() == {key("b")}
    assert held.document(key("b")) is None
    assert held.take_touched() == set()


@pytest.mark.parametrize("forged", [document("a", 9, signer=STRANGER), b'{"kind":"Module"}'])
def test_a_document_that_nobody_trusted_signed_is_refused_and_what_was_held_stays(held: Held, forged: bytes) -> None:
    before = held.document(key("a"))
    held.read(key("a"), forged)
    assert held.document(key("a")) == before
    assert held.take_changes() == {}
    assert [each.key for each in held.refused] == [key("a")]


@pytest.mark.parametrize("changed", [{"generation": 7}, {"uid": "v"}, {"deleted": True}, {"revision": 9}, {"epoch": 2}])
def test_a_signature_covers_every_field(held: Held, changed: dict[str, Any]) -> None:
    """Also of a document that is held: whoever may write to the bucket makes no tombstone of it."""
    altered = DesiredDocument.model_validate_json(document("a", 5)).model_copy(update=changed)
    held.read(key("a"), altered.model_dump_json(by_alias=True).encode())
    assert held.take_changes() == {}
    assert [each.reason for each in held.refused] == ["NotTrusted"]


def test_a_forged_head_takes_nothing_away(held: Held) -> None:
    only = {key("a"): document("a", 1)}
    forged = signed(Head.model_validate_json(head(only, 9)), STRANGER).model_dump_json(by_alias=True).encode()
    assert snapshot(held, only, forged) is not Standing.PROVEN
    assert held.take_changes() == {}
    assert set(held.wanted) == {"a", "b"}


def test_an_old_head_that_is_played_again_takes_nothing_away(held: Held) -> None:
    only = {key("a"): document("a", 1)}
    assert snapshot(held, only, head(only, 1)) is Standing.OLDER
    assert set(held.wanted) == {"a", "b"}


def test_the_head_in_a_beat_is_signed_too(held: Held) -> None:
    said = Beat(**Head.model_validate_json(head({}, 9)).model_dump(), sequence=3, created="now")
    assert held.trusts(said)
    assert not held.trusts(said.model_copy(update={"revision": 10}))
