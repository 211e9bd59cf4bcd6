"""The beat says what stands in the bucket, and comes back to who said it."""

import asyncio

import pytest
from nats.aio.msg import Msg

from controlplane.messaging import beating
from schemas import names
from schemas.documents import Beat
from schemas.kits import buckets
from tests.controlplane.messaging.conftest import Leader
from tests.doubles.polling import until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "BEAT_SECONDS", 0.2)


async def heard(leader: Leader, count: int) -> list[Beat]:
    beats: asyncio.Queue[Beat] = asyncio.Queue()

    async def take(message: Msg) -> None:
        beats.put_nowait(Beat.model_validate_json(message.data))

    session = await leader.link.session()
    subscription = await session.client.subscribe(names.SUBJECT_BEAT, cb=take)
    try:
        return [await asyncio.wait_for(beats.get(), 30) for _ in range(count)]
    finally:
        await subscription.unsubscribe()


async def test_the_beat_names_the_head_and_the_bucket_it_stands_in(leader: Leader) -> None:
    row = await leader.desire("a")
    await leader.settled()
    beat = (await heard(leader, 2))[1]
    info = await buckets.info(await leader.link.session(), names.BUCKET_DESIRED)
    assert info is not None
    assert (beat.store, beat.revision, beat.count) == (leader.store.id, row.revision, 1)
    assert (beat.sequence, beat.created) == (info.sequence, info.created)


async def test_our_own_beat_comes_back_and_anothers_does_not_count(leader: Leader) -> None:
    await until(lambda: leader.fleet.beats >= 2)
    await leader.tasks.stop()
    leader.fleet.beats = 0
    session = await leader.link.session()
    await session.client.publish(names.SUBJECT_BEAT, b"{}")
    await leader.messaging.beating._hear(Msg(session.client, data=b"{}"))
    assert leader.fleet.beats == 0


async def test_the_beat_goes_on_after_nats_came_back(leader: Leader) -> None:
    await until(lambda: leader.fleet.beats)
    await leader.nats.kill()
    leader.fleet.beats = 0
    await leader.nats.start()
    await until(lambda: leader.fleet.beats, timeout=30)


async def test_without_a_bucket_there_is_no_beat_until_it_is_rebuilt(leader: Leader) -> None:
    await leader.desire("a")
    await leader.settled()
    session = await leader.link.session()
    first = (await heard(leader, 1))[0]
    await session.js.delete_key_value(names.BUCKET_DESIRED)

    async def another() -> bool:
        return (await heard(leader, 1))[0].created != first.created

    await until(another)
    assert (await heard(leader, 1))[0].count == 1


async def test_a_frozen_server_costs_beats_but_not_the_beating(leader: Leader) -> None:
    await until(lambda: leader.fleet.beats)
    leader.nats.stop()
    await until(lambda: not leader.link.connected, timeout=30)
    leader.fleet.beats = 0
    leader.nats.cont()
    await until(lambda: leader.fleet.beats)
