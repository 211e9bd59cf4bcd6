"""The streams are made, kept and set right, however little room the server has."""

from pathlib import Path

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from controlplane.messaging import streams
from schemas.kits.natslink import NatsLink
from tests.doubles.nats import running_nats


async def test_streams_are_as_large_as_there_is_room(tmp_path: Path) -> None:
    async with running_nats(tmp_path, room="300MB") as nats:
        link = NatsLink(nats.url, name="test")
        link.start()
        try:
            session = await link.session()

            async def size(config: StreamConfig) -> int:
                return int((await streams.ensure(session, config)).config["max_bytes"])

            async def fill() -> None:
                for number in range(20):
                    await size(StreamConfig(name=f"MORE{number}", subjects=[f"more{number}"], max_bytes=smaller))

            made = await streams.ensure(session, streams.EVENTS)
            again = await streams.ensure(session, streams.EVENTS)
            assert (again.created, again.config) == (made.created, made.config)
            other = StreamConfig(name="OTHER", subjects=["other"], max_bytes=streams.EVENT_BYTES)
            smaller = await size(other)
            assert streams.LEAST_BYTES <= smaller < streams.EVENT_BYTES
            assert await size(other) == smaller
            with pytest.raises(APIError, match="no room for MORE"):
                await fill()
            await session.js.delete_stream(streams.EVENTS.name or "")
            assert await size(other.evolve(max_bytes=2 * smaller)) == 2 * smaller
        finally:
            await link.close()
