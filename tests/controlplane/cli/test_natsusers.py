"""Each part's credential does what the part needs on a real server, and nothing else."""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig, StorageType, StreamConfig

from controlplane.cli.natsusers import CONTROL_PLANE, Users
from schemas import names
from schemas.kits import buckets
from schemas.kits.natslink import NatsLink
from tests.doubles.nats import RunningNats
from tests.doubles.polling import until


class House:
    """A server with the users of a system of two workers, and the control plane's streams."""

    def __init__(self, folder: Path) -> None:
        self.users = Users(folder / "nats", ("w0", "w1"))
        self.server = RunningNats(folder / "nats")
        self.server.users = self.users.listed()
        self.refusals: list[str] = []
        self._probes = 0

    @contextlib.asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[Client]:
        """A connection as one of the parts, or as a reader."""

        async def refused(error: Exception) -> None:
            self.refusals.append(str(error))

        if user == "reader":
            connected = await nats.connect(self.users.url("127.0.0.1", self.server.port), error_cb=refused)
        else:
            seed = str(self.users.key_file(user))
            connected = await nats.connect(
                self.server.url, nkeys_seed=seed, inbox_prefix=f"_INBOX_{user}", error_cb=refused
            )
        try:
            yield connected
        finally:
            await connected.close()

    async def refuses(self, client: Client, subject: str) -> bool:
        """Whether the server refuses a message on ``subject``."""
        await client.publish(subject, b"{}")
        return await self._refused(client, f'for publish to "{subject}"')

    async def refuses_subscription(self, client: Client, subject: str) -> bool:
        """Whether the server refuses to deliver ``subject``."""

        async def ignore(_: Msg) -> None:
            return

        await client.subscribe(subject, cb=ignore)
        return await self._refused(client, f'for subscription to "{subject}"')

    async def _refused(self, client: Client, what: str) -> bool:
        """The server answers in order: once it has refused what it refuses to everybody, it has judged all before."""
        self._probes += 1
        probe = f"nobody.may.{self._probes}"
        await client.publish(probe, b"")
        await until(lambda: any(probe in each for each in self.refusals))
        return any(what.lower() in each.lower() for each in self.refusals)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.server.start()
    try:
        async with made.client(CONTROL_PLANE) as plane:
            stream = plane.jetstream()
            for bucket, storage in (
                (names.BUCKET_DESIRED, StorageType.FILE),
                (names.BUCKET_WORKERS, StorageType.MEMORY),
            ):
                await stream.create_key_value(KeyValueConfig(bucket=bucket, storage=storage))
            await stream.add_stream(StreamConfig(name=names.STREAM_EVENTS, subjects=[f"{names.SUBJECT_EVENTS}.>"]))
            await stream.publish(f"{names.SUBJECT_EVENTS}.module.a.active", b"{}")
            await (await stream.key_value(names.BUCKET_DESIRED)).put("head", b"{}")
        yield made
    finally:
        await made.server.kill()


