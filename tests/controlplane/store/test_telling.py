"""What workers are told of flags, organisations, accesses and revocations, with the object and not a moment later."""

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import errors
from controlplane.store import keeping, stores, telling
from controlplane.store.readings import Reading
from controlplane.store.records import Lease, Record
from controlplane.store.transactions import Transaction
from schemas import documents
from schemas.meta import Json, now_text
from tests.doubles import records
from tests.doubles.clock import FakeClock
from tests.doubles.databases import opened


async def told(store: stores.Store, key: str) -> Json | None:
    row = await store.read(lambda reading: reading.desired_row(key))
    return None if row is None or row.deleted else json.loads(row.payload)


async def put(store: stores.Store, *wanted: Record) -> list[Record]:
    return await store.write(lambda tx: [tx.put(record) for record in wanted])


async def test_a_flag_is_told_with_what_decides_it_and_no_more(store: stores.Store) -> None:
    await store.write(lambda tx: tx.put_lease(Lease("a", 7, 0)))
    flag = records.of("FeatureFlag", "beta", state="ENABLED", killSwitch=False, owner="us", description="long")
    await put(store, flag)
    row = await store.read(lambda reading: reading.desired_row("flag.beta"))
    assert row is not None
    assert (row.kind, row.name, row.uid, row.generation, row.epoch) == ("FeatureFlag", "beta", flag.uid, 1, 7)
    assert json.loads(row.payload) == {"state": "ENABLED", "killSwitch": False}


async def test_a_flag_that_goes_is_withdrawn(store: stores.Store) -> None:
    (flag,) = await put(store, records.of("FeatureFlag", "beta", state="ENABLED"))
    await store.write(lambda tx: tx.remove(flag))
    row = await store.read(lambda reading: reading.desired_row("flag.beta"))
    assert row is not None
    assert row.deleted


async def test_a_revocation_is_told_without_its_reason(store: stores.Store) -> None:
    await put(store, records.of("Revocation", "r", issuer="i", subject="s", reason="stolen laptop"))
    assert await told(store, "revocation.r") == {"issuer": "i", "subject": "s"}


async def test_an_organisation_is_told_with_all_of_its_accesses_once_a_unit(store: stores.Store) -> None:
    await put(
        store,
        records.of("Organisation", "acme", enabled=True, displayName="Acme"),
        records.access(configuration={"limit": 3}, usersDenied=["eve"]),
        records.access(module="pricing", enabled=False),
        records.access("globex"),
    )
    assert await told(store, "organisation.acme") == {
        "enabled": True,
        "accesses": {
            "analytics-core": {"enabled": True, "configuration": {"limit": 3}, "usersDenied": ["eve"]},
            "pricing": {"enabled": False, "configuration": {}},
        },
    }
    globex = await told(store, "organisation.globex")
    assert globex is not None
    assert globex["enabled"] is False
    rows = await store.read(lambda reading: reading.desired())
    assert len(rows) == 2


async def test_an_access_that_moves_or_goes_leaves_both_documents_right(store: stores.Store) -> None:
    organisations = [records.of("Organisation", name, enabled=True) for name in ("acme", "globex")]
    *_, access = await put(store, *organisations, records.access())
    (moved,) = await put(store, records.changed(access, organisation="globex"))
    assert await told(store, "organisation.acme") == {"enabled": True, "accesses": {}}
    assert list((await told(store, "organisation.globex") or {})["accesses"]) == ["analytics-core"]
    (leaving,) = await put(store, replace(moved, deleted_at=records.BORN, finalizers=("a/b",)))
    assert (await told(store, "organisation.globex") or {})["accesses"]["analytics-core"]["enabled"] is False
    await store.write(lambda tx: tx.remove(leaving))
    assert await told(store, "organisation.globex") == {"enabled": True, "accesses": {}}


async def test_an_organisation_that_goes_shuts_its_accesses_and_is_withdrawn_with_the_last(store: stores.Store) -> None:
    organisation, access = await put(store, records.of("Organisation", "acme", enabled=True), records.access())
    await store.write(lambda tx: tx.remove(organisation))
    assert (await told(store, "organisation.acme") or {})["enabled"] is False
    await store.write(lambda tx: tx.remove(access))
    assert await told(store, "organisation.acme") is None


