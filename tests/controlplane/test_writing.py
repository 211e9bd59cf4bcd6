"""The one write path: transactions, generations, sources, ownership of the digest."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane import errors, writing
from controlplane.store import executing
from controlplane.store.records import Record
from controlplane.store.transactions import Transaction
from schemas import names
from schemas.events import ModuleTransition
from schemas.meta import Json
from tests.doubles import apiparts
from tests.doubles.apiparts import Parts, digest, module, organisation


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with apiparts.running(tmp_path) as found:
        yield found


async def stored(parts: Parts, name: str = "orders", kind: str = "Module") -> Record | None:
    return await parts.store.read(lambda reading: reading.get(kind, name))


async def one(parts: Parts, document: Json, manager: str = "tester", **options: Any) -> writing.Outcome:
    (outcome,) = await parts.writer.apply([document], manager=manager, **options)
    return outcome


async def record(parts: Parts, document: Json, manager: str = "tester", **options: Any) -> Record:
    outcome = await one(parts, document, manager, **options)
    assert outcome.record is not None, outcome.error
    return outcome.record


async def transitions(parts: Parts) -> list[ModuleTransition]:
    events = await parts.store.read(lambda reading: reading.events_of("orders", 100))
    return [ModuleTransition.model_validate(event.spec) for event in events]


async def test_a_new_generation_is_discovered_with_its_event_in_one_commit(parts: Parts) -> None:
    commits = parts.store.commits
    first = await record(parts, module())
    assert parts.store.commits == commits + 1
    assert first.status["state"] == "DISCOVERED"
    (valid,) = first.status["conditions"]
    assert (valid["type"], valid["status"], valid["reason"], valid["observedGeneration"]) == (
        "Valid",
        "Unknown",
        "Pending",
        1,
    )
    (step,) = await transitions(parts)
    assert (step.from_, step.to, step.generation, step.sequence) == (None, "DISCOVERED", 1, 1)
    pending = await parts.store.read(lambda reading: reading.pending_outbox(10))
    assert [row.subject for row in pending] == ["modplane.events.module.orders.discovered"]


async def test_a_second_generation_resets_the_state_and_keeps_what_serves(parts: Parts) -> None:
    first = await record(parts, module())
    serving = {"generation": 1, "digest": "", "version": "0.0.0", "since": "2030-01-01T00:00:00Z"}
    status = {**first.status, "state": "ACTIVE", "serving": serving, "observedGeneration": 1}
    await parts.store.write(lambda tx: tx.put(replace(first, status=status)))
    second = await record(parts, module(version="1.0.0"))
    assert (second.generation, second.status["state"], second.status["serving"]) == (2, "DISCOVERED", serving)
    assert second.status["observedGeneration"] == 1
    assert [(step.from_, step.to) for step in await transitions(parts)][-1] == ("ACTIVE", "DISCOVERED")


async def test_history_knows_who_and_why(parts: Parts) -> None:
    found = await record(parts, module(), manager="alice", reason="first try")
    (entry,) = await parts.store.read(lambda reading: reading.history(found.uid))
    assert (entry.manager, entry.reason, entry.generation) == ("alice", "first try", 1)


async def test_kinds_without_a_life_get_no_event_and_no_finalizer(parts: Parts) -> None:
    found = await record(parts, organisation())
    assert (found.status, found.finalizers) == ({}, ())
    assert await parts.store.read(lambda reading: reading.count("ModuleEvent")) == 0


async def test_an_unchanged_apply_costs_no_write(parts: Parts) -> None:
    await one(parts, module())
    revision = parts.store.revision
    outcome = await one(parts, module())
    assert (outcome.verb, parts.store.revision) == ("unchanged", revision)


async def test_many_documents_are_one_commit_with_one_look_each(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = executing._run

    def counted(connection: Any, prepared: Any, values: Any, *, fetch: bool) -> Any:
        ran.append(len(values))
        return run(connection, prepared, values, fetch=fetch)

    monkeypatch.setattr(executing, "_run", counted)
    before = parts.store.commits
    outcomes = await parts.writer.apply([module(f"m{number}") for number in range(50)], manager="tester")
    assert {outcome.verb for outcome in outcomes} == {"created"}
    assert parts.store.commits == before + 1
    assert len(ran) <= 50 + 10
    assert parts.sources.asked == sorted(f"m{number}" for number in range(50))


async def test_the_digest_of_the_source_is_filled_in_by_discovery(parts: Parts) -> None:
    parts.sources.digests["orders"] = digest("a")
    found = await record(parts, module())
    assert found.spec["source"] == {"path": "orders", "digest": digest("a")}
    owners = {entry["manager"]: entry["fields"] for entry in found.managed_fields}
    assert owners[names.MANAGER_DISCOVERY] == ["spec.source.digest"]


async def test_new_code_is_a_new_generation_of_an_unchanged_manifest(parts: Parts) -> None:
    parts.sources.digests["orders"] = digest("a")
    await one(parts, module())
    parts.sources.digests["orders"] = digest("b")
    outcome = await one(parts, module())
    assert outcome.record is not None
    assert (outcome.verb, outcome.record.generation) == ("configured", 2)
    assert outcome.record.spec["source"]["digest"] == digest("b")


async def test_a_pinned_digest_stays_until_it_is_unpinned(parts: Parts) -> None:
    parts.sources.digests["orders"] = digest("b")
    pinned = await record(parts, module(source={"digest": digest("a")}))
    assert pinned.spec["source"]["digest"] == digest("a")
    by_discovery = await record(parts, module(), manager=names.MANAGER_DISCOVERY)
    assert by_discovery.spec["source"]["digest"] == digest("a")
    unpinned = await record(parts, module())
    assert unpinned.spec["source"]["digest"] == digest("b")


async def test_a_source_that_vanished_keeps_its_packed_code(parts: Parts) -> None:
    parts.sources.digests["orders"] = digest("a")
    await one(parts, module())
    parts.sources.digests.clear()
    assert (await one(parts, module())).verb == "unchanged"
    moved = await record(parts, module(source={"path": "elsewhere/orders"}))
    assert moved.spec["source"] == {"path": "elsewhere/orders"}


async def test_without_a_source_the_object_is_stored_without_digest(parts: Parts) -> None:
    assert (await record(parts, module())).spec["source"] == {"path": "orders"}


async def test_an_unnamed_source_path_follows_the_entry_point(parts: Parts) -> None:
    parts.sources.digests["shop"] = digest("c")
    await one(parts, module())
    found = await record(parts, module(entryPoint="shop:Orders"))
    assert found.spec["source"] == {"path": "shop", "digest": digest("c")}


async def test_a_patched_entry_point_takes_an_unnamed_source_path_along(parts: Parts) -> None:
    await one(parts, module())
    outcome = await parts.writer.merge_patch("Module", "orders", {"spec": {"entryPoint": "shop:Orders"}}, manager="me")
    assert outcome.record is not None
    assert outcome.record.spec["source"] == {"path": "shop"}
    await one(parts, module("named", entryPoint="named:X", source={"path": "a/named"}))
    with pytest.raises(errors.Invalid):
        await parts.writer.merge_patch("Module", "named", {"spec": {"entryPoint": "shop:Orders"}}, manager="me")


async def test_labels_alone_do_not_look_at_the_code(parts: Parts) -> None:
    await one(parts, module())
    parts.sources.asked.clear()
    await parts.writer.merge_patch("Module", "orders", {"metadata": {"labels": {"a": "b"}}}, manager="me")
    assert parts.sources.asked == []


async def test_a_patch_of_the_path_resolves_the_new_one(parts: Parts) -> None:
    parts.sources.digests |= {"orders": digest("a"), "shop/orders": digest("b")}
    await one(parts, module())
    patch = {"spec": {"source": {"path": "shop/orders", "digest": None}}}
    outcome = await parts.writer.merge_patch("Module", "orders", patch, manager="me")
    assert outcome.record is not None
    assert outcome.record.spec["source"] == {"path": "shop/orders", "digest": digest("b")}


async def test_discovery_yields_to_a_person_without_conflict(parts: Parts) -> None:
    await record(parts, module(version="1.0.0", type="analytics"), manager=names.MANAGER_DISCOVERY)
    person = await record(parts, module(version="2.0.0"), manager="alice")
    assert person.spec["version"] == "2.0.0"
    later = await record(parts, module(version="3.0.0", type="core"), manager=names.MANAGER_DISCOVERY)
    assert (later.spec["version"], later.spec["type"]) == ("2.0.0", "core")


async def test_two_managers_with_the_same_value_share_it(parts: Parts) -> None:
    await one(parts, module(version="1.0.0"), manager="a")
    await one(parts, module(version="1.0.0"), manager="b")
    outcome = await one(parts, module(version="2.0.0"), manager="b")
    assert isinstance(outcome.error, errors.OwnershipConflict)
    assert outcome.error.owners == {"spec.version": "a"}


async def test_what_a_manager_no_longer_sends_goes_back_to_its_default(parts: Parts) -> None:
    await one(parts, module(version="1.0.0", type="analytics"))
    found = await record(parts, module())
    assert (found.spec["version"], found.spec["type"]) == ("0.0.0", "core")


async def test_an_update_owns_what_it_changed(parts: Parts) -> None:
    await one(parts, module(version="1.0.0"), manager="alice")
    await parts.writer.merge_patch("Module", "orders", {"spec": {"version": "2.0.0"}}, manager="editor")
    outcome = await one(parts, module(version="1.0.0"), manager="alice")
    assert isinstance(outcome.error, errors.OwnershipConflict)
    assert outcome.error.owners == {"spec.version": "editor"}


async def test_a_creator_owns_what_it_gave_and_not_the_defaults(parts: Parts) -> None:
    await parts.writer.create(module(version="1.0.0"), manager="creator")
    assert (await one(parts, module(type="analytics"), manager="alice")).verb == "configured"
    outcome = await one(parts, module(version="2.0.0"), manager="alice")
    assert isinstance(outcome.error, errors.OwnershipConflict)


async def test_a_refused_item_holds_up_no_other(parts: Parts) -> None:
    outcomes = await parts.writer.apply(
        [module("a"), {"kind": "Nonsense"}, module("b", x=1), module("c")], manager="me"
    )
    assert [outcome.verb for outcome in outcomes] == ["created", "refused", "refused", "created"]
    assert await parts.store.read(lambda reading: reading.count("Module")) == 2


async def test_two_accesses_to_one_pair_are_refused_in_the_store_alone(parts: Parts) -> None:
    def access(name: str) -> Json:
        spec = {"organisation": "acme", "module": "orders"}
        return {"apiVersion": names.API_VERSION, "kind": "ModuleAccess", "metadata": {"name": name}, "spec": spec}

    outcomes = await parts.writer.apply([access("one"), access("two"), module()], manager="me")
    assert [outcome.verb for outcome in outcomes] == ["created", "refused", "created"]


async def test_apply_with_a_version_or_uid_is_a_precondition(parts: Parts) -> None:
    found = await record(parts, module())
    stale = module(version="1.0.0")
    stale["metadata"]["resourceVersion"] = "99"
    assert isinstance((await one(parts, stale)).error, errors.Conflict)
    other = module(version="1.0.0")
    other["metadata"]["uid"] = "another"
    assert isinstance((await one(parts, other)).error, errors.Conflict)
    right = module(version="1.0.0")
    right["metadata"] |= {"resourceVersion": str(found.revision), "uid": found.uid}
    assert (await one(parts, right)).verb == "configured"
    new = module("new")
    new["metadata"]["uid"] = "another"
    assert isinstance((await one(parts, new)).error, errors.Conflict)


@pytest.mark.parametrize("version", [7, "-1", "x", "9" * 30, "１"])
async def test_a_version_that_is_none_is_refused(parts: Parts, version: object) -> None:
    document = module()
    document["metadata"]["resourceVersion"] = version
    assert isinstance((await one(parts, document)).error, errors.Invalid)


async def test_delete_and_recreate_is_another_object(parts: Parts) -> None:
    first = await record(parts, module())
    await parts.writer.delete("Module", "orders")
    marked = await stored(parts)
    assert marked is not None
    assert marked.deleting
    waiting = await one(parts, module())
    assert isinstance(waiting.error, errors.Conflict)
    assert waiting.error.retryable

    def finish(tx: Transaction) -> None:
        tx.remove(marked)

    await parts.store.write(finish)
    second = await record(parts, module())
    assert (second.uid != first.uid, second.generation) == (True, 1)


async def test_our_finalizer_cannot_be_taken_by_a_caller(parts: Parts) -> None:
    await one(parts, module())
    changes: list[Json] = [{"finalizers": None}, {"finalizers": []}]
    for change in changes:
        outcome = await parts.writer.merge_patch("Module", "orders", {"metadata": change}, manager="me")
        assert outcome.record is not None
        assert outcome.record.finalizers == (names.FINALIZER,)


async def test_server_owned_metadata_never_comes_from_the_caller(parts: Parts) -> None:
    document = module()
    document["metadata"] |= {"generation": 9, "creationTimestamp": None, "deletionTimestamp": "2020-01-01T00:00:00Z"}
    document["status"] = {"state": "ACTIVE"}
    found = await record(parts, document)
    assert (found.generation, found.deleting, found.status["state"]) == (1, False, "DISCOVERED")


async def test_read_only_kinds_are_refused_by_every_action(parts: Parts) -> None:
    with pytest.raises(errors.Invalid):
        await parts.writer.delete("Worker", "w0")
    outcome = await one(parts, {"apiVersion": names.API_VERSION, "kind": "Worker", "metadata": {"name": "w0"}})
    assert isinstance(outcome.error, errors.Invalid)


async def test_a_dry_run_is_the_same_story_without_a_write(parts: Parts) -> None:
    await one(parts, module())
    revision = parts.store.revision
    documents = [module(version="1.0.0"), module("new"), module("bad", x=1)]
    foreseen = await parts.writer.apply(documents, manager="tester", dry_run=True)
    assert parts.store.revision == revision
    done = await parts.writer.apply(documents, manager="tester")
    assert [outcome.verb for outcome in foreseen] == [outcome.verb for outcome in done]
    assert foreseen[0].record is not None
    assert done[0].record is not None
    assert foreseen[0].record.spec == done[0].record.spec


async def test_sources_that_keep_moving_end_in_a_conflict(parts: Parts) -> None:
    await one(parts, module())
    counter = iter(range(100))

    def change(document: Json) -> Json:
        return {**document, "spec": {**document["spec"], "source": {"path": f"p{next(counter)}/orders"}}}

    with pytest.raises(errors.Conflict, match="kept changing"):
        await parts.writer.edit("Module", "orders", change, manager="me")


async def test_many_writers_of_one_object_lose_no_generation(parts: Parts) -> None:
    await one(parts, module())
    patches = [{"spec": {"config": {"n": number}}} for number in range(20)]
    await asyncio.gather(*(parts.writer.merge_patch("Module", "orders", patch, manager="me") for patch in patches))
    found = await stored(parts)
    assert found is not None
    assert found.generation == 21
    assert [step.sequence for step in await transitions(parts)] == list(range(1, 22))


async def test_a_writer_without_sources_stores_what_it_is_given(parts: Parts) -> None:
    writer = writing.Writer(parts.store, parts.clock)
    (outcome,) = await writer.apply([module()], manager="me")
    assert outcome.verb == "created"
