"""From a worker's spool over a real NATS into the file: everything once and in order, and nothing of anybody else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.audit import archives, verifying
from controlplane.audit.asking import Wanted
from controlplane.messaging import trailing
from dataplane.agent.carrying import Carrier, Source
from schemas import names
from schemas.kits import recorders, spools
from schemas.kits.chains import Chain
from schemas.kits.clocks import SystemClock
from schemas.kits.natslink import NatsLink, Session
from schemas.kits.storing import Storing
from schemas.kits.tasks import Tasks
from tests.doubles.nats import RunningNats
from tests.doubles.polling import until
from tests.doubles.trails import SEALER, Writer


class Line:
    """A worker's recorder and carrier, and a control plane's receiver, over one server."""

    def __init__(self, folder: Path, server: RunningNats) -> None:
        self.folder = folder
        self.server = server
        clock = SystemClock()
        self.link = NatsLink(server.url, name="test", check=0.5, patience=2.0)
        self.archive = archives.Archive(folder, SEALER, clock, most_bytes=1 << 30, age_seconds=1e6, version="1")
        self.trailing = trailing.Trailing(self.archive, self.link, clock)
        self.receiving, self.sending = Tasks(clock), Tasks(clock)
        self.recorders: list[recorders.Recorder] = []
        self.boot("b1")

    def boot(self, boot: str) -> None:
        """A new boot of the worker."""
        where = self.folder / "spools"
        self.recorder = recorders.Recorder(
            lambda: spools.make(where, Chain("w0", boot)), dict, first={}, limit=1 << 30, interval=0.01
        )
        clock = SystemClock()
        source = Source(where, "w0", lambda: self.recorder.spool)
        self.carrier = Carrier(self.link, clock, source, Storing(self.link, clock, lambda reason: None))
        self.recorder.start()
        self.recorders.append(self.recorder)

    def note(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.note({"kind": "decision", "number": number})

    def receive(self) -> None:
        self.receiving.supervise(self.trailing.run, "receive")
        self.receiving.supervise(self.archive.run, "own records")

    def send(self) -> None:
        self.sending.supervise(self.carrier.run, "send")

    async def records(self, **wanted: Any) -> list[dict[str, Any]]:
        found, _ = await self.archive.find(Wanted(limit=100_000, **wanted))
        return found

    async def told(self, writer: str = "w0") -> list[Any]:
        found = await self.records(writer=writer)
        return [each.get("number", each.get("count", each["kind"])) for each in found]

    async def waiting(self) -> int:
        """Batches in the stream."""
        info = await self.link.call(lambda session: session.js.stream_info(names.STREAM_AUDIT))
        return int(info.state.messages)

    async def publish(self, subject: str, body: bytes) -> None:
        async def send(session: Session) -> None:
            await session.js.publish(subject, body)

        await self.link.call(send)


@pytest.fixture
async def line(tmp_path: Path, nats: RunningNats) -> AsyncIterator[Line]:
    made = Line(tmp_path, nats)
    made.archive.start()
    made.link.start()
    try:
        yield made
    finally:
        await made.sending.stop()
        await made.receiving.stop()
        made.recorder.close()
        for spool in (*(each.spool for each in made.recorders), *made.carrier._left):
            if spool is not None:
                spool._database.close()
        with contextlib.suppress(Exception):
            await made.archive.close()
        await made.link.close()


async def test_what_is_noted_arrives_and_leaves_spool_and_stream(line: Line) -> None:
    line.receive()
    line.send()
    line.note(*range(1_200))

    async def all_there() -> bool:
        return await line.told() == ["start", *range(1_200)]

    await until(all_there, timeout=60)
    await until(lambda: line.recorder.spool is not None and line.recorder.spool.bytes == 0, timeout=60)

    async def empty() -> bool:
        return await line.waiting() == 0

    await until(empty, timeout=60)
    assert (await line.archive.verify([])).faults == []


async def test_without_a_receiver_the_stream_keeps_it(line: Line) -> None:
    line.receive()
    line.send()
    await until(line.told, timeout=60)
    await line.receiving.stop()
    line.note(1, 2, 3)

    async def taken() -> bool:
        return await line.waiting() > 0 and line.recorder.spool is not None and line.recorder.spool.bytes == 0

    await until(taken, timeout=60)
    line.receive()

    async def there() -> bool:
        return await line.told() == ["start", 1, 2, 3]

    await until(there, timeout=60)


async def test_a_server_that_goes_and_comes_loses_nothing(line: Line) -> None:
    line.receive()
    line.send()
    await until(line.told, timeout=60)
    await line.server.kill()
    line.note(*range(50))
    await line.server.start()

    async def there() -> bool:
        return await line.told() == ["start", *range(50)]

    await until(there, timeout=60)
    assert (await line.archive.verify([])).lost == 0


async def test_what_a_dead_boot_left_goes_first_with_what_its_end_cost(line: Line) -> None:
    dead = spools.make(line.folder / "spools", Chain("w0", "a0"))
    dead.append([{"kind": "start"}, {"kind": "decision", "number": 1}], 1)
    dead.counter.cell[0] = 5
    dead.counter.close()
    dead._database.close()
    line.receive()
    line.send()
    line.note(7)

    async def there() -> bool:
        return await line.told() == ["start", 1, 4, "end", "start", 7]

    await until(there, timeout=60)


async def test_what_is_no_part_of_a_writers_chain_is_refused_and_said(line: Line) -> None:
    line.receive()
    line.send()
    await until(line.told, timeout=60)
    mallory, honest = Writer("w1", "cd34"), Writer("w1", "cd34")
    await line.publish(names.audit_subject("w1"), honest.batch(2, subject="ann").encode())
    await line.publish(names.audit_subject("w1"), mallory.batch(2, subject="eve").encode())
    await line.publish(names.audit_subject("w2"), honest.batch(1).encode())
    await line.publish(names.audit_subject("w1"), b"nonsense")

    async def said() -> bool:
        return len(await line.records(kind="gap", writer="controlplane")) == 3

    await until(said, timeout=60)
    details = [each["detail"] for each in await line.records(kind="gap", writer="controlplane")]
    assert "another record 1" in details[0]
    assert "is of another writer" in details[1]
    assert "no place in a chain" in details[2]
    assert {each["subject"] for each in await line.records(writer="w1")} == {"ann"}
    assert (await line.archive.verify([])).faults == []


async def test_records_that_never_came_are_said(line: Line) -> None:
    line.receive()
    line.send()
    await until(line.told, timeout=60)
    writer = Writer("w1", "cd34")
    await line.publish(names.audit_subject("w1"), writer.batch(2).encode())
    writer.batch(3)
    await line.publish(names.audit_subject("w1"), writer.batch(1).encode())

    async def said() -> list[dict[str, Any]]:
        return await line.records(kind="gap", writer="controlplane")

    found = await until(said, timeout=60)
    assert [(each["reason"], each["count"], each["detail"]) for each in found] == [
        ("RecordsLost", 3, "before record 6 of w1.cd34")
    ]


async def test_checkpoints_reach_the_second_place_and_are_held_against_the_file(line: Line) -> None:
    line.receive()
    line.send()
    line.note(*range(2_100))

    async def copied() -> bool:
        found = await trailing.copies(line.link) or []
        heads = [stated.head.seq for each in found if (stated := SEALER.opened(each)) and stated.chain.writer == "w0"]
        return bool(heads) and max(heads) > 1_000

    await until(copied, timeout=60)

    async def there() -> bool:
        return len(await line.told()) == 2_101

    await until(there, timeout=60)
    await line.receiving.stop()
    auditor = trailing.Auditor(line.archive, line.link)
    assert (await auditor.verify())["ok"]
    with line.archive.trail.reading() as database:
        rows = list(verifying.rows(database))
    place = next(row for row in rows if row.chain.writer == "w0" and row.seq == 5)
    await asyncio.to_thread(line.archive.trail._database.execute, "DELETE FROM records WHERE id >= ?", (place.id,))
    faults = (await auditor.verify())["faults"]
    assert ("w0", "CutOff") in {(each["writer"], each["kind"]) for each in faults}


async def test_a_second_place_that_cannot_be_asked_is_said(line: Line) -> None:
    await line.link.close()
    assert await trailing.Auditor(line.archive, line.link, patience=0.05).verify() | {"chains": []} == {
        "ok": True,
        "records": 0,
        "first_fault": None,
        "faults": [],
        "lost": 0,
        "chains": [],
        "second_place": "NATS cannot be asked",
    }
