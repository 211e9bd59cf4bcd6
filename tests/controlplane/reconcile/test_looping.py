"""The loop with nothing simulated but code and workers: real threads, real time, the real write path."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest

from controlplane.reconcile import examining, leadership, loading, locks, looping
from controlplane.reconcile.facts import Facts
from controlplane.store.readings import Reading
from tests.doubles import apiparts, planes
from tests.doubles.planes import Plane, manifest
from tests.doubles.polling import until


@pytest.fixture
async def plane(database_url: str) -> AsyncIterator[Plane]:
    async with planes.leading(database_url) as running:
        yield running


async def test_what_the_write_path_stores_becomes_active_and_goes_again(plane: Plane) -> None:
    outcome = (await plane.writer.apply([manifest("one")], manager="test"))[0]
    assert outcome.error is None
    await until(lambda: _is(plane, "one", "ACTIVE"))
    await plane.writer.delete("Module", "one")
    await until(lambda: _is(plane, "one", "gone"))
    events = await plane.store.read(lambda reading: reading.events_of("one", 100))
    assert [event.spec["to"] for event in events] == [
        "DISCOVERED",
        "VALIDATED",
        "REGISTERED",
        "ACTIVE",
        "UNREGISTERED",
    ]
    assert [event.spec["sequence"] for event in events] == [1, 2, 3, 4, 5]


async def test_a_hundred_modules_in_one_apply_are_active_soon(plane: Plane) -> None:
    await plane.writer.apply([manifest(f"m{number}") for number in range(100)], manager="test")
    await until(lambda: _all_active(plane, 100), timeout=30)


async def test_modules_that_are_due_together_share_a_snapshot_and_not_their_troubles(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, read_all, together = loading.read, loading.read_all, [0]

    def failing(reading: Reading, name: str, now: datetime, examiner: examining.Examiner) -> Facts | None:
        if name == "m7":
            raise ValueError("facts that cannot be read")
        return read(reading, name, now, examiner)

    def counted(reading: Reading, wanted: Sequence[str], now: datetime, examiner: examining.Examiner) -> loading.Loaded:
        together.append(len(wanted))
        return read_all(reading, wanted, now, examiner)

    monkeypatch.setattr(loading, "read", failing)
    monkeypatch.setattr(loading, "read_all", counted)
    await plane.writer.apply([manifest(f"m{number}") for number in range(looping.TOGETHER)], manager="test")
    await until(lambda: _active(plane, looping.TOGETHER - 1), timeout=60)
    assert max(together) == looping.TOGETHER
    assert plane.reconciler.queue.failures("m7") > 0
    monkeypatch.setattr(loading, "read", read)
    await plane.writer.apply([manifest("m7", 2)], manager="test")  # a new generation waits for no back-off
    await until(lambda: _active(plane, looping.TOGETHER), timeout=60)


async def test_objects_of_other_kinds_may_have_a_module_s_name(plane: Plane) -> None:
    others = [apiparts.organisation("one"), apiparts.flag("one")]
    for documents in ([manifest("one"), *others], [manifest("one", 2), apiparts.flag("one", killSwitch=True)]):
        outcomes = await plane.writer.apply(documents, manager="test")
        assert [outcome.error for outcome in outcomes] == [None] * len(documents)
        await until(lambda: _all_active(plane, 1))


async def test_a_dead_leader_s_lock_hands_over_at_once_and_a_living_one_s_does_not(
    plane: Plane, database_url: str
) -> None:
    successor = leadership.Leadership(plane.store, plane.clock, "next", locks.beside(database_url))
    gained: list[int] = []

    async def gain(epoch: int) -> None:
        gained.append(epoch)

    standing = asyncio.create_task(successor.run(gain, plane.lost))
    await until(lambda: successor._standing.seen is not None)
    assert not successor.leads
    plane.tasks.append(standing)
    plane.tasks[0].cancel()
    await asyncio.gather(plane.tasks[0], return_exceptions=True)
    await plane.leadership._lock.release()
    dead_at = time.monotonic()
    await until(lambda: gained)
    assert time.monotonic() - dead_at < leadership.LEASE_SECONDS - 1.0
    assert gained == [plane.leadership.epoch + 1]
    await successor.release()


async def test_the_loop_goes_on_after_it_was_ended_and_begun_again(plane: Plane) -> None:
    await plane.writer.apply([manifest("one")], manager="test")
    await until(lambda: _is(plane, "one", "ACTIVE"))
    plane.tasks[1].cancel()
    await asyncio.gather(plane.tasks[1], return_exceptions=True)
    await plane.writer.apply([manifest("one", 2), manifest("two")], manager="test")
    plane.tasks[1] = asyncio.create_task(plane.reconciler.run())
    await until(lambda: _all_active(plane, 2))


async def _is(plane: Plane, name: str, state: str) -> bool:
    return await plane.state(name) == state


async def _all_active(plane: Plane, count: int) -> bool:
    records = await plane.store.read(lambda reading: reading.list("Module"))
    return len(records) == count and all(
        record.status.get("state") == "ACTIVE" and record.status.get("observedGeneration") == record.generation
        for record in records
    )


async def _active(plane: Plane, count: int) -> bool:
    records = await plane.store.read(lambda reading: reading.list("Module"))
    return len([record for record in records if record.status.get("state") == "ACTIVE"]) == count
