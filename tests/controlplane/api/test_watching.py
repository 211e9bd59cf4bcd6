"""Watch over a real server and a real store: no gap, no repeat, and it always ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from controlplane.store import following, keeping
from tests.doubles.apiparts import MODULES, Parts, module, organisation
from tests.doubles.apiserver import Served, serving
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

MERGE = {"content-type": "application/merge-patch+json"}
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@pytest.fixture
async def served(parts: Parts) -> AsyncIterator[Served]:
    async with serving(parts.api) as found:
        yield found


async def label(parts: Parts, name: str, value: str | None) -> None:
    patch = {"metadata": {"labels": {"team": value}}}
    answer = await parts.client.patch(f"{MODULES}/{name}", json=patch, headers=MERGE)
    assert answer.status_code == 200


async def test_without_a_version_the_present_comes_first(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    async with served.watch(MODULES) as watcher:
        assert await watcher.take(1) == [("ADDED", "one")]
        await parts.apply(module("two"))
        await parts.apply(module("one", version="2.0.0"))
        await parts.client.delete(f"{MODULES}/two")
        assert await watcher.take(3) == [("ADDED", "two"), ("MODIFIED", "one"), ("MODIFIED", "two")]


async def test_version_zero_means_the_present_too(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    async with served.watch(MODULES, resourceVersion="0") as watcher:
        assert await watcher.take(1) == [("ADDED", "one")]


async def test_from_a_list_on_nothing_is_missed_and_nothing_comes_twice(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    listed = (await parts.client.get(MODULES)).json()
    await parts.apply(module("two"))
    async with served.watch(MODULES, resourceVersion=listed["metadata"]["resourceVersion"]) as watcher:
        await parts.apply(organisation())
        await parts.apply(module("three"))
        events = [await watcher.next() for _ in range(2)]
    assert [event["object"]["metadata"]["name"] for event in events] == ["two", "three"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)


async def test_many_writers_are_seen_in_commit_order(parts: Parts, served: Served) -> None:
    async with served.watch(MODULES, resourceVersion=str(parts.store.revision) or "0") as watcher:
        await asyncio.gather(*(parts.apply(module(f"m{number}")) for number in range(30)))
        events = [await watcher.next() for _ in range(30)]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert {event["type"] for event in events} == {"ADDED"}


async def test_a_selected_object_enters_and_leaves(parts: Parts, served: Served) -> None:
    await parts.apply(module("mine", labels={"team": "a"}))
    await parts.apply(module("other", labels={"team": "b"}))
    async with served.watch(MODULES, labelSelector="team=a") as watcher:
        assert await watcher.take(1) == [("ADDED", "mine")]
        await label(parts, "other", "a")
        await label(parts, "mine", "b")
        await label(parts, "mine", "c")
        await parts.apply(module("mine2", labels={"team": "a"}))
        assert await watcher.take(3) == [("ADDED", "other"), ("DELETED", "mine"), ("ADDED", "mine2")]


async def test_an_object_that_left_a_selector_before_the_watch_opened_is_deleted(parts: Parts, served: Served) -> None:
    await parts.apply(module("mine", labels={"team": "a"}))
    version = (await parts.client.get(MODULES)).json()["metadata"]["resourceVersion"]
    await label(parts, "mine", "b")
    async with served.watch(MODULES, labelSelector="team=a", resourceVersion=version) as watcher:
        assert await watcher.take(1) == [("DELETED", "mine")]


async def test_one_name_is_watched_to_its_end(parts: Parts, served: Served) -> None:
    path = "/apis/modplane.dev/v1/organisations"
    await parts.apply(organisation("acme"))
    async with served.watch(path, fieldSelector="metadata.name=acme") as watcher:
        assert await watcher.take(1) == [("ADDED", "acme")]
        await parts.apply(organisation("other"))
        await parts.client.delete(f"{path}/acme")
        assert await watcher.take(1) == [("DELETED", "acme")]


async def test_the_end_of_the_initial_state_is_marked(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    async with served.watch(MODULES, sendInitialEvents="true", resourceVersionMatch="NotOlderThan") as watcher:
        assert (await watcher.next())["type"] == "ADDED"
        mark = await watcher.next()
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == str(parts.store.revision)


async def test_bookmarks_tell_how_far_everything_was_sent(parts: Parts, served: Served) -> None:
    clock = parts.clock
    assert isinstance(clock, FakeClock)
    async with served.watch(MODULES, allowWatchBookmarks="true") as watcher:
        await until(lambda: clock.sleepers >= 2)
        await parts.apply(organisation())
        (stored,) = await parts.store.read(lambda reading: reading.list("Organisation"))

        async def told() -> bool:
            await clock.advance(10)
            event = await watcher.next()
            assert event["type"] == "BOOKMARK"
            return bool(event["object"]["metadata"]["resourceVersion"] == str(stored.revision))

        check: Callable[[], Awaitable[bool]] = told
        await until(check, what="a bookmark at the organisation's revision")


async def test_a_watch_without_bookmarks_stays_quiet_and_times_out(parts: Parts, served: Served) -> None:
    clock = parts.clock
    assert isinstance(clock, FakeClock)
    async with served.watch(MODULES, timeoutSeconds="25") as watcher:
        await until(lambda: clock.sleepers >= 2)
        await clock.advance(30)
        assert await watcher.ended() == []


async def test_a_revision_that_the_log_lost_is_expired(parts: Parts, served: Served) -> None:
    for number in range(6):
        await parts.apply(module("one", version=f"1.0.{number}"))
    await keeping.Keeper(parts.store, parts.clock, kept=keeping.Retention(change_rows=2)).sweep()
    async with served.watch(MODULES, resourceVersion="1") as watcher:
        (event,) = await watcher.ended()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_revision_of_the_future_is_expired(parts: Parts, served: Served) -> None:
    async with served.watch(MODULES, resourceVersion="999999") as watcher:
        (event,) = await watcher.ended()
    assert event["object"]["reason"] == "Expired"


async def test_a_table_watch_has_columns_once_and_one_row_each(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    await parts.apply(module("two"))
    async with served.watch(MODULES, headers=TABLE) as watcher:
        first, second = await watcher.next(), await watcher.next()
    assert [column["name"] for column in first["object"]["columnDefinitions"]][:2] == ["Name", "State"]
    assert second["object"]["columnDefinitions"] == []
    assert [row["cells"][0] for row in second["object"]["rows"]] == ["two"]


async def test_a_client_that_goes_is_noticed_at_once(parts: Parts, served: Served) -> None:
    async with served.watch(MODULES):
        await until(lambda: parts.api.watches.open_count == 1)
    await until(lambda: parts.api.watches.open_count == 0)


async def test_shutdown_ends_every_watch_promptly(parts: Parts) -> None:
    async with serving(parts.api) as served, served.watch(MODULES) as watcher, served.watch(MODULES) as other:
        await until(lambda: parts.api.watches.open_count == 2)
        parts.api.close()
        served.server.should_exit = True
        assert await watcher.ended() == await other.ended() == []
        await asyncio.wait_for(served.task, 30)


async def test_a_watch_that_opens_during_shutdown_ends_at_once(parts: Parts, served: Served) -> None:
    await parts.apply(module("one"))
    parts.api.close()
    async with served.watch(MODULES) as watcher:
        assert len(await watcher.ended()) <= 1


async def test_a_watch_ends_with_its_store(parts: Parts, served: Served) -> None:
    async with served.watch(MODULES) as watcher:
        await until(lambda: parts.api.watches.open_count == 1)
        await parts.store.close()
        assert await watcher.ended() == []


async def test_a_reader_that_falls_behind_misses_nothing(
    parts: Parts, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "CAPACITY", 20)
    async with served.watch(MODULES) as watcher:
        await until(lambda: parts.api.watches.open_count == 1)
        for round_ in range(3):
            items = [module(f"m{number:03}", version=f"{round_}.0.0") for number in range(100)]
            await parts.writer.apply(items, manager="tester")
        events = [await watcher.next() for _ in range(300)]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
