"""Objects, revisions, history and events of one transaction."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from controlplane import errors
from controlplane.store import executing, stores, transactions
from controlplane.store.records import Lease, Record
from schemas import events
from tests.doubles import records


async def put(store: stores.Store, record: Record, **how: Any) -> Record:
    return await store.write(lambda tx: tx.put(record, **how))


async def test_a_new_object_is_read_back_as_it_was_put(store: stores.Store) -> None:
    record = replace(
        records.module(description="naïve \u2028 \x00 \ud83d"),
        labels={"team": "insights"},
        annotations={"a": "b"},
        finalizers=("modplane.dev/routes",),
        managed_fields=[{"manager": "modplane", "fields": ["spec.version"]}],
        status={"state": "DISCOVERED"},
    )
    stored = await put(store, record)
    assert stored == replace(record, revision=1)
    assert await store.read(lambda reading: reading.get("Module", "analytics-core")) == stored
    assert await store.read(lambda reading: reading.get("Module", "nobody")) is None
    assert store.revision == 1


async def test_a_taken_name_is_refused(store: stores.Store) -> None:
    await put(store, records.module())
    with pytest.raises(errors.AlreadyExists, match="exists already"):
        await put(store, records.module())
    assert store.revision == 1


async def test_a_put_over_an_older_revision_is_a_conflict(store: stores.Store) -> None:
    first = await put(store, records.module())
    second = await put(store, records.changed(first, version="2.0.0"))
    assert second.revision == 2
    with pytest.raises(errors.Conflict, match="revision 2, not 1") as caught:
        await put(store, records.changed(first, version="3.0.0"))
    assert caught.value.retryable
    with pytest.raises(errors.Conflict, match="deleted meanwhile"):
        await put(store, replace(second, name="other"))


async def test_an_edit_between_read_and_status_write_survives(store: stores.Store) -> None:
    seen = await put(store, records.module())
    edited = await put(store, records.changed(seen, version="2.0.0"))
    with pytest.raises(errors.Conflict):
        await put(store, replace(seen, status={"observedGeneration": 1}))
    assert await store.read(lambda reading: reading.get("Module", seen.name)) == edited


async def test_a_recreated_name_is_another_object(store: stores.Store) -> None:
    old = await put(store, records.module())
    await store.write(lambda tx: tx.remove(old))
    new = await put(store, replace(records.module(), uid="another"))
    for stale in (replace(old, status={"state": "ACTIVE"}), replace(old, revision=new.revision, status={"a": 1})):
        with pytest.raises(errors.Conflict):
            await put(store, stale)
    with pytest.raises(errors.Conflict, match="made anew"):
        await store.write(lambda tx: tx.remove(replace(old, revision=new.revision)))
    assert await store.read(lambda reading: reading.get("Module", new.name)) == new


async def test_delete_and_recreate_fit_into_one_unit(store: stores.Store) -> None:
    old = await put(store, records.module())
    new = records.module(description="newcomer")

    def unit(tx: transactions.Transaction) -> Record:
        tx.remove(old)
        assert tx.get("Module", old.name) is None
        first = tx.put(new)
        return tx.put(replace(first, labels={"a": "b"}))

    stored = await store.write(unit)
    assert await store.read(lambda reading: reading.get("Module", old.name)) == stored
    assert [change.type for change in await store.read(lambda reading: reading.changes(1))] == [
        "DELETED",
        "ADDED",
        "MODIFIED",
    ]


async def test_a_converged_object_costs_no_revision(store: stores.Store) -> None:
    stored = await put(store, records.module())
    assert await put(store, stored) == stored
    assert await put(store, replace(stored, spec=dict(stored.spec))) == stored
    assert store.revision == 1
    assert len(await store.read(lambda reading: reading.changes(0))) == 1


async def test_removing_takes_claims_and_history_along(store: stores.Store) -> None:
    def make(tx: transactions.Transaction) -> Record:
        record = tx.put(records.module())
        assert tx.take_claims(record, "v1", "analytics-core", [("GET", "/a", "/a")]) == []
        return record

    record = await store.write(make)
    gone = await store.write(lambda tx: tx.remove(record))
    assert gone.revision > record.revision

    def left(reading: Any) -> tuple[Any, ...]:
        return reading.get("Module", record.name), reading.claims(), reading.history(record.uid)

    assert await store.read(left) == (None, [], [])
    last = (await store.read(lambda reading: reading.changes(record.revision)))[-1]
    assert (last.type, last.revision) == ("DELETED", gone.revision)
    assert last.document["metadata"]["resourceVersion"] == str(gone.revision)


async def test_history_keeps_ten_generations_with_who_and_why(store: stores.Store) -> None:
    record = await put(store, records.module(version="1.0.0"), manager="modplane", reason="first")
    for number in range(2, 14):
        record = await put(store, records.changed(record, version=f"{number}.0.0"), manager="ann", reason=f"n{number}")
    await put(store, replace(record, labels={"not": "a generation"}))
    history = await store.read(lambda reading: reading.history(record.uid))
    assert [entry.generation for entry in history] == list(range(4, 14))
    assert (history[-1].manager, history[-1].reason, history[-1].spec["version"]) == ("ann", "n13", "13.0.0")


async def test_a_transition_is_an_object_an_event_and_a_sequence(store: stores.Store) -> None:
    def make(tx: transactions.Transaction) -> events.ModuleTransition:
        record = tx.put(records.module())
        tx.transition(record, "DISCOVERED", "New", "stored", from_=None)
        record = tx.put(replace(record, status={"state": "VALIDATED"}))
        return tx.transition(record, "VALIDATED", "Accepted", "fine", from_="DISCOVERED")

    step = await store.write(make)
    assert (step.sequence, step.from_, step.to, step.revision) == (2, "DISCOVERED", "VALIDATED", 3)

    later = await store.write(
        lambda tx: tx.transition(get(tx), "ACTIVE", "Programmed", "on 2 workers", from_="VALIDATED")
    )
    assert later.sequence == 3

    listed = await store.read(lambda reading: reading.events_of("analytics-core", 2))
    assert [event.name for event in listed] == [f"{step.uid}-2", f"{step.uid}-3"]
    assert events.ModuleTransition.model_validate(listed[0].spec) == step
    pending = await store.read(lambda reading: reading.pending_outbox(10))
    assert [row.event_id for row in pending] == [f"{step.uid}-{number}" for number in (1, 2, 3)]
    assert {row.order_key for row in pending} == {"analytics-core"}
    assert pending[2].subject == "modplane.events.module.analytics-core.active"
    assert events.CloudEvent.model_validate_json(pending[1].body).data["to"] == "VALIDATED"


async def test_a_transition_of_a_deleted_object_is_a_conflict(store: stores.Store) -> None:
    record = await put(store, records.module())
    await store.write(lambda tx: tx.remove(record))
    with pytest.raises(errors.Conflict, match="is gone"):
        await store.write(lambda tx: tx.transition(record, "ACTIVE", "x", "y", from_=None))


async def test_published_events_are_not_pending_any_more(store: stores.Store) -> None:
    at = records.BORN
    for number in range(3):
        event = events.worker_event(f"e{number}", "w0", "joined", at, {})
        await store.write(partial(transactions.Transaction.announce, event=event))
    revision = store.revision
    pending = await store.read(lambda reading: reading.pending_outbox(2))
    assert [row.event_id for row in pending] == ["e0", "e1"]
    assert pending[0].subject == "modplane.events.worker.w0.joined"
    await store.write(lambda tx: tx.mark_published([row.id for row in pending]))
    assert [row.event_id for row in await store.read(lambda reading: reading.pending_outbox(10))] == ["e2"]
    assert store.revision == revision


async def test_lists_come_in_name_order_page_by_page(store: stores.Store) -> None:
    def make(tx: transactions.Transaction) -> None:
        for name in ("b-2", "a", "b-10", "ba", "b"):
            tx.put(records.module(name))

    await store.write(make)
    everything = ["a", "b", "b-10", "b-2", "ba"]
    listed = await store.read(lambda reading: reading.list("Module"))
    assert [record.name for record in listed] == everything
    page = await store.read(lambda reading: reading.list("Module", after_name="b", limit=2))
    assert [record.name for record in page] == ["b-10", "b-2"]
    named = await store.read(lambda reading: reading.list("Module", names=["ba", "nobody", "a"]))
    assert [record.name for record in named] == ["a", "ba"]
    assert await store.read(lambda reading: (reading.count("Module"), reading.count("Worker"))) == (5, 0)


async def test_a_unit_reads_its_own_writes(store: stores.Store) -> None:
    def unit(tx: transactions.Transaction) -> None:
        record = tx.put(records.module())
        tx.transition(record, "DISCOVERED", "New", "", from_=None)
        assert tx.get("Module", record.name) == record
        assert [entry.name for entry in tx.list("Module")] == [record.name]
        assert tx.count("ModuleEvent") == 1
        assert [change.revision for change in tx.changes(0)] == [1, 2]
        assert tx.revision == 2
        assert len(tx.pending_outbox(5)) == 1
        assert tx.head().count == 0

    await store.write(unit)


async def test_an_inspection_is_kept_and_replaced(store: stores.Store) -> None:
    assert await store.read(lambda reading: reading.inspection("k")) is None
    for report in ({"ok": False}, {"ok": True}):
        await store.write(partial(transactions.Transaction.put_inspection, key="k", report=report))
    assert await store.read(lambda reading: reading.inspection("k")) == {"ok": True}
    assert store.revision == 0


async def test_a_lease_takes_no_revision(store: stores.Store) -> None:
    assert await store.read(lambda reading: reading.lease()) is None
    for lease in (Lease("a", 1, 0), Lease("b", 2, 7, released=True)):
        await store.write(partial(transactions.Transaction.put_lease, lease=lease))
        assert await store.read(lambda reading: reading.lease()) == lease
    assert await store.read(lambda reading: reading.lease("another")) is None
    assert store.revision == 0


async def test_a_write_under_an_old_epoch_hits_no_row(store: stores.Store) -> None:
    with pytest.raises(errors.Fenced):
        await store.write(lambda tx: tx.put(records.module()), epoch=1)
    await store.write(lambda tx: tx.put_lease(Lease("a", 1, 0)))
    await store.write(lambda tx: tx.put(records.module("one")), epoch=1)
    await store.write(lambda tx: tx.put_lease(Lease("b", 2, 0)))
    with pytest.raises(errors.Fenced, match="epoch 1, but the lease stands at 2") as caught:
        await store.write(lambda tx: tx.put(records.module("two")), epoch=1)
    assert (caught.value.epoch, caught.value.current) == (1, 2)
    assert await store.read(lambda reading: reading.count("Module")) == 1


async def test_a_transaction_is_dead_after_its_unit(store: stores.Store) -> None:
    leaked: list[Any] = []
    await store.write(leaked.append)
    await store.read(leaked.append)
    for thing in leaked:
        with pytest.raises(errors.StoreError, match="is over"):
            thing.count("Module")
    with pytest.raises(errors.StoreError, match="is over"):
        leaked[0].put(records.module())


async def test_a_thousand_puts_are_one_commit_with_one_question_each(
    store: stores.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = executing._run

    def counted(connection: Any, prepared: Any, values: Any, *, fetch: bool) -> Any:
        ran.append(len(values))
        return run(connection, prepared, values, fetch=fetch)

    def make(tx: transactions.Transaction) -> None:
        for number in range(1000):
            tx.put(records.module(f"m-{number}"))

    commits = store.commits
    monkeypatch.setattr(executing, "_run", counted)
    await store.write(make)
    monkeypatch.undo()
    assert len(ran) <= 1000 + 10
    assert store.commits == commits + 1
    assert await store.read(lambda reading: reading.count("Module")) == 1000


def get(tx: transactions.Transaction) -> Record:
    record = tx.get("Module", "analytics-core")
    assert record is not None
    return record


async def test_an_object_put_twice_in_one_transaction_stands_as_it_was_put_last(store: stores.Store) -> None:
    def unit(tx: transactions.Transaction) -> Record:
        first = tx.put(records.module())
        tx.transition(first, "DISCOVERED", "Created", "new", from_=None)
        second = tx.put(records.changed(first, version="2.0.0"))
        assert tx.list("Module") == [second]
        third = tx.put(replace(second, status={"state": "VALIDATED"}))
        tx.transition(third, "VALIDATED", "Inspected", "good", from_="DISCOVERED")
        return tx.put(replace(third, status={"state": "REGISTERED"}))

    last = await store.write(unit)
    assert await store.read(lambda reading: reading.get("Module", last.name)) == last
    changes = await store.read(lambda reading: reading.changes(0, ["Module"]))
    assert [change.document.get("status", {}).get("state") for change in changes] == [
        None, None, "VALIDATED", "REGISTERED",
    ]  # fmt: skip
    told = await store.read(lambda reading: reading.events_of(last.name, 9))
    assert [event.spec["sequence"] for event in told] == [1, 2]
    generations = await store.read(lambda reading: [entry.generation for entry in reading.history(last.uid)])
    assert generations == [1, 2]
