"""The last good state on disk: the old state or the new one, and one wrong bit refuses all of it."""

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.agent.holding import Proof
from dataplane.agent.keeping import FORMAT, File, Kept, Place, Slot
from dataplane.agent.standings import Known
from dataplane.errors import LastGoodRefused, SaveFailed
from schemas import documents, names
from schemas.documents import DesiredDocument
from schemas.flag import FlagDefinition
from schemas.module import DesiredModule
from tests.doubles.keys import STRANGER, TRUSTED, signed

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
MODULE = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a")
ROOT = Path(__file__).resolve().parents[3]


def document(name: str, revision: int = 1, *, kind: str = "Module", size: int = 0, **more: object) -> DesiredDocument:
    config = {"version": revision, "fill": "x" * size}
    payload = documents.canonical_json(MODULE.model_copy(update={"config": config}).wire())
    return signed(
        DesiredDocument.model_validate(
            {
                "kind": kind, "name": name, "uid": f"u-{name}", "generation": revision, "epoch": 1,
                "revision": revision, "digest": documents.payload_digest(payload), "payload": payload, **more,
            }
        )
    )  # fmt: skip


def newest(*rows: DesiredDocument) -> dict[Slot, DesiredDocument | None]:
    return {(names.module_key(row.name), Place.NEWEST): row for row in rows}


def proof(revision: int) -> Proof:
    return Proof("store-1", (1, revision), f"{revision:032x}")


_OPENED: list[File] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


def opened(path: Path, *, worker: str = "w0", boot: str = "b1", replaces: str = "") -> File:
    _OPENED.append(File(path, TRUSTED, worker=worker, boot=boot, replaces=replaces))
    return _OPENED[-1]


