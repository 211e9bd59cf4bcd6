"""What is stored is found as it was; what somebody does to the file is found; what is missing is known."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controlplane import errors
from controlplane.audit import asking, trails, verifying
from controlplane.audit.asking import Wanted
from controlplane.audit.sealing import Sealer, Seals, decode
from controlplane.audit.trails import Forked, Stored, Trail
from schemas.kits import chains, walks
from schemas.kits.chains import Batch, Head
from schemas.kits.signatures import TrustedKeys
from tests.doubles.keys import STRANGER, TRUSTED
from tests.doubles.trails import SEALER, Writer, trail


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Trail]:
    made = trail(tmp_path)
    yield made
    made.close()


def found(kept: Trail, **wanted: Any) -> list[dict[str, Any]]:
    with kept.reading() as database:
        return asking.find(database, Wanted(**wanted))[0]


def verified(kept: Trail, elsewhere: list[Any] | None = None) -> verifying.Verified:
    with kept.reading() as database:
        return verifying.verify(database, SEALER, elsewhere or [])


def test_batches_of_several_writers_are_kept_in_the_order_in_which_they_came(kept: Trail) -> None:
    one, other = Writer(), Writer("w1", "cd34")
    for batch in (one.batch(2), other.batch(1), one.batch(3)):
        assert kept.add(batch) == Stored(len(batch.records), 0)
    records = found(kept)
    assert [(each["id"], each["writer"], each["seq"]) for each in records] == [
        (1, "w0", 1),
        (2, "w0", 2),
        (3, "w1", 1),
        (4, "w0", 3),
        (5, "w0", 4),
        (6, "w0", 5),
    ]
    assert verified(kept).wire()["ok"]


def test_a_batch_that_comes_again_is_nothing_new(kept: Trail) -> None:
    writer = Writer()
    first, second = writer.batch(3), writer.batch(2)
    assert [kept.add(batch).records for batch in (first, second, first, second, second)] == [3, 2, 0, 0, 0]
    assert len(found(kept)) == 5
    longer = Batch(writer.chain, first.before, [*first.records, *second.records, *writer.batch(1).records])
    assert kept.add(longer).records == 1
    assert verified(kept).faults == []


def test_another_story_is_refused_and_nothing_of_it_is_kept(kept: Trail) -> None:
    writer, liar = Writer(), Writer()
    kept.add(writer.batch(3))
    lie = liar.batch(5, subject="mallory")
    with pytest.raises(Forked, match="another record 1"):
        kept.add(lie)
    with pytest.raises(Forked, match="another record 3"):
        kept.add(liar.batch(2) if liar.head.seq == 3 else Batch(writer.chain, Head(3, b"x" * 32), lie.records[3:]))
    stranger = Batch(writer.chain, writer.head, Writer("w1").batch(1).records)
    with pytest.raises(Forked, match="does not say that it is its number 4"):
        kept.add(stranger)
    assert len(found(kept)) == 3
    assert kept.add(writer.batch(1)).records == 1


def test_records_that_never_came_are_known_and_no_fault(kept: Trail) -> None:
    writer = Writer()
    kept.add(writer.batch(2))
    writer.batch(3)
    assert kept.add(writer.batch(2)) == Stored(2, 3)
    walked = verified(kept).wire()
    assert walked["ok"]
    assert walked["chains"] == [
        {"writer": "w0", "boot": "ab12", "first": 1, "last": 7, "closed": False, "lost": [{"after": 2, "before": 6}]}
    ]


def test_a_chain_whose_file_was_moved_away_goes_on_in_the_new_one(kept: Trail) -> None:
    writer = Writer()
    writer.batch(10)
    assert kept.add(writer.batch(2)) == Stored(2, 10)
    assert verified(kept).faults == []


def test_a_writer_that_jumps_for_ever_is_stopped(kept: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "_BREAKS_MAX", 5)
    writer = Writer()
    for _ in range(5):
        writer.batch(1)
        kept.add(writer.batch(1))
    writer.batch(1)
    with pytest.raises(Forked, match="not sane"):
        kept.add(writer.batch(1))


# --- what somebody does to the file


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def forged_chain(path: Path) -> None:
    """Everything from record 3 on written anew, with hashes that follow, and the checkpoint left as it is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        rows = database.execute("SELECT seq, hash, body FROM records WHERE chain = 1 ORDER BY seq").fetchall()
        head = Head(rows[1][0], bytes(rows[1][1]))
        for seq, _, body in rows[2:]:
            forged = body.replace("ada", "bob")
            head = chains.follow(head, forged.encode())
            database.execute(
                "UPDATE records SET hash = ?, body = ? WHERE chain = 1 AND seq = ?", (head.hash, forged, seq)
            )


