"""The desired set and its head."""

from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.store import readings, stores, transactions
from controlplane.store.records import DesiredHead, DesiredRow, Lease
from schemas import documents


def desire(tx: transactions.Transaction, key: str = "module.a", payload: str = "{}", generation: int = 1) -> DesiredRow:
    return tx.desire(key=key, kind="Module", name=key, uid="u", generation=generation, payload=payload)


def expected(rows: list[DesiredRow]) -> tuple[int, str]:
    living = [(row.key, row.revision, row.digest) for row in rows if not row.deleted]
    return len(living), documents.set_hash(living)


def proven(reading: readings.Reading) -> DesiredHead:
    head = reading.head()
    assert (head.count, head.hash) == expected(reading.desired())
    return head


async def test_a_row_takes_the_epoch_of_the_lease_and_moves_the_head(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put_lease(Lease("a", 7, 0)))
    row = await store.write(lambda tx: desire(tx, payload='{"v":1}'))
    assert (row.epoch, row.revision, row.digest) == (7, 1, documents.payload_digest('{"v":1}'))
    assert await store.read(lambda reading: reading.desired_row("module.a")) == row
    head = await store.read(proven)
    assert (head.epoch, head.revision, head.count) == (7, 1, 1)


async def test_the_same_content_again_writes_nothing(store: stores.Store) -> None:
    first = await store.write(desire)
    assert await store.write(desire) == first
    assert store.revision == first.revision
    newer = await store.write(lambda tx: desire(tx, generation=2))
    assert newer.revision > first.revision


async def test_a_tombstone_leaves_the_proof_and_stays_until_it_is_forgotten(store: stores.Store) -> None:
    await store.write(desire)
    await store.write(lambda tx: desire(tx, "module.b"))
    gone = await store.write(lambda tx: tx.withdraw("module.a"))
    assert gone is not None
    assert gone.deleted
    assert gone.payload == ""
    head = await store.read(proven)
    assert (head.revision, head.count) == (gone.revision, 1)
    assert await store.write(lambda tx: tx.withdraw("module.a")) == gone
    assert await store.write(lambda tx: tx.withdraw("module.never")) is None
    await store.write(lambda tx: tx.forget_desired(["module.a", "module.b"]))
    assert [row.key for row in await store.read(lambda reading: reading.desired())] == ["module.b"]
    assert await store.read(proven) == head


async def test_a_key_comes_back_after_its_tombstone(store: stores.Store) -> None:
    await store.write(desire)
    gone = await store.write(lambda tx: tx.withdraw("module.a"))
    again = await store.write(desire)
    assert gone is not None
    assert again.revision > gone.revision
    assert (await store.read(proven)).count == 1


async def test_everything_is_rewritten_under_a_new_epoch(store: stores.Store) -> None:
    await store.write(lambda tx: [desire(tx, "module.b"), desire(tx, "module.a"), tx.withdraw("module.a")])
    before = store.revision
    await store.write(lambda tx: tx.put_lease(Lease("b", 5, 0)))
    rows = await store.write(lambda tx: tx.rewrite_desired())
    assert [(row.key, row.epoch, row.deleted) for row in rows] == [("module.b", 5, False), ("module.a", 5, True)]
    assert all(row.revision > before for row in rows)
    head = await store.read(proven)
    assert (head.epoch, head.revision, head.count) == (5, store.revision, 1)


async def test_an_empty_set_is_rewritten_as_a_new_head(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put_lease(Lease("b", 5, 0)))
    assert await store.write(lambda tx: tx.rewrite_desired()) == []
    head = await store.read(proven)
    assert (head.epoch, head.revision, head.count) == (5, 1, 0)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), max_size=20)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, together=st.booleans())
async def test_the_head_proves_the_set_after_any_history(
    store: stores.Store, steps: list[tuple[str, str | None]], together: bool
) -> None:
    def step(tx: transactions.Transaction, key: str, payload: str | None) -> DesiredRow | None:
        return tx.withdraw(key) if payload is None else desire(tx, key, payload)

    if together:
        await store.write(lambda tx: [step(tx, *one) for one in steps])
    else:
        for key, payload in steps:
            await store.write(partial(step, key=key, payload=payload))
    await store.read(proven)