def loaded(path: Path, **who: str) -> Kept:
    kept = opened(path, **who).load()
    assert kept is not None
    return kept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lkg" / "w0.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A file with modules a and b, of which an older b serves."""
    file = opened(path)
    serving: dict[Slot, DesiredDocument | None] = {(names.module_key("b"), Place.SERVING): document("b", 2)}
    file.save(proof(3), newest(document("a"), document("b", 3)) | serving, NOW)
    file.close()
    return path


def test_what_was_saved_is_loaded(filled: Path) -> None:
    kept = loaded(filled, boot="b2")
    assert (kept.proof, kept.saved_at) == (proof(3), NOW)
    assert {key: row for key, (row, _) in kept.entries.items()} == {
        "module.a": document("a"), "module.b": document("b", 3),
    }  # fmt: skip
    assert {key: getattr(module, "generation", 0) for key, (_, module) in kept.entries.items()} == {
        "module.a": 1, "module.b": 3,
    }  # fmt: skip
    assert {name: module.generation for name, module in kept.serving.items()} == {"b": 2}
    assert kept.serving["b"].document == document("b", 2)


def test_no_file_is_no_state_and_makes_none(path: Path) -> None:
    assert opened(path).load() is None
    assert not path.parent.exists()


def test_file_and_folder_are_the_owners_alone(filled: Path) -> None:
    assert filled.stat().st_mode & 0o777 == 0o600
    assert filled.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in filled.parent.iterdir()] == ["w0.db"]


def test_keys_go_documents_change_and_another_kind_is_kept(filled: Path) -> None:
    file = opened(filled, boot="b2")
    assert file.load() is not None
    flag = document("f", 5, kind="FeatureFlag")
    known = Known("FeatureFlag", "f", FlagDefinition.model_validate_json(flag.payload))
    file.save(
        proof(6),
        {
            ("module.a", Place.NEWEST): None, ("module.b", Place.SERVING): None,
            ("module.b", Place.NEWEST): document("b", 6), ("flag.f", Place.NEWEST): flag,
        },
        NOW,
    )  # fmt: skip
    kept = loaded(filled)
    assert {key: row.revision for key, (row, _) in kept.entries.items()} == {"module.b": 6, "flag.f": 5}
    assert kept.entries["flag.f"] == (flag, known)
    assert kept.serving == {}


def test_an_empty_proven_set_is_a_state(path: Path) -> None:
    opened(path).save(proof(1), {}, NOW)
    assert loaded(path).entries == {}
    assert loaded(path).proof == proof(1)


def test_what_is_there_already_is_not_written_again(filled: Path) -> None:
    file = opened(filled, boot="b2")
    assert file.load() is not None
    before = filled.stat().st_mtime_ns
    file.save(proof(3), newest(document("a")) | {("module.gone", Place.NEWEST): None}, NOW)
    assert filled.stat().st_mtime_ns == before


def test_a_small_change_writes_a_small_part(path: Path) -> None:
    file = opened(path)
    file.save(proof(1), newest(*(document(f"m{index}", size=4000) for index in range(200))), NOW)
    written: list[str] = []
    assert file._db is not None
    file._db.set_trace_callback(written.append)
    file.save(proof(2), newest(document("m7", 2)), NOW)
    assert sum("REPLACE INTO documents" in statement for statement in written) == 1
    assert not any("DELETE FROM documents" in statement for statement in written)
    assert len(loaded(path).entries) == 200


# --- damage ----------------------------------------------------------------------------------------------------------


def refused(path: Path, **who: str) -> LastGoodRefused:
    """The refusal of the file, which is set aside and leaves nothing that would be served."""
    file = opened(path, **who)
    with pytest.raises(LastGoodRefused) as caught:
        file.load()
    assert not path.exists()
    assert file.refused_path.exists()
    assert str(path) in caught.value.message
    assert "w0.db.refused" in caught.value.message
    assert opened(path).load() is None
    file.save(proof(9), newest(document("z", 9)), NOW)
    assert set(loaded(path, **who).entries) == {"module.z"}
    return caught.value


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount != 0


@pytest.mark.parametrize(
    ("statement", "reason", "words"),
    [
        (
            "UPDATE documents SET document = CAST(replace(document, 'a:A', 'a:B') AS BLOB) WHERE key = 'module.a'",
            "Damaged",
            "row of",
        ),
        ("UPDATE documents SET revision = 2 WHERE key = 'module.a'", "Damaged", "row of module.a"),
        ("UPDATE documents SET key = 'module.c' WHERE key = 'module.a'", "Damaged", "row of module.c"),
        ("UPDATE documents SET place = 'elsewhere' WHERE key = 'module.a'", "Damaged", "row of module.a"),
        ("DELETE FROM documents WHERE key = 'module.a'", "Damaged", "should hold 3 rows and holds 2"),
        ("DELETE FROM meta", "Damaged", "nothing in it proves the rest"),
        (
            "UPDATE meta SET document = CAST(replace(document, 'store-1', 'store-2') AS BLOB)",
            "Damaged",
            "proves the others",
        ),
        ("DROP TABLE meta", "Damaged", "no such table"),
        ("ALTER TABLE documents ADD COLUMN more TEXT", "Damaged", "values to unpack"),
        (f"PRAGMA user_version = {FORMAT + 1}", "UnknownFormat", f"format {FORMAT + 1}; this worker reads format"),
        ("PRAGMA user_version = 0", "UnknownFormat", "format 0"),
        ("PRAGMA application_id = 1", "Foreign", "no last good state"),
    ],
)
def test_a_changed_file_is_refused_as_a_whole(filled: Path, statement: str, reason: str, words: str) -> None:
    change(filled, statement)
    error = refused(filled)
    assert error.reason == reason
    assert words in error.message


def test_blobs_that_became_text_are_refused_not_misread(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled)) as database, database:
        rows = database.execute("SELECT * FROM documents").fetchall()
        database.execute("DROP TABLE documents")
        database.execute("CREATE TABLE documents (key, place, epoch, revision, document, checksum)")
        database.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", [(*row[:4], row[4].decode(), row[5]) for row in rows]
        )
    assert refused(filled).reason == "Damaged"


def test_a_row_of_another_state_of_the_same_file_is_refused(filled: Path) -> None:
    """Each row is right in itself; only together they are not what was saved."""
    with contextlib.closing(sqlite3.connect(filled)) as database:
        earlier = database.execute("SELECT * FROM documents WHERE key = 'module.a'").fetchone()
    file = opened(filled)
    file.load()
    file.save(proof(4), newest(document("a", 4)), NOW)
    change(filled, "REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)", *earlier)
    assert refused(filled).reason == "Damaged"


def test_a_document_of_a_newer_program_refuses_the_file(path: Path) -> None:
    opened(path).save(proof(1), newest(document("a", schema_=documents.SCHEMA + 1, schema=documents.SCHEMA + 1)), NOW)
    assert refused(path).reason == "UnknownSchema"


def test_another_workers_file_is_refused(filled: Path) -> None:
    error = refused(filled, worker="w1")
    assert error.reason == "OtherWorker"
    assert "worker w0, not to w1" in error.message


@pytest.mark.parametrize("content", [b"", b"nonsense", b"SQLite format 3\0" + b"\0" * 100, os.urandom(8192)])
def test_what_is_no_such_file_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert refused(path).reason in {"Damaged", "Foreign"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("sound") / "w0.db"
    file = opened(path)
    file.save(proof(4), newest(*(document(name, 4, size=1500) for name in "abcdef")), NOW)
    file.close()
    return path, path.read_bytes()


def outcome(path: Path, content: bytes) -> Kept | None:
    """What a worker would serve from a file with this content; None: refused."""
    path.write_bytes(content)
    try:
        return opened(path).load()
    except LastGoodRefused:
        return None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 40))
def test_one_flipped_bit_anywhere_is_never_served(sound: tuple[Path, bytes], bit: int) -> None:
    """Bits that hold nothing (free space of a page, SQLite's own counters) may change; what is loaded never does."""
    path, content = sound
    flipped = bytearray(content)
    flipped[bit // 8 % len(content)] ^= 1 << (bit % 8)
    whole = outcome(path, content)
    found = outcome(path, bytes(flipped))
    assert found is None or found == whole


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 40))
def test_a_truncated_file_is_never_served(sound: tuple[Path, bytes], size: int) -> None:
    path, content = sound
    rest = content[: size % len(content)]
    found = outcome(path, rest)
    assert found is None or not content.removeprefix(rest).strip(b"\0")  # what is missing was empty anyhow


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_block_of_noise_is_never_served(sound: tuple[Path, bytes], source: random.Random) -> None:
    path, content = sound
    start = source.randrange(len(content))
    noise = source.randbytes(source.randrange(1, 600))[: len(content) - start]
    whole = outcome(path, content)
    found = outcome(path, content[:start] + noise + content[start + len(noise) :])
    assert found is None or found == whole


