"""What is kept how long."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from controlplane import errors
from controlplane.store import keeping, stores, transactions
from controlplane.store.records import Lease, Record
from tests.doubles import records
from tests.doubles.clock import FakeClock
from tests.doubles.databases import opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(database_url: str, clock: FakeClock) -> AsyncIterator[stores.Store]:
    async with opened(database_url, clock) as running:
        yield running


def born(tx: transactions.Transaction, name: str) -> Record:
    record = tx.put(records.module(name))
    tx.transition(record, "DISCOVERED", "New", "", from_=None)
    return record


async def test_changes_are_cut_after_a_day_and_followers_are_told(store: stores.Store, clock: FakeClock) -> None:
    await store.write(lambda tx: born(tx, "old"))
    await clock.advance(timedelta(hours=23).total_seconds())
    await store.write(lambda tx: born(tx, "young"))
    keeper = keeping.Keeper(store, clock)
    assert not any((await keeper.sweep()).values())
    await clock.advance(timedelta(hours=2).total_seconds())
    assert (await keeper.sweep())["changes"] == 2
    assert await store.read(lambda reading: reading.oldest_change()) == 2
    assert [change.revision for change in await store.read(lambda reading: reading.changes(2))] == [3, 4]
    with pytest.raises(errors.Compacted) as caught:
        await anext(aiter(store.follow(after=1)))
    assert caught.value.oldest == 2
    assert await store.read(lambda reading: reading.count("Module")) == 2


async def test_the_log_has_a_longest_length(store: stores.Store, clock: FakeClock) -> None:
    def make(tx: transactions.Transaction) -> None:
        for number in range(1200):
            tx.put(records.module(f"m-{number}"))

    await store.write(make)
    keeper = keeping.Keeper(store, clock, kept=keeping.Retention(change_rows=100))
    commits = store.commits
    assert (await keeper.sweep())["changes"] == 1100
    assert store.commits - commits >= 3
    assert len(await store.read(lambda reading: reading.changes(1100))) == 100


async def test_events_and_what_was_published_go_in_time(store: stores.Store, clock: FakeClock) -> None:
    await store.write(lambda tx: born(tx, "a"))
    await store.write(lambda tx: born(tx, "b"))
    pending = await store.read(lambda reading: reading.pending_outbox(10))
    await store.write(lambda tx: tx.mark_published([pending[0].id]))
    await store.write(lambda tx: tx.put_inspection("k", {}))
    keeper = keeping.Keeper(store, clock)
    await clock.advance(timedelta(days=8).total_seconds())
    assert (await keeper.sweep())["published"] == 1
    await clock.advance(timedelta(days=23).total_seconds())
    swept = await keeper.sweep()
    assert (swept["events"], swept["inspections"]) == (2, 1)
    assert await store.read(lambda reading: (reading.count("ModuleEvent"), reading.count("Module"))) == (0, 2)
    assert await store.read(lambda reading: reading.pending_outbox(10)) == pending[1:]


async def test_a_sweep_under_an_old_epoch_is_fenced(store: stores.Store, clock: FakeClock) -> None:
    await store.write(lambda tx: tx.put_lease(Lease("b", 2, 0)))
    with pytest.raises(errors.Fenced):
        await keeping.Keeper(store, clock, epoch=lambda: 1).sweep()


async def test_the_keeper_sweeps_again_and_again(store: stores.Store, clock: FakeClock) -> None:
    await store.write(lambda tx: born(tx, "a"))
    task = asyncio.create_task(keeping.Keeper(store, clock).run())
    while not clock.sleepers:
        await store.read(lambda reading: reading.revision)
    await clock.advance(timedelta(days=1, hours=1).total_seconds())
    while await store.read(lambda reading: reading.oldest_change()) != 2:
        await clock.advance(60)
    task.cancel()
