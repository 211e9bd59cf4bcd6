"""Applied is said of flags, organisations, accesses and revocations when every counted worker goes by them."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import confirming
from controlplane.reconcile.fleet import Fleet, FleetView, Standing, WorkerView
from controlplane.store import stores
from controlplane.store.records import DesiredRow, Record
from controlplane.writing import Writer
from schemas.kits.clocks import SystemClock
from schemas.meta import Json
from schemas.reports import Rejected, WorkerReport
from tests.doubles import apiparts
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

AT = datetime(2030, 1, 1, tzinfo=UTC)
ROW = DesiredRow("flag.beta", "FeatureFlag", "beta", "u", 1, 3, 40, "", "{}", deleted=False)


def report(worker: str, revision: int, *, epoch: int = 3, refuses: str = "", synced: bool = True) -> WorkerReport:
    refused = [Rejected(module=refuses, generation=1, reason="PayloadUnreadable", message="why")] if refuses else []
    return WorkerReport(
        id=worker, boot="b", synced=synced, store="s", applied_epoch=epoch, applied_revision=revision,
        rejected=refused, sequence=revision, started_at=AT, reported_at=AT,
    )  # fmt: skip


def view(*workers: WorkerView) -> FleetView:
    return FleetView({each.report.id: each for each in workers}, channel_proven=True)


standings = st.sampled_from(Standing)


@given(st.lists(st.tuples(st.integers(2, 4), st.integers(38, 42), standings, st.booleans()), max_size=4))
def test_it_is_applied_when_every_counted_worker_covers_the_row(found: list[tuple[int, int, Standing, bool]]) -> None:
    workers = [
        WorkerView(report(f"w{number}", revision, epoch=epoch, refuses="flag.beta" if refuses else ""), standing)
        for number, (epoch, revision, standing, refuses) in enumerate(found)
    ]
    status, reason, _, counts = confirming.judge(view(*workers), ROW, "s")
    counted = [(each[:2] >= (3, 40)) and not each[3] for each in found if each[2] is Standing.COUNTED]
    assert (status == "True") == (bool(counted) and all(counted))
    assert counts.applied == sum(counted)
    assert counts.desired == len(found)
    assert (reason == "NoWorkers") == (not counted)


def test_the_message_names_who_is_behind_and_who_refuses() -> None:
    behind = view(*(WorkerView(report(f"w{n}", 39 + n), Standing.COUNTED) for n in range(2)))
    assert confirming.judge(behind, ROW, "s")[2] == "applied on 1 of 2 workers; waiting for w0"
    refused = view(WorkerView(report("w0", 40, refuses="flag.beta"), Standing.COUNTED))
    status, reason, message, counts = confirming.judge(refused, ROW, "s")
    assert (status, reason, message) == ("False", "Refused", "refused by w0 (why)")
    assert (counts.applied, counts.rejected) == (0, 1)


class Rig:
    """A confirmer over a real store, and workers that say what the test wants."""

    def __init__(self, store: stores.Store) -> None:
        self.store = store
        self.clock = FakeClock()
        self.fleet = Fleet(self.clock)
        self.confirmer = confirming.Confirmer(store, self.clock, self.fleet, lambda: 0)
        self.fleet.on_progress = lambda *_: self.confirmer.moved()
        self.fleet.on_change = lambda *_: self.confirmer.moved()
        self.fleet.on_membership = self.confirmer.moved
        self.writer = Writer(store, SystemClock(), None)
        self.sequence = 0
        store.listen(self.confirmer.heard)

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.create_task(self.confirmer.run())
        try:
            yield
        finally:
            task.cancel()

    async def apply(self, *documents: Json) -> None:
        outcomes = await self.writer.apply(list(documents), manager="test")
        assert [outcome.error for outcome in outcomes] == [None] * len(documents)

    async def head(self) -> tuple[int, int]:
        head = await self.store.read(lambda reading: reading.head())
        return head.epoch, head.revision

    def say(self, worker: str, order: tuple[int, int]) -> None:
        self.fleet.beat_returned()
        self.sequence += 1
        said = report(worker, order[1], epoch=order[0])
        self.fleet.reported(said.model_copy(update={"store": self.store.id, "sequence": self.sequence}))

    async def record(self, kind: str, name: str) -> Record:
        found = await self.store.read(lambda reading: reading.get(kind, name))
        assert found is not None
        return found

    async def applied(self, kind: str, name: str) -> str:
        """Status and numbers of the condition, of the newest generation."""
        record = await self.record(kind, name)
        listed = [each for each in record.status.get("conditions", ()) if each["type"] == "Applied"]
        if not listed or listed[0]["observedGeneration"] != record.generation:
            return "none"
        counts = record.status["workers"]
        return f"{listed[0]['status']} {counts['applied']}/{counts['desired']}"


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    store = await stores.open_store(database_url, clock=SystemClock())
    yield Rig(store)
    await store.close()


OBJECTS = [
    apiparts.flag("beta"),
    apiparts.organisation("acme"),
    {"kind": "ModuleAccess", "metadata": {"name": "acme--one"}, "spec": {"organisation": "acme", "module": "one"}},
    {"kind": "Revocation", "metadata": {"name": "eve"}, "spec": {"issuer": "i", "subject": "eve"}},
]
ALL = [(str(each["kind"]), str(each["metadata"]["name"])) for each in OBJECTS]
DOCUMENTS = [{"apiVersion": "modplane.dev/v1", **each} for each in OBJECTS]


async def test_each_kind_is_confirmed_when_the_last_worker_has_it(rig: Rig) -> None:
    await rig.apply(*DOCUMENTS)
    order = await rig.head()
    with rig.running():
        rig.say("w0", order)
        rig.say("w1", (order[0], 0))
        await rig.clock.settle()
        assert [await rig.applied(*each) for each in ALL] == ["none"] * 4
        await until(lambda: _advanced(rig, "Unknown 1/2"))
        rig.say("w1", order)
        await until(lambda: _all(rig, "True 2/2"))


async def _advanced(rig: Rig, wanted: str) -> bool:
    await rig.clock.advance(confirming.SLOW_SECONDS)
    return await _all(rig, wanted)


async def _all(rig: Rig, wanted: str) -> bool:
    return all([await rig.applied(*each) == wanted for each in ALL])


async def test_what_is_confirmed_stays_so_and_costs_no_write_whatever_workers_do(rig: Rig) -> None:
    await rig.apply(*DOCUMENTS)
    with rig.running():
        rig.say("w0", await rig.head())
        await until(lambda: _all(rig, "True 1/1"))
        revision = rig.store.revision
        rig.say("w1", (0, 0))
        rig.fleet.gone("w0")
        for _ in range(3):
            await rig.clock.advance(confirming.SLOW_SECONDS)
        assert rig.store.revision == revision
        assert await _all(rig, "True 1/1")


async def test_a_new_generation_has_to_be_confirmed_anew(rig: Rig) -> None:
    await rig.apply(*DOCUMENTS)
    with rig.running():
        before = await rig.head()
        rig.say("w0", before)
        await until(lambda: _all(rig, "True 1/1"))
        await rig.apply({"apiVersion": "modplane.dev/v1", **apiparts.flag("beta", killSwitch=True)})
        rig.say("w0", before)
        assert await rig.applied("FeatureFlag", "beta") == "none"
        rig.say("w0", await rig.head())
        await until(lambda: _is(rig, "FeatureFlag", "beta", "True 1/1"))


async def _is(rig: Rig, kind: str, name: str, wanted: str) -> bool:
    return await rig.applied(kind, name) == wanted


async def test_without_workers_that_is_said_once(rig: Rig) -> None:
    await rig.apply(DOCUMENTS[0])
    with rig.running():
        await until(lambda: _said(rig, "NoWorkers"))
        revision = rig.store.revision
        for _ in range(3):
            await rig.clock.advance(confirming.SLOW_SECONDS)
        assert rig.store.revision == revision


async def _said(rig: Rig, reason: str) -> bool:
    await rig.clock.advance(confirming.SLOW_SECONDS)
    record = await rig.record("FeatureFlag", "beta")
    return any(each["reason"] == reason for each in record.status.get("conditions", ()))


async def test_what_goes_is_waited_for_no_more_and_a_new_leader_takes_over_what_is_left(rig: Rig) -> None:
    await rig.apply(*DOCUMENTS)
    successor = Rig(rig.store)
    with successor.running():
        await rig.writer.delete("Revocation", "eve")
        successor.say("w0", await rig.head())
        for kind, name in ALL[:3]:
            await until(functools.partial(_is, rig, kind, name, "True 1/1"))
    assert not successor.confirmer._waiting
