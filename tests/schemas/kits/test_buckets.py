"""Following and writing buckets, against a real server that loses, restarts and forgets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import NotFoundError

from schemas.kits import buckets
from schemas.kits.natslink import NatsLink, Session
from tests.doubles.nats import RunningNats, running_nats

BUCKET = "TEST"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningNats]:
    async with running_nats(tmp_path) as nats:
        yield nats


@pytest.fixture
async def link(server: RunningNats) -> AsyncIterator[NatsLink]:
    link = NatsLink(server.url, name="test")
    link.start()
    yield link
    await link.close()


@pytest.fixture
async def session(link: NatsLink) -> Session:
    session = await link.session()
    await session.js.create_key_value(KeyValueConfig(bucket=BUCKET, limit_marker_ttl=60, storage=StorageType.MEMORY))
    return session


async def test_a_following_gives_the_snapshot_then_none_then_what_comes(session: Session) -> None:
    await buckets.put(session, BUCKET, "a", b"1")
    await buckets.put(session, BUCKET, "a", b"2")
    await buckets.put(session, BUCKET, "b.c", b"3", headers={"traceparent": "00-x"})
    async with contextlib.aclosing(buckets.follow(session, BUCKET)) as following:
        first, second, end = [await anext(following) for _ in range(3)]
        assert first is not None
        assert (first.key, first.value, first.sequence) == ("a", b"2", 2)
        assert second is not None
        assert (second.key, second.headers["traceparent"]) == ("b.c", "00-x")
        assert end is None
        await buckets.put(session, BUCKET, "d", b"4")
        live = await anext(following)
        assert live is not None
        assert (live.key, live.operation) == ("d", buckets.Operation.PUT)


async def test_an_empty_bucket_has_an_empty_snapshot(session: Session) -> None:
    assert await buckets.read(session, BUCKET) == {}


async def test_a_missing_bucket_is_told_apart_from_an_empty_one(session: Session) -> None:
    assert await buckets.info(session, "NOTHING") is None
    with pytest.raises(NotFoundError):
        await buckets.read(session, "NOTHING")


async def test_compare_and_swap_on_a_key_lets_one_writer_through(session: Session) -> None:
    first = await buckets.put(session, BUCKET, "a", b"1", last=0)
    await buckets.put(session, BUCKET, "a", b"2", last=first)
    for stale in (0, first):
        with pytest.raises(buckets.WrongSequenceError):
            await buckets.put(session, BUCKET, "a", b"3", last=stale)
    assert (await buckets.read(session, BUCKET))["a"].value == b"2"


async def test_deletes_and_expiries_are_told_apart(session: Session) -> None:
    async with contextlib.aclosing(buckets.follow(session, BUCKET)) as following:
        assert await anext(following) is None
        await buckets.put(session, BUCKET, "a", b"1", ttl=1)
        await (await session.js.key_value(BUCKET)).delete("b")
        seen = [await anext(following) for _ in range(3)]
    assert [(entry.key, entry.operation) for entry in seen if entry is not None] == [
        ("a", buckets.Operation.PUT),
        ("b", buckets.Operation.DELETE),
        ("a", buckets.Operation.EXPIRED),
    ]


async def test_a_purge_removes_what_is_old_and_spares_what_came_since(session: Session) -> None:
    old = await buckets.put(session, BUCKET, "a", b"old")
    await buckets.purge(session, BUCKET, "a", through=old)
    assert await buckets.read(session, BUCKET) == {}
    new = await buckets.put(session, BUCKET, "a", b"new", last=0)
    await buckets.purge(session, BUCKET, "a", through=old)
    assert (await buckets.read(session, BUCKET))["a"].sequence == new


async def test_a_deleted_bucket_ends_its_following(session: Session) -> None:
    async with contextlib.aclosing(buckets.follow(session, BUCKET, heartbeat=0.2)) as following:
        assert await anext(following) is None
        await session.js.delete_key_value(BUCKET)
        with pytest.raises(buckets.GapError):
            await anext(following)


async def test_a_lost_connection_ends_its_following_at_once(server: RunningNats, session: Session) -> None:
    async with contextlib.aclosing(buckets.follow(session, BUCKET, heartbeat=30)) as following:
        assert await anext(following) is None
        await server.kill()
        with pytest.raises(buckets.GapError, match="connection ended"):
            await asyncio.wait_for(anext(following), 30)


async def test_a_message_that_the_client_dropped_is_noticed(session: Session) -> None:
    async with contextlib.aclosing(buckets.follow(session, BUCKET, heartbeat=0.2)) as following:
        assert await anext(following) is None
        inner = next(sub for sub in session.client._subs.values() if "_INBOX" in sub._subject and sub._cb is not None)
        lost, process = [False], session.client._build_message

        def drop(sid: int, *rest: object) -> object:
            if not lost[0] and sid != inner._id and b"KV.TEST" in bytes(rest[0]):  # type: ignore[call-overload]
                lost[0] = True
                return None
            return process(sid, *rest)  # type: ignore[arg-type]

        session.client._build_message = drop  # type: ignore[method-assign, assignment]
        await buckets.put(session, BUCKET, "a", b"1")
        with pytest.raises(buckets.GapError):
            await asyncio.wait_for(anext(following), 30)
        assert lost[0]


async def test_a_big_snapshot_comes_whole_under_flow_control(session: Session) -> None:
    body = b"x" * 8000
    await asyncio.gather(*(buckets.put(session, BUCKET, f"k{n}", body) for n in range(1500)))
    entries = await buckets.read(session, BUCKET)
    assert len(entries) == 1500


async def test_the_info_names_the_bucket_by_its_birth(session: Session) -> None:
    first = await buckets.info(session, BUCKET)
    await session.js.delete_key_value(BUCKET)
    await session.js.create_key_value(KeyValueConfig(bucket=BUCKET))
    second = await buckets.info(session, BUCKET)
    assert first is not None
    assert second is not None
    assert first.created != second.created
    assert second.sequence == 0
