"""The fleet: lost only by silence over a proven channel, counted only after the first sync."""

import asyncio

import pytest

from controlplane.reconcile.fleet import Fleet, Standing, matches
from schemas.reports import Pending, Rejected, WorkerReport
from tests.doubles.clock import FakeClock

CLOCK = FakeClock()


def report(worker: str = "w0", sequence: int = 1, **more: object) -> WorkerReport:
    given: dict[str, object] = {
        "id": worker,
        "boot": "b0",
        "synced": True,
        "sequence": sequence,
        "started_at": CLOCK.now(),
        "reported_at": CLOCK.now(),
    }
    return WorkerReport.model_validate({**given, **more})


class Heard:
    """What a fleet told."""

    def __init__(self, fleet: Fleet) -> None:
        self.changes: list[frozenset[str] | None] = []
        self.memberships = 0
        self.progress: list[tuple[object, object]] = []
        fleet.on_change = self.changes.append
        self.loading: list[frozenset[str]] = []
        fleet.on_progress = self._progressed
        fleet.on_membership = self._count

    def _progressed(self, before: object, after: object, loading: frozenset[str]) -> None:
        self.progress.append((before, after))
        self.loading.append(loading)

    def _count(self) -> None:
        self.memberships += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


async def beat_for(fleet: Fleet, clock: FakeClock, seconds: float) -> None:
    for _ in range(int(seconds / 2)):
        fleet.beat_returned()
        await clock.advance(2.0)
    fleet.beat_returned()


async def test_a_silent_worker_is_lost_after_ten_seconds_of_beats(fleet: Fleet, clock: FakeClock) -> None:
    heard = Heard(fleet)
    fleet.beat_returned()
    fleet.reported(report())
    assert fleet.views().workers["w0"].standing is Standing.COUNTED
    await beat_for(fleet, clock, 10.0)
    assert fleet.views().workers["w0"].standing is Standing.COUNTED
    await beat_for(fleet, clock, 2.0)
    assert fleet.views().workers["w0"].standing is Standing.LOST
    assert heard.memberships == 2
    fleet.reported(report(sequence=2))
    assert fleet.views().workers["w0"].standing is Standing.COUNTED


async def test_silence_over_a_dead_channel_loses_nobody(fleet: Fleet, clock: FakeClock) -> None:
    fleet.beat_returned()
    fleet.reported(report())
    await clock.advance(100.0)
    view = fleet.views()
    assert not view.channel_proven
    assert view.workers["w0"].standing is Standing.COUNTED
    await beat_for(fleet, clock, 8.0)
    assert fleet.views().workers["w0"].standing is Standing.COUNTED
    await beat_for(fleet, clock, 4.0)
    assert fleet.views().workers["w0"].standing is Standing.LOST


async def test_absence_counts_only_proven_time(fleet: Fleet, clock: FakeClock) -> None:
    assert fleet.views().absent_for({}) == 0.0
    await beat_for(fleet, clock, 20.0)
    assert fleet.views().absent_for({}) == 20.0
    fleet.reported(report(labels={"zone": "eu"}))
    assert fleet.views().absent_for({}) == 0.0
    assert fleet.views().absent_for({"zone": "us"}) == 20.0
    await clock.advance(1.0)
    fleet.gone("w0")
    fleet.gone("w0")
    await clock.advance(2.0)
    assert fleet.views().absent_for({"zone": "eu"}) == 2.0
    assert not fleet.views().workers


async def test_a_worker_joins_before_it_counts(fleet: Fleet, clock: FakeClock) -> None:
    heard = Heard(fleet)
    fleet.reported(report(synced=False))
    assert fleet.views().workers["w0"].standing is Standing.JOINING
    fleet.reported(report(sequence=2))
    fleet.reported(report(sequence=3, leaving=True))
    assert fleet.views().workers["w0"].standing is Standing.JOINING
    assert heard.memberships == 3
    assert fleet.views().absences[0][1] == 0.0


async def test_late_reports_of_the_same_boot_are_not_believed(fleet: Fleet) -> None:
    fleet.reported(report(sequence=5, applied_revision=9))
    fleet.reported(report(sequence=4, applied_revision=1))
    assert fleet.views().workers["w0"].report.applied_revision == 9
    fleet.reported(report(sequence=1, boot="b1"))
    assert fleet.views().workers["w0"].report.boot == "b1"


async def test_progress_wakes_those_that_wait_and_troubles_those_they_name(fleet: Fleet) -> None:
    heard = Heard(fleet)
    fleet.reported(report())
    fleet.reported(report(sequence=2))
    assert heard.changes == []
    fleet.reported(report(sequence=3, applied_revision=2))
    assert (heard.changes, heard.progress) == ([], [((0, 0), (0, 2))])
    pending = Pending(module="slow", generation=1, since=CLOCK.now(), reason="StartFailed")
    rejected = Rejected(module="bad", generation=1, reason="ImportFailed", message="no")
    fleet.reported(report(sequence=4, applied_revision=2, pending=[pending], rejected=[rejected]))
    assert heard.changes == [frozenset({"slow", "bad"})]
    fleet.reported(report(sequence=5, applied_revision=2, rejected=[rejected]))
    assert heard.changes[1:] == [frozenset({"slow"})]


