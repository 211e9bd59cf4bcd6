"""A subject is heard on every session, refused subscriptions are tried again, and nothing is left subscribed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from schemas.kits import hearing
from schemas.kits.clocks import SystemClock
from schemas.kits.natslink import NatsLink, Session
from tests.doubles.clock import FakeClock
from tests.doubles.nats import running_nats
from tests.doubles.polling import until


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[NatsLink]:
    async with running_nats(tmp_path) as server:
        made = NatsLink(server.url, name="test", check=0.1, patience=2.0)
        made.start()
        yield made
        await made.close()


@contextlib.asynccontextmanager
async def hearer(link: NatsLink) -> AsyncIterator[list[bytes]]:
    """What is heard of the subject ``word``."""
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    task = asyncio.create_task(hearing.lasting(link, SystemClock(), "word", hear))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def say(link: NatsLink, word: bytes, heard: list[bytes]) -> None:
    """Say it until it is heard: who listens may still be subscribing."""

    async def said() -> bool:
        await (await link.client()).publish("word", word)
        return word in heard

    await until(said)


async def test_it_is_heard_on_one_session_after_the_other(link: NatsLink) -> None:
    async with hearer(link) as heard:
        await say(link, b"one", heard)
        link.abandon("test")
        await say(link, b"two", heard)
        assert link.generation == 2


async def test_who_hears_no_more_leaves_nothing_behind(link: NatsLink) -> None:
    client = await link.client()
    async with hearer(link) as heard:
        await say(link, b"one", heard)
        assert [each for each in client._subs.values() if each.subject == "word"]
    assert await until(lambda: not [each for each in client._subs.values() if each.subject == "word"])


class _Refusing:
    """A session whose server takes no subscription at first."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.client = self
        self.alive = True
        self.ended = asyncio.get_running_loop().create_future()
        self.subscribed = 0

    async def subscribe(self, subject: str, cb: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise NatsError
        self.subscribed += 1
        return self

    async def unsubscribe(self) -> None:
        self.subscribed -= 1


async def test_a_refusal_is_tried_again_with_a_pause() -> None:
    session, clock = _Refusing(2), FakeClock()

    class Link:
        async def session(self) -> Session:
            return cast("Session", session)

    async def hear(message: Msg) -> None:
        raise AssertionError("nothing is said")

    task = asyncio.create_task(hearing.lasting(cast("NatsLink", Link()), clock, "word", hear))
    for left in (1, 0):
        await until(lambda: clock.sleepers == 1)
        assert (session.refusals, session.subscribed) == (left, 0)
        await clock.advance(hearing.PACE_SECONDS)
    await until(lambda: session.subscribed == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert session.subscribed == 0
