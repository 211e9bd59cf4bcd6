"""What is acknowledged is on disk; what cannot be saved is not acknowledged, and says why."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest

from dataplane.agent.holding import Proof
from dataplane.agent.keeping import File, Kept, Place, Slot
from dataplane.agent.saving import Saver
from schemas.documents import DesiredDocument
from schemas.kits.backoffs import Backoff
from schemas.reports import LastGoodState
from tests.dataplane.agent.test_keeping import document, loaded, newest, proof
from tests.doubles.clock import FakeClock
from tests.doubles.keys import TRUSTED
from tests.doubles.polling import until


class Disk(File):
    """A real file whose disk a test may hold or fill."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, TRUSTED, worker="w0", boot="b1")
        self.trouble: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.saves: list[Proof] = []

    def save(self, proof: Proof, changes: Mapping[Slot, DesiredDocument | None], now: datetime) -> None:
        self.gate.wait(60)
        self.saves.append(proof)
        super().save(proof, changes, now)

    def _commit(self, database: sqlite3.Connection, proof: Proof, now: datetime) -> None:
        if self.trouble is not None:
            raise self.trouble
        super()._commit(database, proof, now)


class Rig:
    def __init__(self, path: Path) -> None:
        self.disk = Disk(path)
        self.clock = FakeClock()
        self.changes = 0
        self.saver = Saver(
            self.disk, self.clock, changed=self.changed, backoff=Backoff(base=10.0, cap=30.0), tidy_seconds=0.01
        )

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "lkg" / "w0.db")
    running = asyncio.create_task(made.saver.run())
    yield made
    made.disk.gate.set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await made.saver.close()


async def test_nothing_is_saved_before_a_set_was_proven(rig: Rig) -> None:
    rig.saver.offer(Proof(), newest(document("a")))
    assert not rig.saver.busy
    rig.saver.offer(proof(1), {})
    await until(lambda: rig.saver.proof == proof(1))
    assert rig.disk.saves == [proof(1)]
    assert set(loaded(rig.disk.path).entries) == {"module.a"}


async def test_a_proof_counts_only_once_it_is_on_disk_and_what_came_meanwhile_goes_together(rig: Rig) -> None:
    rig.disk.gate.clear()
    rig.saver.offer(proof(1), newest(document("a")))
    assert rig.saver.busy
    await until(lambda: not rig.saver._news.is_set())
    for revision in range(2, 30):
        rig.saver.offer(proof(revision), newest(document("b", revision)))
    assert rig.saver.proof == Proof()
    assert rig.saver.last_good.state is LastGoodState.NONE
    rig.disk.gate.set()
    await until(lambda: rig.saver.proof == proof(29))
    assert rig.disk.saves == [proof(1), proof(29)]
    assert not rig.saver.busy
    assert rig.changes == 2
    good = rig.saver.last_good
    assert (good.state, good.epoch, good.revision, good.restored) == (LastGoodState.SAVED, 1, 29, False)


async def test_what_acknowledges_nothing_is_tidied_up_later_and_is_no_new_state(rig: Rig) -> None:
    rig.saver.offer(proof(1), newest(document("a")))
    await until(lambda: rig.saver.proof == proof(1))
    saved_at = rig.saver.last_good.saved_at
    await rig.clock.advance(100)
    rig.saver.offer(proof(1), {("module.a", Place.SERVING): document("a", 0)})
    assert not rig.saver.busy
    await until(lambda: len(rig.disk.saves) == 2)
    await until(lambda: "a" in loaded(rig.disk.path).serving)
    assert rig.saver.last_good.saved_at == saved_at


async def test_a_disk_that_refuses_is_named_retried_and_acknowledges_nothing(rig: Rig) -> None:
    steady = document("steady")
    rig.saver.offer(proof(1), newest(document("a"), steady))
    await until(lambda: rig.saver.proof == proof(1))
    rig.disk.trouble = sqlite3.OperationalError("database or disk is full")
    rig.saver.offer(proof(1), newest(steady))
    rig.saver.offer(proof(2), newest(document("b", 2)) | {("module.a", Place.NEWEST): None})
    await until(lambda: rig.saver.failing)
    assert rig.saver.proof == proof(1)
    good = rig.saver.last_good
    assert (good.state, good.revision) == (LastGoodState.FAILING, 1)
    assert "disk is full; nothing new is acknowledged" in good.message
    (pending,) = rig.saver.pending()
    assert (pending.module, pending.generation, pending.reason) == ("b", 2, "NotSaved")
    assert pending.next_retry is not None
    assert pending.message == good.message
    rig.saver.offer(proof(3), newest(document("c", 3)))
    assert len(rig.disk.saves) == 2
    await rig.clock.advance(30)
    await until(lambda: len(rig.disk.saves) >= 3)
    await until(lambda: len(rig.saver.pending()) == 2)
    assert {entry.since for entry in rig.saver.pending()} == {pending.since}
    rig.disk.trouble = None
    await rig.clock.advance(60)
    await until(lambda: rig.saver.proof == proof(3))
    assert (rig.saver.failing, rig.saver.pending()) == ("", [])
    assert set(loaded(rig.disk.path).entries) == {"module.b", "module.c", "module.steady"}


async def test_an_error_that_nobody_foresaw_is_a_failed_save(rig: Rig) -> None:
    rig.disk.trouble = RuntimeError("nobody foresaw this")
    rig.saver.offer(proof(1), newest(document("a")))
    await until(lambda: "RuntimeError: nobody foresaw this" in rig.saver.failing)
    rig.disk.trouble = None
    await rig.clock.advance(60)
    await until(lambda: rig.saver.proof == proof(1))


async def test_the_last_boots_state_is_restored_with_its_age(rig: Rig, tmp_path: Path) -> None:
    rig.saver.offer(proof(1), newest(document("a")))
    await until(lambda: rig.saver.proof == proof(1))
    again = Rig(rig.disk.path)
    kept = await again.saver.restore()
    assert kept is not None
    assert set(kept.entries) == {"module.a"}
    good = again.saver.last_good
    assert (good.state, good.restored, good.revision) == (LastGoodState.SAVED, True, 1)
    assert good.saved_at == rig.saver.last_good.saved_at
    assert again.saver.proof == proof(1)
    await again.saver.close()
    assert again.disk.saves == [proof(1)]


async def test_a_refused_file_is_a_state_until_something_good_is_saved(rig: Rig) -> None:
    rig.disk.path.parent.mkdir()
    rig.disk.path.write_text("nonsense")
    assert await rig.saver.restore() is None
    good = rig.saver.last_good
    assert good.state is LastGoodState.REFUSED
    assert "set aside as w0.db.refused" in good.message
    assert "waits for NATS" in good.message
    rig.saver.offer(proof(1), newest(document("a")))
    await until(lambda: rig.saver.last_good.state is LastGoodState.SAVED)
    assert rig.saver.last_good.message == ""


async def test_a_file_that_cannot_even_be_looked_at_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Kept | None:
        raise PermissionError(13, "Permission denied", "w0.db")

    monkeypatch.setattr(rig.disk, "load", fail)
    assert await rig.saver.restore() is None
    assert "Permission denied" in rig.saver.last_good.message


async def test_the_end_saves_what_is_left(rig: Rig) -> None:
    ending = Rig(rig.disk.path)
    ending.saver.offer(proof(7), newest(document("a", 7)))
    await ending.saver.close()
    assert loaded(rig.disk.path).proof == proof(7)
