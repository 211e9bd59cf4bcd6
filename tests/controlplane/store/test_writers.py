"""The one writer: grouping, failing alone, no lost update, no lost acknowledgement."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane import errors
from controlplane.store import stores, transactions
from controlplane.store.records import Batch, Record
from tests.doubles import records
from tests.doubles.clock import FakeClock
from tests.doubles.databases import Postgres, opened, sqlite_url
from tests.doubles.polling import until


class Gate:
    """A unit that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, tx: transactions.Transaction) -> None:
        self.entered.set()
        assert self.open.wait(60)


async def held(store: stores.Store) -> tuple[Gate, "asyncio.Task[None]"]:
    gate = Gate()
    task = asyncio.create_task(store.write(gate))
    await until(gate.entered.is_set)
    return gate, task


def put(name: str) -> Callable[[transactions.Transaction], Record]:
    return again(records.module(name))


def again(record: Record) -> Callable[[transactions.Transaction], Record]:
    return lambda tx: tx.put(record)


async def test_units_that_wait_share_one_commit(store: stores.Store) -> None:
    gate, holding = await held(store)
    before = store.commits
    writes = [asyncio.create_task(store.write(put(f"m-{number}"))) for number in range(50)]
    await FakeClock.settle()
    gate.open.set()
    stored = await asyncio.gather(*writes)
    await holding
    assert [record.revision for record in stored] == list(range(1, 51))
    assert store.commits == before + 2


async def test_a_unit_that_fails_before_writing_leaves_its_group_in_peace(store: stores.Store) -> None:
    await store.write(put("taken"))
    gate, holding = await held(store)
    before = store.commits
    names = ("a", "taken", "b")
    writes = [asyncio.create_task(store.write(put(name))) for name in names]
    await FakeClock.settle()
    gate.open.set()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    await holding
    assert isinstance(outcomes[1], errors.AlreadyExists)
    assert store.commits == before + 2
    assert await names_in(store) == ["a", "b", "taken"]


async def test_a_unit_that_fails_after_writing_fails_alone(store: stores.Store) -> None:
    def bad(tx: transactions.Transaction) -> None:
        tx.put(records.module("never"))
        raise ValueError("no")

    def tampers(tx: transactions.Transaction) -> None:
        tx.put(replace(records.module("twin"), uid=first.uid))

    first = await store.write(put("first"))
    gate, holding = await held(store)
    writes = [asyncio.create_task(store.write(unit)) for unit in (put("a"), bad, put("b"), tampers, put("c"))]
    await FakeClock.settle()
    gate.open.set()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    await holding
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[3], errors.StoreError)
    assert await names_in(store) == ["a", "b", "c", "first"]
    revisions = [change.revision for change in await store.read(lambda reading: reading.changes(0))]
    assert revisions == [1, 2, 3, 4]
    assert store.revision == 4


async def test_eight_tasks_lose_no_update(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put(replace(records.module(), status={"n": 0})))

    async def add() -> None:
        for _ in range(50):
            await store.write(lambda tx: tx.put(more(tx.get("Module", "analytics-core"))))

    await asyncio.gather(*(add() for _ in range(8)))
    record = await store.read(lambda reading: reading.get("Module", "analytics-core"))
    assert record is not None
    assert record.status == {"n": 400}


async def test_eight_tasks_with_compare_and_swap_lose_no_update(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put(replace(records.module(), status={"n": 0})))

    async def add() -> None:
        done = 0
        while done < 10:
            record = await store.read(lambda reading: reading.get("Module", "analytics-core"))
            try:
                await store.write(again(more(record)))
            except errors.Conflict:
                continue
            done += 1

    await asyncio.gather(*(add() for _ in range(8)))
    record = await store.read(lambda reading: reading.get("Module", "analytics-core"))
    assert record is not None
    assert record.status == {"n": 80}