async def test_nobody_is_woken_for_what_a_worker_only_begins_to_load(fleet: Fleet) -> None:
    heard = Heard(fleet)
    fleet.reported(report())
    loading = [Pending(module=name, generation=1, since=CLOCK.now(), reason="Loading") for name in ("one", "two")]
    fleet.reported(report(sequence=2, applied_revision=2, pending=loading))
    assert heard.changes == []
    assert heard.loading == [frozenset({"one", "two"})]
    fleet.reported(report(sequence=3, applied_revision=2, pending=loading[1:]))
    assert heard.changes == [frozenset({"one"})]
    assert set(fleet.views().workers["w0"].pending) == {"two"}


async def test_the_watch_tells_when_the_channel_comes_and_goes(fleet: Fleet, clock: FakeClock) -> None:
    heard = Heard(fleet)
    watching = asyncio.create_task(fleet.watch())
    fleet.beat_returned()
    assert heard.changes == [None]
    await clock.advance(2.0)
    assert heard.changes == [None, None]
    await clock.advance(10.0)
    assert heard.changes == [None, None, None]
    assert not fleet.views().settled
    watching.cancel()


async def test_a_worker_lost_for_an_hour_is_forgotten(fleet: Fleet, clock: FakeClock) -> None:
    fleet.reported(report())
    await beat_for(fleet, clock, 3602.0)
    assert fleet.views().workers == {}
    assert fleet.views().settled
    fleet.reset()
    assert not fleet.views().channel_proven


def test_selectors_match_every_label() -> None:
    assert matches({}, {"a": "1"})
    assert matches({"a": "1"}, {"a": "1", "b": "2"})
    assert not matches({"a": "1", "b": "3"}, {"a": "1", "b": "2"})


async def test_while_two_processes_serve_a_slot_the_one_behind_speaks_for_it(fleet: Fleet, clock: FakeClock) -> None:
    heard = Heard(fleet)
    fleet.beat_returned()
    fleet.reported(report(applied_revision=5))
    fleet.reported(report(boot="b1", replaces="b0", synced=False))
    assert fleet.views().workers["w0"].standing is Standing.COUNTED
    assert fleet.views().workers["w0"].report.boot == "b0"
    fleet.reported(report(boot="b1", replaces="b0", sequence=2, applied_revision=6))
    assert fleet.views().workers["w0"].report.boot == "b0"
    fleet.reported(report(sequence=2, applied_revision=6))
    assert heard.progress[-1] == ((0, 5), (0, 6))
    assert fleet.views().workers["w0"].report.boot == "b1"
    pending = [Pending(module="a", generation=1, since=CLOCK.now(), reason="Loading")]
    fleet.reported(report(sequence=3, applied_revision=6, pending=pending))
    assert fleet.views().workers["w0"].report.boot == "b0"
    fleet.gone("w0", "b0")
    assert heard.changes[-1] is None
    assert fleet.views().workers["w0"].report.boot == "b1"


async def test_a_replaced_process_that_falls_silent_stops_speaking(fleet: Fleet, clock: FakeClock) -> None:
    fleet.beat_returned()
    fleet.reported(report(applied_revision=5))
    for sequence in range(1, 7):
        fleet.reported(report(boot="b1", replaces="b0", sequence=sequence, applied_revision=6))
        await beat_for(fleet, clock, 2.0)
    assert fleet.views().workers["w0"].report.boot == "b1"
    assert fleet.views().workers["w0"].standing is Standing.COUNTED


async def test_a_successor_that_is_lost_gives_the_slot_back(fleet: Fleet, clock: FakeClock) -> None:
    fleet.reported(report(applied_revision=5))
    fleet.reported(report(boot="b1", replaces="b0", synced=False))
    for sequence in range(2, 9):
        await beat_for(fleet, clock, 2.0)
        fleet.reported(report(sequence=sequence, applied_revision=5))
    assert fleet.views().workers["w0"].report.boot == "b0"
    assert fleet.views().workers["w0"].standing is Standing.COUNTED


async def test_a_crashed_process_has_no_say_beside_the_next_one(fleet: Fleet, clock: FakeClock) -> None:
    fleet.reported(report(boot="b1", replaces="b0", applied_revision=5))
    fleet.reported(report(boot="b2", applied_revision=6))
    assert fleet.views().workers["w0"].report.boot == "b2"


def test_a_module_is_only_loading_until_a_worker_has_more_to_say_of_it(fleet: Fleet) -> None:
    loading = [Pending(module="one", generation=1, since=CLOCK.now(), reason="Loading")]
    fleet.reported(report(pending=loading))
    fleet.reported(report("w1"))
    assert fleet.still_loads("one")
    assert not fleet.still_loads("two")
    refused = Rejected(module="one", generation=1, reason="ImportFailed", message="no such name")
    fleet.reported(report("w1", sequence=2, rejected=[refused]))
    assert not fleet.still_loads("one")
    fleet.reported(report("w1", sequence=3))
    fleet.reported(report(sequence=2, pending=[loading[0].model_copy(update={"reason": "StartFailed"})]))
    assert not fleet.still_loads("one")
    fleet.reported(report(sequence=3, synced=False, pending=loading))
    assert not fleet.still_loads("one")
