"""Nothing that is noted is lost silently: it is a record, or it is counted in one, whatever ends the process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.kits import chains, spools
from schemas.kits.chains import Chain
from schemas.kits.recorders import Recorder
from schemas.kits.spools import Spool, SpoolError
from tests.doubles.polling import until_sync

CHAIN = Chain("w0", "b1")
LATER = "2026-01-01T00:00:00.000Z"


def taken(spool: Spool) -> list[dict[str, Any]]:
    """Everything in the spool, checked as a chain, and out of it."""
    found, head = [], None
    while (oldest := spool.oldest()) is not None:
        batch, _ = oldest
        assert head is None or batch.before == head
        head = batch.before
        for record in batch.records:
            assert chains.belongs(record, spool.chain, head.seq + 1)
            head = chains.follow(head, record)
            found.append(json.loads(record))
        spool.drop(batch)
    assert spool.bytes == 0
    return found


def brief(records: list[dict[str, Any]]) -> list[Any]:
    return [each.get("number", each.get("count", each["kind"])) for each in records]


class Desk:
    """A recorder, and its spool's folder."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.broken = False
        self.recorder = Recorder(
            self.make, self.encode, **{"first": {"version": "1"}, "limit": 1 << 20, "interval": 0.01, **more}
        )

    def make(self) -> Spool:
        if self.broken:
            raise SpoolError("no room")
        return opened(spools.make(self.folder, CHAIN))

    @staticmethod
    def encode(entry: int) -> dict[str, Any]:
        if entry < 0:
            raise ValueError("not a number of ours")
        return {"kind": "decision", "number": entry}

    @property
    def spool(self) -> Spool:
        assert self.recorder.spool is not None
        return self.recorder.spool

    def crash(self) -> None:
        """What a process leaves that was killed: its lock is gone, what it had in memory too."""
        self.spool.counter.close()


def left(folder: Path) -> Spool:
    (spool,), broken = spools.left_behind(folder, "w0", LATER)
    assert broken == []
    return opened(spool)


_OPENED: list[Spool] = []


def opened(spool: Spool) -> Spool:
    """A spool whose database is closed when its test is over."""
    _OPENED.append(spool)
    return spool


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop()._database.close()


def test_notes_become_records_in_order_and_the_chain_is_closed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.recorder.start()
    for number in range(1_700):
        desk.recorder.note(number)
    desk.recorder.close()
    assert brief(taken(desk.spool)) == ["start", *range(1_700), "end"]
    desk.spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_on_disk_soon_without_anybody_asking(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.recorder.start()
    desk.recorder.note(7)
    until_sync(lambda: desk.spool.accounted == 1, what="the note is written")
    assert brief(taken(desk.spool)) == ["start", 7]
    desk.recorder.close()


def test_a_full_spool_counts_what_it_cannot_keep_and_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limit=10_000)
    desk.recorder.start()
    kept = 0
    while not desk.recorder.full:
        desk.recorder.note(kept)
        kept += 1
        if kept % 50 == 0:
            until_sync(lambda: desk.recorder.full or desk.spool.accounted == kept, what="the spool took them")  # noqa: B023
    until_sync(lambda: desk.recorder.trouble, what="it says why")
    before = desk.recorder.missed
    for number in range(30):
        desk.recorder.note(1_000_000 + number)
    assert desk.recorder.missed == before + 30
    assert "as many as it may" in desk.recorder.wire()["reason"]
    first = brief(taken(desk.spool))
    until_sync(lambda: not desk.recorder.full, what="there is room again")
    desk.recorder.note(8)
    desk.recorder.close()
    every = [*first, *brief(taken(desk.spool))]
    assert every == ["start", *range(kept - before), before + 30, 8, "end"]


def test_more_notes_than_may_wait_are_counted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, waiting=10, interval=3600.0)
    desk.recorder._open()
    for number in range(25):
        desk.recorder.note(number)
    assert desk.recorder.full
    desk.recorder._thread.start()
    desk.recorder.close()
    assert brief(taken(desk.spool)) == ["start", *range(10), 15, "end"]


def test_what_comes_while_notes_are_written_has_its_own_turn(tmp_path: Path) -> None:
    """However busy it is: a flush takes as long for one note as for many, so each takes all of a quarter second."""
    desk = Desk(tmp_path, interval=3600.0)
    desk.recorder._open()
    desk.recorder.note(0)
    appended = busily(desk, 3)
    desk.recorder._write(ending=False)
    assert appended == [1]
    desk.recorder._write(ending=False)
    assert appended == [1, 3]
    assert brief(taken(desk.spool)) == ["start", 0, 1, 2, 3]


