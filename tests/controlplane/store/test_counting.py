"""Whatever is told, however often and in whatever order, each call is counted once."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from controlplane.store import keeping, stores
from controlplane.store.readings import Reading
from controlplane.store.tables import ACCESS_COUNTS, ACCESS_ROWS
from controlplane.store.transactions import Transaction
from schemas.measures import AccessMeasure, Measures
from tests.doubles import records
from tests.doubles.clock import FakeClock
from tests.doubles.databases import opened

LAST = datetime(2030, 1, 1, 12, tzinfo=UTC)


def told(boot: str, count: int, *, minutes: int = 0, organisation: str = "acme") -> Measures:
    last = LAST + timedelta(minutes=minutes)
    each = AccessMeasure(organisation=organisation, module="analytics-core", calls=count, last=last.timestamp())
    return Measures(worker="w0", boot=boot, sequence=1, at=last.timestamp(), accesses=[each])


def counted(reading: Reading) -> tuple[int, str | None]:
    ((count, last),) = reading.ask(select(ACCESS_ROWS.c.access_count, ACCESS_ROWS.c.last_accessed_at))
    return count, None if last is None else str(last)[:19]


async def count(store: stores.Store, *reports: Measures) -> int:
    return await store.write(lambda tx: sum(tx.count_accesses(report) for report in reports))


async def test_counts_are_added_once_and_the_newest_moment_stays(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put(records.access()))
    revision = store.revision
    assert await store.read(counted) == (0, None)
    assert await count(store, told("b1", 3, minutes=5)) == 3
    assert await count(store, told("b1", 3, minutes=5), told("b2", 4), told("b1", 2)) == 4
    assert await store.read(counted) == (7, "2030-01-01 12:05:00")
    assert await count(store, told("b1", 5, minutes=7)) == 2
    assert await store.read(counted) == (9, "2030-01-01 12:07:00")
    assert store.revision == revision
    assert await store.read(lambda reading: reading.row_edits(10)) == []


async def test_counters_outlive_a_change_of_their_access_and_one_that_is_gone_is_no_trouble(
    store: stores.Store,
) -> None:
    access = await store.write(lambda tx: tx.put(records.access()))
    await count(store, told("b1", 3), told("b1", 9, organisation="globex"))
    changed = await store.write(lambda tx: tx.put(records.changed(access, configuration={"a": 1})))
    assert (await store.read(counted))[0] == 3
    await store.write(lambda tx: tx.remove(changed))
    await count(store, told("b1", 5))
    await store.write(lambda tx: tx.put(records.access()))
    await count(store, told("b1", 6))
    assert (await store.read(counted))[0] == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["b1", "b2"]), st.integers(0, 9)), max_size=12), st.integers(1, 4))
async def test_the_sum_is_what_every_boot_has_counted(
    store: stores.Store, tellings: list[tuple[str, int]], size: int
) -> None:
    await store.write(clear)
    await store.write(lambda tx: tx.put(records.access()))
    for start in range(0, len(tellings), size):
        await count(store, *(told(boot, each) for boot, each in tellings[start : start + size]))
    most = {boot: max(each for other, each in tellings if other == boot) for boot, _ in tellings}
    assert (await store.read(counted))[0] == sum(most.values())


def clear(tx: Transaction) -> None:
    for record in tx.list("ModuleAccess"):
        tx.remove(record)
    tx.ledger.run(ACCESS_COUNTS, ACCESS_COUNTS.delete())


async def test_boots_are_forgotten_long_after_their_last_call(database_url: str) -> None:
    clock = FakeClock()
    async with opened(database_url, clock) as store:
        await count(store, told("b1", 1), told("b2", 1))
        keeper = keeping.Keeper(store, clock)
        await clock.advance(timedelta(days=89).total_seconds())
        await count(store, told("b2", 2))
        assert (await keeper.sweep())["counts"] == 0
        await clock.advance(timedelta(days=2).total_seconds())
        assert (await keeper.sweep())["counts"] == 1