async def test_two_processes_on_one_database_lose_no_update(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as two:
        assert one.id == two.id
        await one.write(lambda tx: tx.put(replace(records.module(), status={"n": 0})))

        async def add(store: stores.Store) -> None:
            for _ in range(25):
                await store.write(lambda tx: tx.put(more(tx.get("Module", "analytics-core"))))

        await asyncio.gather(add(one), add(two), add(one), add(two))
        record = await two.read(lambda reading: reading.get("Module", "analytics-core"))
        assert record is not None
        assert record.status == {"n": 100}
        assert record.revision == 101


async def test_revisions_have_no_gaps_and_are_in_commit_order(store: stores.Store) -> None:
    batches: list[Batch] = []
    store.listen(batches.append)

    async def work(number: int) -> None:
        record = await store.write(put(f"m-{number}"))
        for _ in range(5):
            record = await store.write(again(replace(record, status={"n": record.revision})))

    await asyncio.gather(*(work(number) for number in range(8)))
    logged = [change.revision for change in await store.read(lambda reading: reading.changes(0, limit=1000))]
    assert logged == list(range(1, 49))
    assert [change.revision for batch in batches for change in batch.changes] == logged
    assert [batch.revision for batch in batches] == sorted({batch.revision for batch in batches})


async def test_a_listener_that_fails_stops_nobody(store: stores.Store) -> None:
    heard: list[int] = []

    def broken(_: Batch) -> None:
        raise ValueError("broken listener")

    store.listen(broken)
    stop = store.listen(lambda batch: heard.append(batch.revision))
    await store.write(put("a"))
    stop()
    await store.write(put("b"))
    assert heard == [1]
    assert store.revision == 2


async def test_the_batch_tells_what_the_commit_brought(store: stores.Store) -> None:
    batches: list[Batch] = []
    store.listen(batches.append)

    def unit(tx: transactions.Transaction) -> None:
        record = tx.put(records.module())
        tx.transition(record, "DISCOVERED", "New", "", from_=None)
        tx.desire(key="module.a", kind="Module", name="a", uid="u", generation=1, payload="{}")

    await store.write(unit)
    await store.write(lambda tx: tx.mark_published([2]))
    (batch,) = batches
    assert [change.kind for change in batch.changes] == ["Module", "ModuleEvent"]
    assert [row.id for row in batch.outbox] == [2]
    assert [row.revision for row in batch.desired] == [3]
    assert batch.revision == 3


async def test_a_cancelled_caller_disturbs_nobody(store: stores.Store) -> None:
    gate, holding = await held(store)
    gone = asyncio.create_task(store.write(put("gone")))
    stays = asyncio.create_task(store.write(put("stays")))
    await FakeClock.settle()
    gone.cancel()
    gate.open.set()
    await asyncio.gather(holding, stays)
    assert gone.cancelled() or gone.cancelling()
    assert await names_in(store) == ["stays"]


async def test_a_closed_store_refuses_and_finishes_what_it_took(database_url: str) -> None:
    async with opened(database_url) as store:
        writing = asyncio.create_task(store.write(put("last")))
        await FakeClock.settle()
        await store.close()
        assert (await writing).name == "last"
        for call in (store.write(put("late")), store.read(lambda reading: reading.revision)):
            with pytest.raises(errors.StoreClosed):
                await call
        with pytest.raises(errors.StoreClosed):
            await anext(aiter(store.follow(after=0)))
        await store.close()
    async with opened(database_url) as again:
        assert await names_in(again) == ["last"]


async def test_a_database_that_somebody_holds_is_busy_not_broken(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("controlplane.store.engines.BUSY_SECONDS", 0)
    monkeypatch.setattr("controlplane.store.engines._PRAGMAS", ("journal_mode=WAL", "busy_timeout=20"))
    async with opened(sqlite_url(tmp_path)) as store:
        other = sqlite3.connect(tmp_path / "modplane.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.create_task(store.write(put(name))) for name in "abc"]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(outcome, errors.StoreBusy) and outcome.retryable for outcome in outcomes)
        other.execute("ROLLBACK")
        other.close()
        await store.write(put("a"))
        assert await names_in(store) == ["a"]


async def test_a_full_disk_refuses_and_resumes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("controlplane.store.engines._PRAGMAS", ("journal_mode=WAL", "max_page_count=80"))
    async with opened(sqlite_url(tmp_path)) as store:

        async def fill() -> None:
            for number in range(1000):
                await store.write(again(records.module(f"m-{number}", description="x" * 5000)))

        with pytest.raises(errors.StoreBusy, match="full"):
            await fill()
        names, revision = await names_in(store), store.revision
        assert len(names) == revision > 1
        await store.write(lambda tx: tx.ledger.connection.exec_driver_sql("PRAGMA max_page_count=100000") and None)
        await store.write(put("after"))
        assert await names_in(store) == ["after", *names]
        assert store.revision == revision + 1


async def test_a_claim_alone_moves_the_revision(store: stores.Store) -> None:
    record = await store.write(put("a"))
    await store.write(lambda tx: tx.take_claims(record, "v1", "a", [("GET", "/", "/")]))
    assert store.revision == await store.read(lambda reading: reading.revision) == 2


@pytest.mark.postgres
async def test_a_server_that_hung_up_is_called_again(postgres_server: Postgres) -> None:
    async with opened(postgres_server.migrated()) as store:
        await store.write(put("a"))
        hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        postgres_server.run(hang_up + " AND datname LIKE 'test_%'")
        await store.write(put("b"))
        assert await names_in(store) == ["a", "b"]

        def hung_up(tx: transactions.Transaction) -> None:
            tx.put(records.module("c"))
            postgres_server.run(hang_up + " AND datname LIKE 'test_%'")
            tx.count("Module")

        with pytest.raises(errors.StoreBusy, match="lost the database"):
            await store.write(hung_up)
        await store.write(put("d"))
        assert await names_in(store) == ["a", "b", "d"]


CRASHER = """
import asyncio, sys, uuid
from controlplane.store import stores
from schemas.kits.clocks import SystemClock
from tests.doubles import records

async def main():
    store = await stores.open_store(sys.argv[1], clock=SystemClock())
    async def work(worker):
        number = 0
        while True:
            name = f"m-{worker}-{number}"
            def unit(tx, name=name):
                record = tx.put(records.module(name))
                tx.transition(record, "DISCOVERED", "New", "", from_=None)
            await store.write(unit)
            print(name, flush=True)
            number += 1
    await asyncio.gather(*(work(worker) for worker in range(4)))

asyncio.run(main())
"""


async def test_a_killed_process_loses_no_acknowledged_write(database_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", CRASHER, database_url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline().strip() for _ in range(60)]
        child.send_signal(signal.SIGKILL)
        seen += child.stdout.read().split("\n")[:-1]
    async with opened(database_url) as store:
        stored = set(await names_in(store))
        assert set(filter(None, seen)) <= stored
        changes = await store.read(lambda reading: reading.changes(0, limit=100_000))
        assert [change.revision for change in changes] == list(range(1, store.revision + 1))
        pending = await store.read(lambda reading: reading.pending_outbox(100_000))
        assert len(pending) == len(stored)


def more(record: Record | None) -> Record:
    assert record is not None
    return replace(record, status={"n": record.status["n"] + 1})


async def names_in(store: stores.Store) -> list[str]:
    return [record.name for record in await store.read(lambda reading: reading.list("Module"))]
