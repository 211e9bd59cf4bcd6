"""A leader's messaging over a real store and a real NATS server."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError

from controlplane.messaging import messengers, outbox
from controlplane.messaging.comparing import Scribe
from controlplane.store import stores
from controlplane.store.records import DesiredRow, Lease
from controlplane.store.transactions import Transaction
from controlplane.telemetry import measurements
from schemas import names
from schemas.documents import DesiredDocument, Head, set_hash
from schemas.kits import buckets
from schemas.kits.clocks import SystemClock
from schemas.kits.natslink import NatsLink, Session
from schemas.kits.storing import Storing
from schemas.kits.tasks import Tasks
from schemas.reports import WorkerReport
from tests.doubles.databases import sqlite_store
from tests.doubles.keys import SIGNER, TRUSTED
from tests.doubles.nats import RunningNats, running_nats
from tests.doubles.polling import until
from tests.doubles.records import module


@dataclass
class Fleet:
    """What messaging told the reconciler."""

    reports: list[WorkerReport] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    beats: int = 0

    def reported(self, report: WorkerReport) -> None:
        self.reports.append(report)

    def gone(self, worker_id: str, boot: str = "") -> None:
        self.left.append(worker_id)

    def beat_returned(self) -> None:
        self.beats += 1


@dataclass
class Leader:
    """One leading control plane, as far as messaging goes."""

    store: stores.Store
    nats: RunningNats
    link: NatsLink
    fleet: Fleet
    messaging: messengers.Messaging
    measured: measurements.Measurements
    epoch: int = 1
    tasks: Tasks = field(default_factory=Tasks)

    def start(self) -> None:
        self.tasks.supervise(self.messaging.run, "messaging")

    def new_relay(self) -> outbox.Relay:
        """What a restart brings: a relay that remembers nothing."""
        storage = Storing(self.link, SystemClock(), lambda reason: None)
        return outbox.Relay(self.store, self.link, SystemClock(), lambda: self.epoch, storage)

    async def lead(self, epoch: int) -> None:
        self.epoch = epoch
        await self.store.write(lambda tx: tx.put_lease(Lease("test", epoch, 1)))

    async def follow_epoch(self) -> None:
        """What leadership does at its next renewal."""
        lease = await self.store.read(lambda reading: reading.lease())
        assert lease is not None
        self.epoch = lease.epoch

    async def desire(self, name: str, payload: str = "{}", generation: int = 1) -> DesiredRow:
        return await self.store.write(
            lambda tx: tx.desire(
                key=names.module_key(name),
                kind="Module",
                name=name,
                uid=f"uid-{name}",
                generation=generation,
                payload=payload,
            ),
            epoch=self.epoch,
        )

    async def desire_many(self, count: int, payload: str = "{}") -> None:
        def unit(tx: Transaction) -> None:
            for number in range(count):
                tx.desire(
                    key=names.module_key(f"m{number}"),
                    kind="Module",
                    name=f"m{number}",
                    uid=f"uid-{number}",
                    generation=1,
                    payload=payload,
                )

        await self.store.write(unit, epoch=self.epoch)

    async def withdraw(self, name: str) -> DesiredRow | None:
        return await self.store.write(lambda tx: tx.withdraw(names.module_key(name)), epoch=self.epoch)

    async def transitions(self, name: str, *states: str) -> list[str]:
        """Make a module with these steps of its life; the ids of its events."""
        record = module(name)

        def unit(tx: Transaction) -> list[str]:
            stored = tx.put(record)
            steps = [tx.transition(stored, state, "Test", "", from_=None) for state in states]
            return [f"{step.uid}-{step.sequence}" for step in steps]

        return await self.store.write(unit, epoch=self.epoch)

    async def bucket(self) -> dict[str, buckets.Entry]:
        async def read(session: Session) -> dict[str, buckets.Entry]:
            return await buckets.read(session, names.BUCKET_DESIRED)

        return await self.link.call(read)

    async def agrees(self) -> bool:
        """Whether the bucket is exactly what the database wants, and its head proves it."""
        try:
            entries = await self.bucket()
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it does not agree yet
            return False
        rows = await self.store.read(lambda reading: reading.desired())
        if names.KEY_HEAD not in entries:
            return False
        try:
            head = Head.model_validate_json(entries.pop(names.KEY_HEAD).value)
            documents = {key: DesiredDocument.model_validate_json(entry.value) for key, entry in entries.items()}
        except ValidationError:
            return False
        living = [(key, doc.revision, doc.digest) for key, doc in documents.items() if not doc.deleted]
        proof = (head.store, head.count, head.hash) == (self.store.id, len(living), set_hash(living))
        wanted = {row.key: (row.epoch, row.revision, row.digest, row.deleted) for row in rows}
        return proof and wanted == {
            key: (doc.epoch, doc.revision, doc.digest, doc.deleted) for key, doc in documents.items()
        }

    async def settled(self, timeout: float = 10.0) -> None:
        await until(self.agrees, timeout=timeout, step=0.03)

    async def event_ids(self) -> list[str]:
        """The ids of all events in the stream, in its order."""

        async def read(session: Session) -> list[str]:
            info = await session.js.stream_info(names.STREAM_EVENTS)
            found = []
            for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
                message = await session.js.get_msg(names.STREAM_EVENTS, sequence)
                found.append((message.headers or {})["Nats-Msg-Id"])
            return found

        try:
            return await self.link.call(read, deadline=20)
        except Exception:  # noqa: BLE001 - no stream, no events
            return []

    async def unpublished(self) -> int:
        return len(await self.store.read(lambda reading: reading.pending_outbox(10_000)))


@contextlib.asynccontextmanager
async def leading(folder: Path, nats: RunningNats, *, epoch: int = 1) -> AsyncIterator[Leader]:
    """A leader that is ready, but not started."""
    async with sqlite_store(folder) as store:
        link = NatsLink(nats.url, name="test-controlplane", check=0.5, patience=2.0)
        fleet = Fleet()
        leader: Leader
        measured = measurements.Measurements(folder / measurements.PATH, SystemClock().now)
        messaging = messengers.Messaging(
            store, link, SystemClock(), lambda: leader.epoch, fleet, Scribe(SIGNER, TRUSTED), measured
        )
        leader = Leader(store, nats, link, fleet, messaging, measured)
        await leader.lead(epoch)
        link.start()
        try:
            yield leader
        finally:
            await leader.tasks.stop()
            await link.close()
            await measured.close()


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[RunningNats]:
    async with running_nats(tmp_path) as server:
        yield server


@pytest.fixture
async def leader(tmp_path: Path, nats: RunningNats) -> AsyncIterator[Leader]:
    """A started leader."""
    async with leading(tmp_path, nats) as started:
        started.start()
        yield started