async def test_more_than_a_message_holds_is_refused_and_the_rest_of_the_unit_stored(store: stores.Store) -> None:
    half = {"text": "x" * (telling.MAX_BYTES // 2)}

    def unit(tx: Transaction) -> str:
        tx.put(records.access(module="a", configuration=half))
        with pytest.raises(errors.Invalid) as caught:
            tx.put(records.access(module="b", configuration=half))
        tx.put(records.access(module="c"))
        return caught.value.message

    assert "make the configurations smaller" in await store.write(unit)
    assert list((await told(store, "organisation.acme") or {})["accesses"]) == ["a", "c"]
    assert await store.read(lambda reading: reading.get("ModuleAccess", "acme--b")) is None


NAMES = st.sampled_from(["acme", "globex"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["access", "move", "drop", "organisation", "leave"]), NAMES, st.sampled_from("mn")),
    max_size=12,
)


def step(tx: Transaction, what: str, organisation: str, module: str) -> None:
    name = f"x-{module}"
    access, tenant = tx.get("ModuleAccess", name), tx.get("Organisation", organisation)
    if what == "organisation":
        tx.put(replace(tenant or records.of("Organisation", organisation), spec={"enabled": True}))
    elif what == "leave" and tenant is not None:
        tx.remove(tenant)
    elif what == "drop" and access is not None:
        tx.remove(access)
    elif what == "access" and access is None:
        tx.put(records.access(organisation, module, name=name))
    elif what == "move" and access is not None:
        tx.put(replace(access, spec={**access.spec, "organisation": organisation}))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(1, 4))
async def test_whatever_happens_the_documents_say_what_the_objects_say(
    store: stores.Store, steps: list[tuple[str, str, str]], size: int
) -> None:
    await store.write(clear)
    for start in range(0, len(steps), size):
        part = steps[start : start + size]
        await store.write(partial(walk, steps=part))
    assert await store.read(telling.untold) == []
    head, rows = await store.read(lambda reading: (reading.head(), reading.desired()))
    assert head.hash == documents.set_hash((row.key, row.revision, row.digest) for row in rows if not row.deleted)
    tenants = await store.read(lambda reading: {each.spec["organisation"] for each in reading.list("ModuleAccess")})
    tenants |= await store.read(lambda reading: {each.name for each in reading.list("Organisation")})
    assert {row.name for row in rows if not row.deleted} == tenants


def walk(tx: Transaction, steps: list[tuple[str, str, str]]) -> None:
    for each in steps:
        step(tx, *each)


def clear(tx: Transaction) -> None:
    for kind in ("ModuleAccess", "Organisation"):
        for record in tx.list(kind):
            tx.remove(record)


async def test_a_store_from_before_is_told_at_the_next_sweep(store: stores.Store) -> None:
    await put(
        store,
        records.of("FeatureFlag", "beta", state="ENABLED"),
        records.of("Organisation", "acme", enabled=True),
        records.access(),
        records.access("globex"),
        records.of("Revocation", "r", issuer="i", subject="s"),
    )

    def older(tx: Transaction) -> None:
        for row in tx.desired():
            tx.withdraw(row.key)
        tx.forget_desired([row.key for row in tx.desired()])

    await store.write(older)
    swept = await keeping.Keeper(store, FakeClock()).sweep()
    assert swept["untold"] == 4
    assert await store.read(telling.untold) == []
    assert not any((await keeping.Keeper(store, FakeClock()).sweep()).values())


async def test_a_revocation_that_has_run_out_goes_by_itself(database_url: str) -> None:
    clock = FakeClock()
    async with opened(database_url, clock) as store:
        expires = now_text(clock.now() + timedelta(minutes=5))
        await put(
            store,
            records.of("Revocation", "short", issuer="i", subject="s", expires=expires),
            records.of("Revocation", "long", issuer="i", subject="s"),
        )
        keeper = keeping.Keeper(store, clock)
        assert (await keeper.sweep())["revocations"] == 0
        await clock.advance(300)
        assert (await keeper.sweep())["revocations"] == 1

        def left(reading: Reading) -> list[str]:
            return [record.name for record in reading.list("Revocation")]

        assert await store.read(left) == ["long"]
        assert await told(store, "revocation.short") is None