async def test_without_credentials_nobody_comes_in(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    try:
        assert b'"auth_required":true' in await reader.readline()
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert b"Authorization Violation" in await asyncio.wait_for(reader.readline(), 30)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_worker_follows_the_desired_bucket_and_says_its_own_state(house: House) -> None:
    link = NatsLink(house.server.url, name="test", key_file=str(house.users.key_file("w0")), inbox="w0")
    link.start()
    try:
        session = await asyncio.wait_for(link.session(), 30)
        assert set(await buckets.read(session, names.BUCKET_DESIRED)) == {"head"}
        await buckets.put(session, names.BUCKET_WORKERS, "w0", b"{}")
    finally:
        await link.close()


async def test_a_worker_hears_the_beat_and_nothing_of_others(house: House) -> None:
    async with house.client("w0") as worker:
        assert not await house.refuses_subscription(worker, names.SUBJECT_BEAT)
        for subject in (">", "modplane.>", f"{names.SUBJECT_EVENTS}.>", "_INBOX.>", "_INBOX_w1.>", "$KV.>", "$JS.>"):
            assert await house.refuses_subscription(worker, subject), subject


@pytest.mark.parametrize(
    "subject",
    [
        "$KV.MODPLANE_DESIRED.module.a",
        "$KV.MODPLANE_DESIRED.head",
        "$KV.MODPLANE_WORKERS.w1",
        "modplane.desired.beat",
        "modplane.events.module.a.active",
        "modplane.metrics.w1",
        "modplane.audit.w1",
        "modplane.audit.controlplane",
        "$KV.MODPLANE_AUDIT_CHECKPOINTS.w0.ab12",
        "$JS.API.CONSUMER.CREATE.KV_MODPLANE_AUDIT_CHECKPOINTS",
        "$JS.API.CONSUMER.CREATE.MODPLANE_AUDIT",
        "$JS.API.STREAM.PURGE.MODPLANE_AUDIT",
        "$JS.API.STREAM.DELETE.MODPLANE_AUDIT",
        "$JS.ACK.MODPLANE_AUDIT.controlplane.1.1.1.1.1",
        "$JS.API.STREAM.DELETE.KV_MODPLANE_DESIRED",
        "$JS.API.STREAM.PURGE.KV_MODPLANE_DESIRED",
        "$JS.API.STREAM.UPDATE.KV_MODPLANE_DESIRED",
        "$JS.API.STREAM.MSG.DELETE.KV_MODPLANE_DESIRED",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.CONSUMER.CREATE.MODPLANE_EVENTS",
        "_INBOX_w1.x",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_a_worker_may_not(house: House, subject: str) -> None:
    async with house.client("w0") as worker:
        assert await house.refuses(worker, subject)


async def test_a_reader_reads_the_events(house: House) -> None:
    async with house.client("reader") as reader:
        subscription = await reader.jetstream().subscribe(f"{names.SUBJECT_EVENTS}.>", ordered_consumer=True)
        message = await subscription.next_msg(timeout=10)
        assert message.subject == f"{names.SUBJECT_EVENTS}.module.a.active"
        durable = await reader.jetstream().pull_subscribe(f"{names.SUBJECT_EVENTS}.>", durable="mine")
        [again] = await durable.fetch(1, timeout=10)
        await again.ack_sync()
        assert not await house.refuses_subscription(reader, f"{names.SUBJECT_EVENTS}.module.a.>")


@pytest.mark.parametrize(
    "subject",
    [
        "modplane.events.module.a.active",
        "modplane.desired.beat",
        "$KV.MODPLANE_DESIRED.module.a",
        "$KV.MODPLANE_WORKERS.w0",
        "$JS.API.CONSUMER.CREATE.KV_MODPLANE_DESIRED",
        "$JS.API.CONSUMER.CREATE.MODPLANE_AUDIT",
        "modplane.audit.w0",
        "$JS.API.STREAM.PURGE.MODPLANE_EVENTS",
        "$JS.API.STREAM.DELETE.MODPLANE_EVENTS",
        "$JS.API.STREAM.MSG.DELETE.MODPLANE_EVENTS",
    ],
)
async def test_a_reader_may_not(house: House, subject: str) -> None:
    async with house.client("reader") as reader:
        assert await house.refuses(reader, subject)
        assert await house.refuses_subscription(reader, "$KV.>")


async def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    first = Users(tmp_path, ("w0",))
    again = Users(tmp_path, ("w0", "w1"))
    assert again.password == first.password
    assert [user.name for user in again.listed()[:3]] == [user.name for user in first.listed()]
    files = list((tmp_path / "keys").iterdir())
    assert sorted(each.name for each in files) == ["controlplane.nk", "reader.password", "w0.nk", "w1.nk"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


async def test_a_key_that_is_put_in_place_later_is_taken_at_the_next_connect(tmp_path: Path, house: House) -> None:
    path = tmp_path / "late.nk"
    link = NatsLink(house.server.url, name="test", key_file=str(path), inbox="w1")
    link.start()
    try:
        await until(lambda: link.away, timeout=30)
        path.write_bytes(house.users.key_file("w1").read_bytes())
        await asyncio.wait_for(link.session(), 30)
    finally:
        await link.close()
