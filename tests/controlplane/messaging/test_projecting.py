"""The desired bucket stays what the database says, through every fault of NATS."""

import asyncio
import json
from pathlib import Path

from controlplane.store.records import Lease
from schemas import names
from schemas.documents import DesiredDocument, Head
from schemas.kits import buckets
from schemas.kits.natslink import NatsLink, Session
from tests.controlplane.messaging.conftest import Leader, leading
from tests.doubles.keys import signed
from tests.doubles.nats import RunningNats, running_nats
from tests.doubles.polling import until


async def session_of(leader: Leader) -> Session:
    return await leader.link.session()


async def test_an_empty_database_has_a_head_that_proves_the_empty_set(leader: Leader) -> None:
    await leader.settled()
    head = Head.model_validate_json((await leader.bucket())["head"].value)
    assert (head.count, head.store) == (0, leader.store.id)


async def test_a_commit_comes_into_the_bucket_and_then_its_head(leader: Leader) -> None:
    await leader.settled()
    row = await leader.desire("a", '{"version":"1"}')
    await leader.settled()
    entries = await leader.bucket()
    document = DesiredDocument.model_validate_json(entries["module.a"].value)
    assert (document.epoch, document.revision, document.payload) == (1, row.revision, '{"version":"1"}')
    assert document.intact()
    assert entries["head"].sequence > entries["module.a"].sequence
    head = Head.model_validate_json(entries["head"].value)
    assert (head.epoch, head.revision, head.count) == (1, row.revision, 1)


async def test_a_withdrawn_key_is_a_tombstone_and_no_member(leader: Leader) -> None:
    await leader.desire("a")
    await leader.desire("b")
    await leader.withdraw("a")
    await leader.settled()
    entries = await leader.bucket()
    assert DesiredDocument.model_validate_json(entries["module.a"].value).deleted
    assert Head.model_validate_json(entries["head"].value).count == 1


async def test_many_rows_come_under_few_heads(leader: Leader) -> None:
    await leader.settled()
    for start in range(5):
        await asyncio.gather(*(leader.desire(f"m{start}-{n}") for n in range(40)))
    await leader.settled()
    info = await buckets.info(await session_of(leader), names.BUCKET_DESIRED)
    assert info is not None
    assert info.sequence - 200 < 100


async def test_the_hot_path_reads_nothing_from_the_database(leader: Leader) -> None:
    await leader.settled()
    await until(lambda: leader.messaging.relay._live)
    reads = []
    read = leader.store.read
    leader.store.read = lambda query: reads.append(1) or read(query)  # type: ignore[method-assign, func-returns-value]
    await leader.desire("a")
    projection = leader.messaging.projection
    await until(lambda: projection.head is not None and projection.head.count == 1)
    leader.store.read = read  # type: ignore[method-assign]
    assert not reads


async def test_after_a_crash_of_nats_writes_go_on_within_seconds(leader: Leader) -> None:
    await leader.desire("a")
    await leader.settled()
    await leader.nats.kill()
    await leader.desire("b")
    await leader.withdraw("a")
    await leader.nats.start()
    await leader.settled(timeout=30)


async def test_a_frozen_server_leaves_nothing_undecided(leader: Leader) -> None:
    await leader.settled()
    leader.nats.stop()
    row = await leader.desire("a", "first")
    await until(lambda: not leader.link.connected, timeout=30)
    await leader.desire("a", "second")
    leader.nats.cont()
    await leader.settled()
    document = DesiredDocument.model_validate_json((await leader.bucket())["module.a"].value)
    assert document.payload == "second"
    assert document.revision > row.revision


async def test_a_write_that_landed_without_an_answer_is_found_not_repeated(leader: Leader) -> None:
    await leader.settled()
    projection = leader.messaging.projection
    session = await session_of(leader)
    publish = session.js.publish

    async def lose_the_answer(*args: object, **kwargs: object) -> object:
        session.js.publish = publish  # type: ignore[method-assign]
        await publish(*args, **kwargs)  # type: ignore[arg-type]
        leader.link.abandon("the answer was lost")
        return await asyncio.get_running_loop().create_future()

    session.js.publish = lose_the_answer  # type: ignore[method-assign, assignment]
    before = projection.resyncs
    await leader.desire("a", "once")
    await leader.settled()
    assert projection.resyncs > before
    assert (await leader.bucket())["module.a"].sequence == 2


async def test_a_deleted_bucket_is_made_anew_from_the_database(leader: Leader) -> None:
    await leader.desire_many(50)
    await leader.settled()
    session = await session_of(leader)
    await session.js.delete_key_value(names.BUCKET_DESIRED)
    await leader.settled(timeout=30)
    await leader.desire("later")
    await leader.settled()


async def test_a_bucket_deleted_and_made_by_somebody_else_is_filled_again(leader: Leader) -> None:
    await leader.desire_many(20)
    await leader.settled()
    session = await session_of(leader)
    await session.js.delete_key_value(names.BUCKET_DESIRED)
    await session.js.create_key_value(bucket=names.BUCKET_DESIRED, history=5)
    await leader.settled(timeout=30)


