"""The lasting connection, against a real server that is killed, frozen and thawed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.kits.natslink import LinkAmbiguousError, LinkError, NatsLink, Session
from tests.doubles.nats import RunningNats, free_port, running_nats
from tests.doubles.polling import until


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningNats]:
    async with running_nats(tmp_path) as nats:
        yield nats


@contextlib.asynccontextmanager
async def linked(url: str, **options: float) -> AsyncIterator[NatsLink]:
    link = NatsLink(url, name="test", check=options.get("check", 0.1), patience=options.get("patience", 0.5))
    link.start()
    try:
        yield link
    finally:
        await link.close()


async def after(link: NatsLink, session: Session) -> Session:
    """The session that follows on ``session``."""
    await asyncio.wait_for(session.ended, 30)
    return await asyncio.wait_for(link.session(), 30)


async def ask(session: Session) -> int:
    info = await session.js.account_info()
    return info.streams


async def test_a_link_connects_and_answers(server: RunningNats) -> None:
    async with linked(server.url) as link:
        assert await link.call(ask) == 0
        assert link.connected
        assert link.generation == 1
        assert link.trouble == ""
        assert (await link.client()).is_connected


async def test_a_link_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async with running_nats(tmp_path, started=False) as server, linked(server.url) as link:
        with pytest.raises(LinkError, match="not reachable"):
            await link.call(ask, deadline=0.3)
        await server.start()
        assert await link.call(ask) == 0


async def test_after_a_crash_of_the_server_the_link_comes_back_as_a_new_session(server: RunningNats) -> None:
    async with linked(server.url) as link:
        first = await link.session()
        await server.restart()
        second = await after(link, first)
        assert first.ended.done()
        assert second.generation == first.generation + 1
        assert await link.call(ask) == 0


async def test_a_frozen_server_is_noticed_and_left_alone_until_it_thaws(server: RunningNats) -> None:
    async with linked(server.url) as link:
        session = await link.session()
        server.stop()
        await asyncio.wait_for(asyncio.shield(session.ended), 30)
        assert not link.connected
        server.cont()
        assert await link.call(ask, deadline=10) == 0


async def test_a_call_that_gets_no_answer_in_time_is_ambiguous(server: RunningNats) -> None:
    async with linked(server.url, patience=30) as link:
        await link.session()
        server.stop()
        with pytest.raises(LinkAmbiguousError, match="no answer"):
            await link.call(ask, deadline=0.3)
        server.cont()
        assert await link.call(ask) == 0
        assert link.generation == 1


async def test_a_call_ends_at_once_when_its_connection_does(server: RunningNats) -> None:
    async with linked(server.url, patience=30) as link:
        await link.session()
        server.stop()
        call = asyncio.ensure_future(link.call(ask, deadline=30))
        await asyncio.wait({call}, timeout=0.1)
        link.abandon("test")
        with pytest.raises(LinkAmbiguousError, match="ended"):
            await asyncio.wait_for(call, 30)


async def test_a_client_whose_read_loop_died_is_abandoned(server: RunningNats) -> None:
    async with linked(server.url) as link:
        zombie = await link.session()
        reading = zombie.client._reading_task
        assert reading is not None
        reading.cancel()
        fresh = await after(link, zombie)
        assert fresh.client is not zombie.client
        assert await link.call(ask) == 0


async def test_abandoning_an_old_session_does_not_touch_the_new_one(server: RunningNats) -> None:
    async with linked(server.url) as link:
        first = await link.session()
        link.abandon("first doubt", first.generation)
        second = await after(link, first)
        link.abandon("the same doubt, told late", first.generation)
        assert link.current() is second


async def test_what_the_server_answers_is_raised_as_it_is(server: RunningNats) -> None:
    async def missing(session: Session) -> object:
        return await session.js.stream_info("NOTHING")

    async with linked(server.url) as link:
        with pytest.raises(Exception, match="stream not found"):
            await link.call(missing)


async def test_of_several_servers_one_that_lives_is_taken(server: RunningNats) -> None:
    async with linked(f"nats://127.0.0.1:{free_port()}, 127.0.0.1:{server.port}") as link:
        assert await link.call(ask) == 0


async def test_closing_a_link_to_a_frozen_server_does_not_hang(server: RunningNats) -> None:
    link = NatsLink(server.url, name="test")
    link.start()
    link.start()
    session = await link.session()
    server.stop()
    await session.client.publish("x", b"y" * 500_000)
    await asyncio.wait_for(link.close(), 30)
    server.cont()
    assert not link.connected


async def test_a_server_that_greets_nobody_is_tried_again(tmp_path: Path) -> None:
    async with running_nats(tmp_path) as server:
        server.stop()
        async with linked(server.url) as link:
            await until(lambda: "Timeout" in link.trouble, timeout=30)
            server.cont()
            assert await link.call(ask, deadline=10) == 0
