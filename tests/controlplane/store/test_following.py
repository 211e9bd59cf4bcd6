"""Changes as a stream: backlog, then live, no gap, no repeat."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from controlplane import errors
from controlplane.store import following, stores, transactions
from controlplane.store.records import Batch, Change
from tests.doubles import records
from tests.doubles.databases import opened
from tests.doubles.polling import until


def put(name: str) -> Any:
    return lambda tx: tx.put(records.module(name))


async def collect(store: stores.Store, into: list[Change], after: int = 0, **how: Any) -> None:
    async for page in store.follow(after=after, **how):
        assert page
        into.extend(page)


async def test_backlog_then_live_without_gap_or_repeat(store: stores.Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "PAGE", 7)
    seen: list[Change] = []

    async def write(worker: int) -> None:
        for number in range(20):
            await store.write(put(f"m-{worker}-{number}"))

    await write(0)
    task = asyncio.create_task(collect(store, seen))
    await asyncio.gather(write(1), write(2))
    await until(lambda: len(seen) >= 60)
    assert [change.revision for change in seen] == list(range(1, 61))
    task.cancel()


async def test_only_the_asked_kinds_come(store: stores.Store) -> None:
    def unit(tx: transactions.Transaction) -> None:
        tx.transition(tx.put(records.module()), "DISCOVERED", "New", "", from_=None)

    await store.write(unit)
    seen: list[Change] = []
    task = asyncio.create_task(collect(store, seen, kinds=["ModuleEvent", "ModuleAccess"]))
    await until(lambda: len(seen) == 1)
    await store.write(put("other"))
    await store.write(lambda tx: tx.put(records.access()))
    await until(lambda: len(seen) == 2)
    assert [change.kind for change in seen] == ["ModuleEvent", "ModuleAccess"]
    assert seen[1].document["spec"]["organisation"] == "acme"
    task.cancel()


async def test_a_slow_follower_goes_back_to_the_log(store: stores.Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "CAPACITY", 5)
    await store.write(put("first"))
    async with aclosing(store.follow(after=0)) as changes:
        seen = await anext(changes)
        waiting = asyncio.create_task(anext(changes))
        await store.write(put("second"))
        seen += await waiting
        for number in range(12):
            await store.write(put(f"m-{number}"))
        while len(seen) < 14:
            seen += await anext(changes)
    assert [change.revision for change in seen] == list(range(1, 15))


async def test_a_position_ahead_of_the_database_has_to_list_anew(store: stores.Store) -> None:
    await store.write(put("first"))
    with pytest.raises(errors.Compacted):
        await anext(aiter(store.follow(after=99)))


async def test_followers_end_with_the_store(database_url: str) -> None:
    async with opened(database_url) as store:
        task = asyncio.create_task(collect(store, []))
        await store.write(put("first"))
        await store.close()
        with pytest.raises(errors.StoreClosed):
            await task


async def test_commits_of_another_process_are_noticed(database_url: str) -> None:
    async with opened(database_url) as here, opened(database_url) as there:
        batches: list[Batch] = []
        seen: list[Change] = []
        here.listen(batches.append)
        task = asyncio.create_task(collect(here, seen))

        def unit(tx: transactions.Transaction) -> None:
            record = tx.put(records.module("theirs"))
            tx.transition(record, "DISCOVERED", "New", "", from_=None)
            tx.desire(key="module.a", kind="Module", name="a", uid="u", generation=1, payload="{}")

        await there.write(unit)
        await until(lambda: len(seen) == 2)
        await until(lambda: here.revision == there.revision == 3)
        assert [len(batches[0].changes), len(batches[0].outbox), len(batches[0].desired)] == [2, 1, 1]
        await there.write(put("theirs-2"))
        await here.write(put("ours"))
        await until(lambda: len(seen) == 4)
        assert [change.name for change in seen if change.kind == "Module"] == ["theirs", "theirs-2", "ours"]
        assert [change.revision for change in seen] == [1, 2, 4, 5]
        task.cancel()