async def test_a_purged_bucket_is_filled_again(leader: Leader) -> None:
    await leader.desire_many(20)
    await leader.settled()
    session = await session_of(leader)
    await session.js.purge_stream(buckets.stream_of(names.BUCKET_DESIRED))
    await leader.settled(timeout=30)


async def test_a_key_that_somebody_wrote_over_or_invented_is_set_right(leader: Leader) -> None:
    await leader.desire("a")
    await leader.settled()
    session = await session_of(leader)
    await buckets.put(session, names.BUCKET_DESIRED, "module.a", b"nonsense")
    await buckets.put(session, names.BUCKET_DESIRED, "module.invented", b"{}")
    await buckets.put(session, names.BUCKET_DESIRED, "head", b"[]")
    await leader.settled(timeout=30)
    assert "module.invented" not in await leader.bucket()


async def test_a_wiped_server_is_filled_from_the_database(leader: Leader) -> None:
    await leader.desire_many(20)
    await leader.settled()
    await leader.nats.kill()
    leader.nats.wipe()
    await leader.nats.start()
    await leader.settled(timeout=30)


async def test_what_was_committed_while_nats_was_away_is_there_after_the_start(tmp_path: Path) -> None:
    async with running_nats(tmp_path, started=False) as nats, leading(tmp_path, nats) as leader:
        leader.start()
        await leader.desire_many(5)
        await nats.start()
        await leader.settled()


async def test_a_restored_database_leads_under_a_higher_epoch_and_writes_all_anew(
    tmp_path: Path, nats: RunningNats
) -> None:
    async with leading(tmp_path / "one", nats, epoch=3) as leader:
        await leader.desire("a", "old")
        backup = await leader.store.read(lambda reading: reading.desired())
        assert [row.epoch for row in backup] == [3]
        store_id, revision = leader.store.id, leader.store.revision
        leader.start()
        await leader.settled()
        session = await session_of(leader)
        ahead = json.loads((await leader.bucket())["module.a"].value) | {"revision": revision + 40, "payload": "lost"}
        await leader.tasks.stop()
        await buckets.put(session, names.BUCKET_DESIRED, "module.a", json.dumps(ahead).encode())
        head = signed(Head(store=store_id, epoch=7, revision=revision + 41, count=1, hash="0" * 32))
        await buckets.put(session, names.BUCKET_DESIRED, "head", head.model_dump_json(by_alias=True).encode())
        leader.start()
        await leader.settled()
        document = DesiredDocument.model_validate_json((await leader.bucket())["module.a"].value)
        assert document.epoch == 8
        assert document.payload == "old"
        lease = await leader.store.read(lambda reading: reading.lease())
        assert lease is not None
        assert (lease.holder, lease.epoch) == ("test", 8)


async def test_a_worker_that_is_ahead_raises_the_epoch_too(leader: Leader) -> None:
    await leader.desire("a")
    await leader.settled()
    newest = leader.messaging.projection.newest
    leader.messaging.projection.seen(newest)
    leader.messaging.projection.seen((newest[0], newest[1] + 5))
    await until(lambda: leader.messaging.projection.newest[0] == 2)
    await leader.follow_epoch()
    await leader.settled()
    document = DesiredDocument.model_validate_json((await leader.bucket())["module.a"].value)
    assert document.epoch == 2


async def test_a_bucket_of_another_store_is_taken_over_head_first(tmp_path: Path, nats: RunningNats) -> None:
    async with leading(tmp_path / "one", nats, epoch=5) as first:
        first.start()
        await first.desire("theirs")
        await first.settled()
    link = NatsLink(nats.url, name="watcher")
    link.start()
    seen: list[str] = []
    async with leading(tmp_path / "two", nats) as second:
        await second.desire("ours")
        session = await link.session()
        following = buckets.follow(session, names.BUCKET_DESIRED)
        async for entry in following:
            if entry is None:
                break
        second.start()
        async for entry in following:
            assert entry is not None
            seen.append(entry.key)
            if len(seen) == 3:
                break
        await following.aclose()
        await second.settled()
        assert seen == ["head", "module.ours", "head"]
        assert set(await second.bucket()) == {"head", "module.ours"}
    await link.close()


async def test_a_deposed_leader_raises_no_epoch(leader: Leader) -> None:
    await leader.settled()
    await leader.store.write(lambda tx: tx.put_lease(Lease("another", 9, 1)))
    projection = leader.messaging.projection
    before = projection.resyncs
    projection.seen((1, projection.newest[1] + 5))
    await until(lambda: projection.resyncs >= before + 2)
    lease = await leader.store.read(lambda reading: reading.lease())
    assert lease is not None
    assert (lease.holder, lease.epoch) == ("another", 9)


async def test_old_tombstones_go_from_database_and_bucket(leader: Leader) -> None:
    await leader.desire("a")
    await leader.desire("b")
    await leader.withdraw("a")
    await leader.settled()
    projection = leader.messaging.projection
    head = projection.head
    projection._buried = {"module.a": (projection._set.rows["module.a"].revision, -10_000.0)}
    projection.doubt("look again")
    await until(lambda: "module.a" not in projection._set.rows)
    await leader.settled()
    assert set(await leader.bucket()) == {"head", "module.b"}
    assert projection.head == head
    await leader.desire("a", "born again")
    await leader.settled()