def test_a_file_that_cannot_be_set_aside_is_still_not_served(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(filled, "DELETE FROM meta")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", denied)
    with pytest.raises(LastGoodRefused, match=r"could not be set aside .*; remove it"):
        opened(filled).load()


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_in_use_by_another_process_is_left_alone(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.agent.keeping._BUSY_SECONDS", 0.01)
    other = sqlite3.connect(filled, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    file = opened(filled)
    with pytest.raises(LastGoodRefused, match="started twice") as caught:
        file.load()
    assert caught.value.reason == "InUse"
    with pytest.raises(SaveFailed, match="locked"):
        file.save(proof(4), newest(document("c", 4)), NOW)
    other.execute("ROLLBACK")
    assert loaded(filled).proof == proof(3)
    file.save(proof(5), newest(document("d", 5)), NOW)
    assert set(loaded(filled).entries) == {"module.c", "module.d"}
    other.close()


def full(file: File, pages: int) -> None:
    """From now on the file may not grow beyond ``pages``: SQLite's own "database or disk is full"."""
    assert file._db is not None
    file._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_keeps_the_old_state_and_a_freed_one_takes_everything(path: Path) -> None:
    file = opened(path)
    file.save(proof(1), newest(document("a")), NOW)
    full(file, 10)
    with pytest.raises(SaveFailed, match=r"w0\.db: database or disk is full") as caught:
        file.save(proof(2), newest(document("b", 2, size=200_000)), NOW)
    assert caught.value.retryable
    assert loaded(path).proof == proof(1)
    assert set(loaded(path).entries) == {"module.a"}
    file.save(proof(3), newest(document("c", 3)), NOW)
    assert set(loaded(path).entries) == {"module.a", "module.b", "module.c"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_a_failed_save(path: Path) -> None:
    path.parent.mkdir(mode=0o500)
    with pytest.raises(SaveFailed, match="Permission denied"):
        opened(path).save(proof(1), {}, NOW)


def test_a_folder_that_is_a_file_is_a_failed_save(path: Path) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(SaveFailed, match=str(path)):
        opened(path).save(proof(1), {}, NOW)


@pytest.mark.parametrize("how", ["removed", "replaced", "garbage", "older"])
def test_a_file_that_changes_under_a_running_worker_is_written_anew(filled: Path, how: str) -> None:
    file = opened(filled, boot="b2")
    assert file.load() is not None
    file.save(proof(4), newest(document("c", 4)), NOW)
    copy = filled.with_name("copy")
    shutil.copy(filled, copy)
    file.save(proof(5), newest(document("d", 5)), NOW)
    if how == "older":
        copy.replace(filled)
    else:
        filled.unlink()
    if how == "replaced":
        opened(filled, boot="b3").save(proof(9), newest(document("x")), NOW)
    elif how == "garbage":
        filled.write_text("nonsense" * 1000)
    file.save(proof(6), newest(document("e", 6)), NOW)
    kept = loaded(filled)
    assert kept.proof == proof(6)
    assert set(kept.entries) == {f"module.{name}" for name in "abcde"}


def test_two_processes_of_one_slot_leave_a_whole_state(filled: Path) -> None:
    """While a new process of a slot starts the old one may still write: the last to write has written all it knows."""
    old, new = opened(filled, boot="b2"), opened(filled, boot="b3")
    old.load()
    new.load()
    old.save(proof(4), newest(document("c", 4)), NOW)
    new.save(proof(5), newest(document("d", 5)), NOW)
    assert set(loaded(filled).entries) == {"module.a", "module.b", "module.d"}
    old.save(proof(6), newest(document("e", 6)), NOW)
    assert set(loaded(filled).entries) == {"module.a", "module.b", "module.c", "module.e"}


SAVING = """
import sys
from pathlib import Path
from datetime import UTC, datetime
sys.path.insert(0, {root!r})
from tests.dataplane.agent import test_keeping as words
file = words.opened(Path(sys.argv[1]), boot="child")
file.load()
revision = 10
while True:
    revision += 1
    rows = [words.document(f"m{{index}}", revision, size=3000) for index in range(20)]
    file.save(words.proof(revision), words.newest(*rows), datetime.now(UTC))
    print(revision, flush=True)
"""


@pytest.mark.processes
def test_kill_9_in_the_middle_of_saving_leaves_the_old_state_or_the_new_one(filled: Path) -> None:
    source = random.Random(1)
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVING.format(root=str(ROOT)), str(filled)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(source.randrange(2, 8)):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.wait()
        acknowledged = max([acknowledged, *(int(line) for line in child.stdout.read().split())])
        child.stdout.close()
        kept = loaded(filled)
        assert kept.proof.order[1] >= acknowledged
        revisions = {row.revision for key, (row, _) in kept.entries.items() if key.startswith("module.m")}
        assert revisions == {kept.proof.order[1]}


def test_a_limit_of_the_operating_system_is_a_failed_save_too(path: Path) -> None:
    file = opened(path)
    file.save(proof(1), newest(document("a")), NOW)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        with pytest.raises(SaveFailed):
            file.save(proof(2), newest(document("b", 2, size=200_000)), NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert loaded(path).proof == proof(1)
    file.save(proof(3), {}, NOW)
    assert set(loaded(path).entries) == {"module.a", "module.b"}


def test_a_process_that_is_replaced_leaves_the_file_to_its_successor_while_that_lives(filled: Path) -> None:
    old, new = opened(filled, boot="b2"), opened(filled, boot="b3", replaces="b2")
    assert old.load() is not None
    assert new.load() is not None
    old.save(proof(4), newest(document("c", 4)), NOW)
    new.save(proof(6), newest(document("c", 4), document("d", 6)), NOW)
    old.save(proof(5), newest(document("c", 5)), NOW)
    assert loaded(filled).proof == proof(6)
    new.close()
    old.close()


def test_a_process_saves_again_when_its_successor_is_dead(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = opened(filled, boot="b2"), opened(filled, boot="b3", replaces="b2")
    assert new.load() is not None
    assert old.load() is not None
    new.save(proof(4), newest(document("c", 4)), NOW)
    new.close()

    def dead(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", dead)
    old.save(proof(5), newest(document("c", 5)), NOW)
    old.close()
    assert loaded(filled).proof == proof(5)


def test_a_file_with_a_document_that_nobody_trusted_signed_is_refused(path: Path) -> None:
    opened(path).save(proof(1), newest(document("a"), signed(document("b"), STRANGER)), NOW)
    with pytest.raises(LastGoodRefused, match="key") as refused:
        opened(path).load()
    assert refused.value.reason == "NotTrusted"
