"""Every committed event reaches the stream, in order per key, through every fault of NATS."""

import asyncio
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from controlplane.messaging import outbox, streams
from controlplane.store.records import Lease
from schemas import names
from schemas.events import CloudEvent
from tests.controlplane.messaging.conftest import Leader, leading
from tests.doubles.nats import RunningNats, running_nats
from tests.doubles.polling import until

WALK = ("DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE")


async def delivered(leader: Leader, count: int, timeout: float = 15.0) -> list[str]:
    async def all_there() -> list[str]:
        found = await leader.event_ids()
        return found if len(found) >= count and await leader.unpublished() == 0 else []

    return await until(all_there, timeout=timeout, step=0.03)


async def test_a_transition_is_on_the_stream_as_a_cloud_event(leader: Leader) -> None:
    ids = await leader.transitions("a", "DISCOVERED")
    assert await delivered(leader, 1) == ids
    session = await leader.link.session()
    message = await session.js.get_last_msg(names.STREAM_EVENTS, "modplane.events.module.a.discovered")
    assert message.data is not None
    event = CloudEvent.model_validate_json(message.data)
    assert (event.id, event.type, event.subject) == (ids[0], "dev.modplane.module.discovered.v1", "a")
    assert (message.headers or {})["Nats-Msg-Id"] == ids[0]


async def test_events_of_many_modules_come_each_once_and_in_their_order(leader: Leader) -> None:
    walks = await asyncio.gather(*(leader.transitions(f"m{n}", *WALK) for n in range(40)))
    found = await delivered(leader, 160)
    assert len(found) == len(set(found)) == 160
    for ids in walks:
        assert [event for event in found if event in set(ids)] == ids


async def test_what_was_committed_while_nats_was_away_is_drained_in_order(tmp_path: Path) -> None:
    async with running_nats(tmp_path, started=False) as nats, leading(tmp_path, nats) as leader:
        before = await leader.transitions("a", *WALK)
        leader.start()
        await leader.transitions("b", *WALK)
        assert await leader.unpublished() == 8
        await nats.start()
        found = await delivered(leader, 8)
        assert [event for event in found if event in before] == before


async def test_a_crash_of_nats_loses_and_doubles_nothing(leader: Leader) -> None:
    first = await leader.transitions("a", *WALK)
    await delivered(leader, 4)
    await leader.nats.kill()
    second = await leader.transitions("b", *WALK)
    await leader.nats.start()
    assert await delivered(leader, 8, timeout=30) == first + second


async def test_a_frozen_server_gets_each_event_once(leader: Leader) -> None:
    await leader.transitions("a", "DISCOVERED")
    await delivered(leader, 1)
    leader.nats.stop()
    await leader.transitions("b", *WALK)
    await until(lambda: not leader.link.connected, timeout=30)
    leader.nats.cont()
    found = await delivered(leader, 5)
    assert len(found) == 5


async def test_a_deleted_stream_is_made_anew_and_gets_back_what_the_outbox_keeps(leader: Leader) -> None:
    ids = await leader.transitions("a", *WALK)
    await delivered(leader, 4)
    session = await leader.link.session()
    await session.js.delete_stream(names.STREAM_EVENTS)
    more = await leader.transitions("b", *WALK)
    found = await delivered(leader, 8)
    assert sorted(found) == sorted(ids + more)
    assert [event for event in found if event in ids] == ids


async def test_a_server_wiped_while_we_were_away_gets_the_kept_events_again(tmp_path: Path, nats: RunningNats) -> None:
    async with leading(tmp_path, nats) as leader:
        leader.start()
        ids = await leader.transitions("a", *WALK)
        await delivered(leader, 4)
        await leader.tasks.stop()
        await nats.kill()
        nats.wipe()
        await nats.start()
        session = await leader.link.session()
        await session.js.add_stream(StreamConfig(name=names.STREAM_EVENTS, subjects=["modplane.events.>"]))
        leader.messaging.relay = leader.new_relay()
        leader.start()
        assert await delivered(leader, 4) == ids


async def test_a_relay_that_starts_over_does_not_publish_again_what_is_there(tmp_path: Path, nats: RunningNats) -> None:
    async with leading(tmp_path, nats) as leader:
        leader.start()
        await leader.transitions("a", *WALK)
        await delivered(leader, 4)
        await leader.tasks.stop()
        leader.messaging.relay = leader.new_relay()
        leader.start()
        await leader.transitions("b", "DISCOVERED")
        await delivered(leader, 5)
        assert leader.messaging.relay.published == 1


async def test_a_stream_that_fills_up_raises_an_alarm(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await leader.transitions("a", *WALK)
    await delivered(leader, 4)
    monkeypatch.setattr(streams, "EVENT_BYTES", 100)
    leader.messaging.relay._suspect("look again")
    await until(lambda: "events stream is filling up" in capsys.readouterr().out)


async def test_more_events_than_memory_holds_wait_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "HELD", 5)
    monkeypatch.setattr(outbox, "PAGE", 3)
    async with running_nats(tmp_path) as nats, leading(tmp_path, nats) as leader:
        leader.start()
        await leader.transitions("first", "DISCOVERED")
        await delivered(leader, 1)
        await nats.kill()
        walks = [await leader.transitions(f"m{n}", *WALK) for n in range(5)]
        assert len(leader.messaging.relay._held) < 12
        await nats.start()
        found = await delivered(leader, 21)
        assert len(found) == 21
        for ids in walks:
            assert [event for event in found if event in set(ids)] == ids


async def test_an_event_that_the_stream_refuses_waits_until_it_is_taken(leader: Leader) -> None:
    await leader.transitions("a", "DISCOVERED")
    await delivered(leader, 1)
    session = await leader.link.session()
    relay = leader.messaging.relay
    publish = relay._publish
    refused = []

    async def refuse(row: object) -> None:
        refused.append(row)
        await session.js.publish("modplane.events.x", b"", headers={"Nats-Expected-Stream": "ANOTHER"})

    relay._publish = refuse  # type: ignore[method-assign]
    ids = await leader.transitions("b", "DISCOVERED")
    await until(lambda: len(refused) >= 3)
    assert await leader.unpublished() == 1
    relay._publish = publish  # type: ignore[method-assign]
    assert (await delivered(leader, 2))[1:] == ids


async def test_a_deposed_leader_marks_nothing(leader: Leader) -> None:
    await leader.transitions("a", "DISCOVERED")
    await delivered(leader, 1)
    record = await leader.store.read(lambda reading: reading.get("Module", "a"))
    assert record is not None
    await leader.store.write(lambda tx: tx.put_lease(Lease("another", 9, 1)))
    await leader.store.write(lambda tx: tx.transition(record, "VALIDATED", "Test", "", from_=None))
    await until(lambda: leader.messaging.relay.published == 2)
    assert await leader.unpublished() == 1
    leader.epoch = 9
    await delivered(leader, 2)