def own_signature(path: Path) -> None:
    """The same, and the checkpoint signed anew with a key that nobody trusts."""
    forged_chain(path)
    sealer = Sealer(STRANGER, TRUSTED)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        (said, digest) = database.execute(
            "SELECT said, (SELECT hash FROM records WHERE chain = 1 ORDER BY seq DESC LIMIT 1) FROM chains WHERE id = 1"
        ).fetchone()
        stated = chains.statement(said)
        sealed = sealer.seal(
            chains.Statement(stated.chain, stated.base, Head(stated.head.seq, bytes(digest)), stated.closed)
        )
        database.execute("UPDATE chains SET said=?, kid=?, sig=? WHERE id=1", (sealed.said, sealed.kid, sealed.sig))


def do(*statements: str) -> Callable[[Path], None]:
    return lambda path: run(path, *statements)


REORDERED = ("UPDATE records SET id = id + 9 WHERE id > 3", "UPDATE records SET id = 7 WHERE id = 15")
DOUBLED = "INSERT INTO records (chain, seq, hash, body) SELECT 1, 7, hash, body FROM records WHERE id = 4"


@pytest.mark.parametrize(
    ("tamper", "seq", "kind"),
    [
        (do("UPDATE records SET body = replace(body, 'ada', 'bob') WHERE id = 4"), 4, walks.CHANGED),
        (do("UPDATE records SET body = 'nonsense' WHERE id = 4"), 4, walks.CHANGED),
        (do("UPDATE records SET hash = zeroblob(32) WHERE id = 4"), 4, walks.CHANGED),
        (do("DELETE FROM records WHERE id = 4"), 4, walks.MISSING),
        (do("DELETE FROM records WHERE id <= 2"), 1, walks.MISSING),
        (do("UPDATE records SET id = 100 WHERE id = 4"), 4, walks.MISSING),
        (do(*REORDERED), 4, walks.MISSING),
        (do(DOUBLED), 7, walks.CHANGED),
        (do("DELETE FROM records WHERE id >= 5"), 5, walks.CUT),
        (do("DELETE FROM records"), 1, walks.CUT),
        (forged_chain, 6, walks.REWRITTEN),
        (own_signature, 1, verifying.SEAL),
        (do("UPDATE chains SET said = replace(said, '\"head\":6', '\"head\":5')"), 1, verifying.SEAL),
    ],
)  # fmt: skip
def test_what_was_done_to_the_file_is_found(
    tmp_path: Path, tamper: Callable[[Path], None], seq: int, kind: str
) -> None:
    kept = trail(tmp_path)
    kept.add(Writer().batch(6, subject="ada"))
    kept.close()
    tamper(tmp_path / "audit.db")
    again = trail(tmp_path)
    walked = verified(again).wire()
    assert not walked["ok"]
    assert (walked["first_fault"]["seq"], walked["first_fault"]["kind"]) == (seq, kind)
    found(again)
    again.close()


def test_an_old_copy_of_the_file_is_found_by_the_second_place(tmp_path: Path) -> None:
    writer, kept = Writer(), trail(tmp_path)
    kept.add(writer.batch(4))
    kept.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "old.db")
    kept = trail(tmp_path)
    kept.add(writer.batch(2))
    copies = kept.uncopied()
    kept.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"audit.db{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", tmp_path / "audit.db")
    again = trail(tmp_path)
    assert verified(again).faults == []
    (fault,) = verified(again, copies).faults
    assert (fault.seq, fault.kind) == (5, walks.CUT)
    again.close()


def test_a_whole_chain_that_is_taken_out_is_found_by_the_second_place(tmp_path: Path) -> None:
    kept = trail(tmp_path)
    kept.add(Writer().batch(4))
    kept.add(Writer("w1").batch(1))
    copies = kept.uncopied()
    kept.close()
    run(tmp_path / "audit.db", "DELETE FROM records WHERE chain = 1", "DELETE FROM chains WHERE id = 1")
    again = trail(tmp_path)
    (fault,) = verified(again, copies).faults
    assert (fault.chain.writer, fault.kind) == ("w0", walks.CUT)
    again.close()


