"""The streams are made, kept and set right, however little room the server has."""

from pathlib import Path

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from controlplane.messaging import streams
from schemas.kits.natslink import NatsLink
from tests.doubles.nats import running_nats


async def test_a_stream_that_stands_is_kept_where_there_is_no_room_for_a_second(tmp_path: Path) -> None:
    async with running_nats(tmp_path, room="300MB") as nats:
        link = NatsLink(nats.url, name="test")
        link.start()
        try:
            session = await link.session()
            made = await streams.ensure(session, streams.EVENTS)
            again = await streams.ensure(session, streams.EVENTS)
            assert (again.created, again.config) == (made.created, made.config)
            other = StreamConfig(name="OTHER", subjects=["other"], max_bytes=streams.EVENT_BYTES)
            with pytest.raises(APIError):
                await streams.ensure(session, other)
        finally:
            await link.close()