def test_after_too_many_notes_there_is_room_again_however_busy_it_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path, waiting=10, interval=3600.0)
    desk.recorder._open()
    for number in range(12):
        desk.recorder.note(number)
    appended = busily(desk, 3)
    desk.recorder._write(ending=False)
    assert appended == [11]
    assert not desk.recorder.full
    desk.recorder.note(7)
    desk.recorder._write(ending=False)
    assert brief(taken(desk.spool)) == ["start", *range(10), 2, 7, 3]


def busily(desk: Desk, count: int) -> list[int]:
    """Let notes come during each flush; returns how many records each had, as they are written."""
    append, sizes = desk.spool.append, list[int]()

    def slow(records: Any, accounted: int, *, closed: bool = False) -> None:
        sizes.append(len(records))
        assert len(sizes) < 5, "it goes on and on"
        for number in range(count):
            desk.recorder.note(number + 1)
        append(records, accounted, closed=closed)

    desk.spool.append = slow  # type: ignore[method-assign]
    return sizes


def test_a_note_that_cannot_be_encoded_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(tmp_path)
    desk.recorder.start()
    for number in (1, -1, 2):
        desk.recorder.note(number)
    desk.recorder.close()
    records = taken(desk.spool)
    assert sorted(brief(records)[1:-1]) == [1, 1, 2]
    assert [each["reason"] for each in records if each["kind"] == "gap"] == ["NotEncoded"]
    assert "cannot be encoded" in caplog.text


def test_without_a_spool_nothing_is_kept_until_there_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.broken = True
    desk.recorder.start()
    assert desk.recorder.full
    for number in range(5):
        desk.recorder.note(number)
    desk.broken = False
    until_sync(lambda: not desk.recorder.full, what="a spool")
    desk.recorder.note(6)
    desk.recorder.close()
    assert brief(taken(desk.spool)) == ["start", 5, 6, "end"]


def test_what_a_crash_cost_is_counted_by_the_next_boot(tmp_path: Path) -> None:
    desk = Desk(tmp_path, interval=3600.0)
    desk.recorder._open()
    desk.recorder.note(1)
    desk.recorder.note(2)
    desk.recorder._write(ending=False)
    for number in range(11):
        desk.recorder.note(number)
    assert spools.left_behind(tmp_path, "w0", LATER) == ([], [])
    desk.crash()
    spool = left(tmp_path)
    records = taken(spool)
    assert brief(records) == ["start", 1, 2, 11, "end"]
    assert [each.get("reason") for each in records[-2:]] == ["Crashed", "Crashed"]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_sent_before_a_crash_is_still_there_after_the_next(tmp_path: Path) -> None:
    desk = Desk(tmp_path, interval=3600.0)
    desk.recorder._open()
    desk.recorder.note(1)
    desk.recorder._write(ending=False)
    desk.crash()
    left(tmp_path).counter.close()
    assert brief(taken(left(tmp_path))) == ["start", 1, 0, "end"]


def test_a_closed_chain_that_was_not_sent_is_left_as_it_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.recorder.start()
    desk.recorder.note(1)
    desk.recorder.close()
    desk.spool.close()
    assert brief(taken(left(tmp_path))) == ["start", 1, "end"]


def test_a_spool_that_cannot_be_read_is_set_aside_and_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, interval=3600.0)
    desk.recorder._open()
    desk.spool._database.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"b1.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "b1.db").write_bytes(b"nonsense" * 1_000)
    desk.crash()
    spools_left, broken = spools.left_behind(tmp_path, "w0", LATER)
    assert spools_left == []
    assert len(broken) == 1
    assert (tmp_path / "b1.refused").exists()


def test_nothing_waits_longer_than_the_process_needs(tmp_path: Path) -> None:
    """A hundred thousand notes leave no more on disk than was not sent."""
    desk = Desk(tmp_path, interval=3600.0, waiting=1_000_000, limit=1 << 30)
    desk.recorder._open()
    for number in range(100_000):
        desk.recorder.note(number)
    desk.recorder._write(ending=False)
    assert len(desk.recorder._waiting) == 0
    assert len(taken(desk.spool)) == 100_001