def test_a_cut_that_is_written_over_is_still_known_as_a_loss(tmp_path: Path) -> None:
    """An old checkpoint is put back with the records that it covers, and the writer goes on."""
    writer, kept = Writer(), trail(tmp_path)
    kept.add(writer.batch(4))
    with closing(sqlite3.connect(tmp_path / "audit.db")) as database:
        row = database.execute("SELECT said, kid, sig FROM chains").fetchone()
    kept.add(writer.batch(3))
    kept.close()
    run(tmp_path / "audit.db", "DELETE FROM records WHERE id > 4")
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as database:
        database.execute("UPDATE chains SET said = ?, kid = ?, sig = ?", row)
    again = trail(tmp_path)
    assert again.add(writer.batch(1)) == Stored(1, 3)
    assert verified(again).wire()["chains"][0]["lost"] == [{"after": 4, "before": 8}]
    again.close()


def test_an_old_checkpoint_over_newer_records_holds_up_nobody(tmp_path: Path) -> None:
    writer, kept = Writer(), trail(tmp_path)
    kept.add(writer.batch(4))
    with closing(sqlite3.connect(tmp_path / "audit.db")) as database:
        row = database.execute("SELECT said, kid, sig FROM chains").fetchone()
    again = writer.batch(3)
    kept.add(again)
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as database:
        database.execute("UPDATE chains SET said = ?, kid = ?, sig = ?", row)
    assert [fault.kind for fault in verified(kept).faults] == [walks.UNSIGNED]
    with pytest.raises(Forked, match="behind what is signed"):
        kept.add(again)
    kept.add(Writer("w1").batch(1))
    kept.close()


def test_a_checkpoint_that_was_touched_is_never_signed_over(tmp_path: Path) -> None:
    writer, kept = Writer(), trail(tmp_path)
    kept.add(writer.batch(4))
    kept.close()
    run(tmp_path / "audit.db", "DELETE FROM records WHERE id = 4", "UPDATE chains SET sig = 'AAAA'")
    again = trail(tmp_path)
    again.add(writer.batch(2))
    assert verified(again).faults
    again.close()


def test_a_clock_that_goes_back_is_no_fault(kept: Trail) -> None:
    moments = ("2026-01-02T00:00:00.000Z", "2026-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z")
    kept.add(Writer().of({"at": at} for at in moments))
    assert verified(kept).faults == []


# --- what goes in time


def test_old_records_go_and_the_rest_still_verifies(kept: Trail) -> None:
    writer, other = Writer(), Writer("w1")
    for _ in range(5):
        kept.add(writer.batch(4))
        kept.add(other.batch(4))
    assert kept.prune(most_bytes=1 << 40, oldest="2026-01-01T00:00:06.000Z") == 10
    assert [(each["writer"], each["seq"]) for each in found(kept)][:3] == [("w0", 7), ("w0", 8), ("w1", 5)]
    assert verified(kept).faults == []
    assert kept.prune(most_bytes=1 << 40, oldest="2026-01-01T00:00:06.000Z") == 0
    kept.add(writer.batch(1))
    assert verified(kept).faults == []
    assert kept.prune(most_bytes=0, oldest="") == 31
    assert verified(kept).wire()["ok"]
    kept.add(writer.batch(2))
    assert verified(kept).wire()["records"] == 2


def test_a_file_that_is_too_large_loses_its_oldest_records_and_stays_so(
    kept: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "PRUNED", 100)
    writer = Writer()
    sizes = []
    for _ in range(12):
        kept.add(writer.batch(500, subject="a" * 200))
        while kept.prune(most_bytes=600_000, oldest=""):
            continue
        sizes.append(kept._bytes())
    assert max(sizes) <= 600_000
    assert verified(kept).faults == []
    (chain,) = verified(kept).chains
    assert chain["first"] > 1
    assert chain["last"] == 6_000


# --- what is asked


