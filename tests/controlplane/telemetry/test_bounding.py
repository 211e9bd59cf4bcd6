"""Whatever a worker makes up, it uses up its own room only, and once there is room again nothing is missing."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from controlplane.telemetry import bounding, instruments, measurements, totals
from controlplane.telemetry.totals import Asked
from schemas.measures import AccessMeasure, Measures, RouteMeasure
from tests.doubles.clock import FakeClock

DAY = 24 * 3_600


@dataclasses.dataclass
class Told:
    """A file, and workers that tell it."""

    kept: measurements.Measurements
    clock: FakeClock
    sequence: int = 0

    async def say(
        self,
        *routes: RouteMeasure,
        worker: str = "w0",
        boot: str = "b1",
        accesses: tuple[str, ...] = (),
        ahead: float = 0,
    ) -> list[Measures]:
        self.sequence += 1
        at = self.clock.now().timestamp() + ahead
        said = [AccessMeasure(organisation=each, module="pricing", calls=1, last=at) for each in accesses]
        report = Measures(worker=worker, boot=boot, sequence=self.sequence, at=at, routes=list(routes), accesses=said)
        return await self.kept.take([(worker, report.model_dump_json(by_alias=True).encode())])

    async def calls(self, worker: str = "") -> int:
        found = await self.kept.ask(lambda connection: totals.read(connection, Asked(worker=worker)))
        return sum(total.calls for _, _, total in found)

    async def held(self, question: str) -> int:
        return int(await self.kept.ask(lambda connection: connection.execute(question).fetchone()[0]))


def route(number: int, module: str = "pricing", calls: int = 1) -> RouteMeasure:
    return RouteMeasure(
        number=number, module=module, version="1", method="GET", route=f"/{number}", calls=calls, seconds=1.0, last=1.0
    )


@pytest.fixture
async def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    monkeypatch.setattr(bounding, "BOOTS_OF_WORKER", 10)
    monkeypatch.setattr(bounding, "SERIES_OF_WORKER", 20)
    monkeypatch.setattr(bounding, "SERIES_OF_MODULE", 8)
    clock = FakeClock()
    kept = measurements.Measurements(tmp_path / measurements.PATH, clock.now)
    yield Told(kept, clock)
    await kept.close()


def refused() -> dict[str, float]:
    """What the control plane shows of refusals, by their bound or reason."""
    return {
        next(iter(sample.labels.values())): sample.value
        for counter in (instruments.SERIES_REFUSED, instruments.COUNTS_REFUSED)
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_a_module_has_room_of_its_own_and_the_rest_of_a_message_is_taken(told: Told) -> None:
    before = refused().get("module", 0)
    with capture_logs() as logs:
        for _ in range(2):
            (report,) = await told.say(
                *(route(number) for number in range(12)), route(50, "shop"), accesses=("acme", "apex"), worker="w0"
            )
            assert (len(report.routes), report.accesses) == (13, []), "what is refused is counted in no row either"
    assert await told.calls() == 9
    assert refused()["module"] - before == 2 * (4 + 2)
    (warning,) = logs
    said = {"bound": "series of a module", "most": 8, "worker": "w0", "module": "pricing"}
    assert said.items() <= warning.items()
    await told.say(route(0, calls=5))
    assert await told.calls() == 13, "what is known goes on being counted"


async def test_a_worker_has_room_of_its_own_over_all_its_boots(told: Told) -> None:
    before = refused().get("worker", 0)
    for boot in range(4):
        await told.say(*(route(number, f"made-up-{number}") for number in range(7)), boot=f"b{boot}")
    assert await told.calls("w0") == 20
    assert refused()["worker"] - before == 8
    await told.say(route(1), worker="w1")
    assert await told.calls("w1") == 1


async def test_a_worker_has_a_number_of_boots(told: Told) -> None:
    before = refused().get("boots", 0)
    for boot in range(14):
        await told.say(route(1), boot=f"b{boot}")
    assert (await told.held("SELECT count(*) FROM boots"), refused()["boots"] - before) == (10, 4)
    await told.say(route(1, calls=3), boot="b0")
    assert await told.calls() == 12, "a boot that is known is heard"


async def test_boots_that_are_over_make_room_and_then_nothing_is_missing(told: Told) -> None:
    await told.say(route(1, calls=7), worker="w1")
    for boot in range(3):
        await told.say(*(route(number, f"made-up-{number}") for number in range(7)), boot=f"evil-{boot}")
        await told.clock.advance(1)
    await told.say(route(1, "a", calls=2), route(2, "b", calls=3), boot="good")
    assert await told.calls("w0") == 20
    await told.kept.prune()
    assert await told.calls("w0") == 20, "they may still be there"
    await told.clock.advance(DAY)
    await told.say(route(1, "a", calls=4), route(2, "b", calls=5), boot="good")
    await told.kept.prune()
    await told.say(route(1, "a", calls=4), route(2, "b", calls=6), boot="good")
    assert await told.held("SELECT count(*) FROM boots WHERE boot = 'evil-0'") == 0, "the eldest went first"
    found = await told.kept.ask(lambda connection: totals.read(connection, Asked(worker="w0")))
    assert {series.module: total.calls for _, series, total in found}.items() >= {"a": 4, "b": 6}.items()
    assert await told.calls("w1") == 7, "of another worker nothing went"


async def test_a_boot_is_heard_by_our_own_clock_and_no_moment_is_far_ahead(told: Told) -> None:
    before = refused().get("ahead", 0)
    assert await told.say(route(1), ahead=DAY + 1) == []
    assert refused()["ahead"] - before == 1
    assert len(await told.say(route(1), ahead=DAY - 1)) == 1
    heard = await told.kept.ask(lambda connection: connection.execute("SELECT heard FROM boots").fetchone()[0])
    assert heard == told.clock.now().timestamp()


async def test_what_comes_late_is_thinned_out_as_well(told: Told) -> None:
    await told.say(route(1))
    await told.clock.advance(3 * DAY)
    await told.say(route(1))
    await told.kept.prune()
    for minute in range(30):
        await told.say(route(1), ahead=-2 * DAY - 60 * minute)
    await told.kept.prune()
    assert await told.held("SELECT count(*) FROM readings") <= 2 + 2, "one of each hour"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12), st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 12), st.booleans(), st.booleans()
        ),
        max_size=60,
    )
)
async def test_no_order_of_messages_and_restarts_takes_more(
    tmp_path: Path, told: Told, said: list[tuple[int, str, int, bool, bool]]
) -> None:
    (tmp_path / "own.db").unlink(missing_ok=True)
    kept = measurements.Measurements(tmp_path / "own.db", told.clock.now)
    mine = Told(kept, told.clock)
    try:
        for boot, module, number, restarts, prunes in said:
            await mine.say(*(route(number + each, module) for each in range(3)), boot=f"b{boot}")
            if restarts:
                await mine.kept.close()
                mine.kept = measurements.Measurements(tmp_path / "own.db", told.clock.now)
            if prunes:
                await mine.kept.prune()
        assert await mine.held("SELECT count(*) FROM boots") <= 10
        assert await mine.held("SELECT count(*) FROM series") <= 20
        most = "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM series GROUP BY boot, module)"
        assert await mine.held(most) <= 8
    finally:
        await mine.kept.close()