def test_records_are_found_by_what_they_say(kept: Trail) -> None:
    writer = Writer()
    kept.add(
        writer.of(
            [
                {"at": "2026-01-01T00:00:00.000Z", "module": "shop", "subject": "ada", "outcome": "allow"},
                {"at": "2026-01-02T00:00:00.000Z", "module": "shop", "subject": "eve", "outcome": "deny"},
                {"at": "2026-01-03T00:00:00.000Z", "module": "bank", "subject": "ada", "organisation": "acme"},
                {"at": "2026-01-04T00:00:00.000Z", "kind": "change", "subject": "'; DROP TABLE records --"},
            ]
        )
    )

    def ids(**wanted: Any) -> list[int]:
        return [each["id"] for each in found(kept, **wanted)]

    assert ids(module="shop") == [1, 2]
    assert ids(subject="ada") == [1, 3]
    assert ids(organisation="acme") == [3]
    assert ids(outcome="deny") == [2]
    assert ids(kind="change") == [4]
    assert ids(writer="w1") == []
    assert ids(since="2026-01-02T00:00:00.000Z") == [2, 3, 4]
    assert ids(since="2026-01-02T00:00:00.000Z", until="2026-01-04T00:00:00.000Z") == [2, 3]
    assert ids(subject="'; DROP TABLE records --") == [4]
    assert ids(limit=2) == [3, 4]
    assert ids(limit=2, before=3) == [1, 2]
    assert ids(limit=2, newest=False) == [1, 2]
    assert ids(limit=2, newest=False, after=2) == [3, 4]


def test_whether_there_is_more_is_told(kept: Trail) -> None:
    kept.add(Writer().batch(3))
    with kept.reading() as database:
        assert [asking.find(database, Wanted(limit=limit))[1] for limit in (2, 3, 4)] == [True, False, False]


# --- the file itself


def test_checkpoints_are_copied_once_they_moved(kept: Trail) -> None:
    writer = Writer()
    kept.add(writer.batch(2))
    (sealed,) = kept.uncopied()
    assert SEALER.opened(decode(sealed.encode())) is not None
    kept.copied([sealed])
    assert kept.uncopied() == []
    kept.add(writer.batch(1))
    assert len(kept.uncopied()) == 1


def test_a_file_that_is_none_of_ours_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(errors.StoreUnusable, match="move the file away"):
        trail(tmp_path)


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    trail(tmp_path).close()
    run(tmp_path / "audit.db", "PRAGMA user_version = 9")
    with pytest.raises(errors.StoreUnusable, match="format 9"):
        trail(tmp_path)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    trail(tmp_path).close()
    assert (tmp_path / "audit.db").stat().st_mode & 0o777 == 0o600


# --- a file that lies there


def test_a_file_that_nobody_has_open_is_verified_and_left_as_it_is(kept: Trail) -> None:
    kept.add(Writer().batch(3))
    kept.close()
    before = {each.name: each.read_bytes() for each in kept.path.parent.iterdir()}
    with verifying.opened(kept.path) as database:
        assert verifying.verify(database, Seals(TRUSTED)).wire()["records"] == 3
    assert {each.name: each.read_bytes() for each in kept.path.parent.iterdir()} == before


def test_what_a_killed_system_had_not_moved_into_the_file_is_verified_too(kept: Trail, tmp_path: Path) -> None:
    kept.add(Writer().batch(3))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("audit.db", "audit.db-wal"):
        shutil.copy(kept.path.parent / name, copy)
    with verifying.opened(copy / "audit.db") as database:
        assert verifying.verify(database, Seals(TRUSTED)).wire()["records"] == 3


def test_a_file_whose_signer_is_not_trusted_is_a_fault(kept: Trail, tmp_path: Path) -> None:
    kept.add(Writer().batch(3))
    others = TrustedKeys(tmp_path / "others.json")
    others.add(STRANGER.jwk)
    with verifying.opened(kept.path) as database:
        (fault,) = verifying.verify(database, Seals(others)).faults
    assert fault.kind == verifying.SEAL


def test_a_file_that_is_no_trail_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(errors.StoreUnusable, match="cannot be read"), verifying.opened(tmp_path / "audit.db"):
        pass
    run(tmp_path / "other.db", "CREATE TABLE x (y)")
    with (
        pytest.raises(errors.StoreUnusable, match="no audit trail of format 1"),
        verifying.opened(tmp_path / "other.db"),
    ):
        pass
