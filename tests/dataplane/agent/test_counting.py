"""Nothing that was counted is lost: it is told anew until it got through, or left for the next boot."""

import asyncio
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.agent import counting
from dataplane.gateway.counting import Accesses
from dataplane.telemetry import meters
from schemas import names
from schemas.kits import sketches
from schemas.kits.natslink import LinkAmbiguousError, LinkError, NatsLink
from schemas.kits.storing import Storing
from schemas.measures import CHUNK_BYTES, Measures
from tests.doubles.clock import FakeClock

ACME, GLOBEX = ("acme", "pricing"), ("globex", "pricing")


class Link:
    """A stream that is there or not, and remembers what it was told."""

    generation = 1
    connected = True

    def __init__(self) -> None:
        self.there = True
        self.stores = True
        self.sent: list[Measures] = []
        self.sizes: list[int] = []

    async def call(self, body: Any, *, deadline: float) -> None:
        if not self.there:
            raise LinkError("away")
        if not self.stores:
            raise LinkAmbiguousError("no answer in time")
        await body(SimpleNamespace(js=self))

    async def publish(self, subject: str, payload: bytes, *, stream: str, timeout: float) -> None:
        assert (subject, stream) == ("modplane.metrics.w0", names.STREAM_METRICS)
        self.sent.append(Measures.model_validate_json(payload))
        self.sizes.append(len(payload))

    def calls(self) -> dict[tuple[str, str], int]:
        """By boot and route or organisation: what the newest message says of it."""
        found: dict[tuple[str, str], int] = {}
        for each in sorted(self.sent, key=lambda each: each.sequence):
            found |= {(each.boot, f"{route.route} {route.number}"): route.calls for route in each.routes}
            found |= {(each.boot, access.organisation): access.calls for access in each.accesses}
        return found

    def total(self) -> int:
        return sum(self.calls().values())


class Counted:
    """What one boot counts."""

    def __init__(self) -> None:
        self.accesses = Accesses()
        self.book = meters.Book()
        self.routes = {
            name: meters.Methods(self.book.owner("pricing", "u1", "1.0.0"), name) for name in ("/a", "/b", "/c")
        }

    def counting(self) -> set[int]:
        return {meter.number for methods in self.routes.values() for meter in methods.values()}

    def call(self, route: str, times: int = 1) -> None:
        for _ in range(times):
            self.routes[route]["GET"].ended(1.0, 1.5, meters.SUCCESS, 1, 2)

    def let_in(self, pair: tuple[str, str], times: int) -> None:
        for _ in range(times):
            self.accesses.count(pair)


class Slot:
    """One worker slot through its boots."""

    def __init__(self, folder: Path) -> None:
        self.link = Link()
        self.file = folder / "lkg" / "w0.metrics.jsonl"
        self.unstored: list[str] = []

    def boot(self, name: str, counted: Counted) -> counting.Teller:
        return self.teller(counted, FakeClock(), name)

    def teller(self, counted: Counted, clock: FakeClock, boot: str = "b1") -> counting.Teller:
        link = cast("NatsLink", self.link)
        storage = Storing(link, clock, self.unstored.append)
        return counting.Teller(link, clock, counted, storage, worker="w0", boot=boot, file=self.file)


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path)


async def test_only_what_changed_is_told(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "AGAIN_ROUNDS", 1_000_000_000)
    monkeypatch.setattr(meters, "_numbers", itertools.count(1_000_000))
    counted = Counted()
    teller = slot.boot("b1", counted)
    assert await teller.tell()
    assert not slot.link.sent
    counted.call("/a", 3)
    counted.call("/b")
    assert await teller.tell()
    assert await teller.tell()
    assert len(slot.link.sent) == 1
    counted.call("/b")
    assert await teller.tell()
    assert [route.route for route in slot.link.sent[-1].routes] == ["/b"]
    route = slot.link.sent[-1].routes[0]
    assert (route.calls, route.seconds, route.received, route.sent) == (2, 1.0, 2, 4)
    assert sketches.of_text(route.durations) == {sketches.bucket(0.5): 2}


async def test_what_was_counted_is_told_within_a_second(slot: Slot) -> None:
    counted, clock = Counted(), FakeClock()
    teller = slot.teller(counted, clock)
    running = asyncio.create_task(teller.run())
    await clock.settle()
    for second in range(1, 6):
        counted.call("/a")
        await clock.advance(1.0)
        assert slot.link.total() == second
    running.cancel()
    await asyncio.wait([running])


async def test_a_stream_that_acknowledges_nothing_is_told_and_what_was_counted_stays(slot: Slot) -> None:
    counted, clock = Counted(), FakeClock()
    teller = slot.teller(counted, clock)
    counted.call("/a")
    slot.link.stores = False
    for _ in range(10):
        assert not slot.unstored
        assert not await teller.tell()
        await clock.advance(1.0)
    assert not await teller.tell()
    assert slot.unstored == ["no write to MODPLANE_METRICS was acknowledged for 10 s"]
    slot.link.stores = True
    assert await teller.tell()
    assert slot.link.total() == 1


async def test_a_slow_stream_makes_the_second_no_longer(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, clock = Counted(), FakeClock()
    teller = slot.teller(counted, clock)
    began: list[float] = []

    async def tell() -> bool:
        began.append(clock.monotonic())
        await clock.sleep((0.3, 0.0, 1.5)[len(began) % 3])
        return True

    monkeypatch.setattr(teller, "tell", tell)
    running = asyncio.create_task(teller.run())
    await clock.advance(7.0)
    assert began == [0.0, 1.0, 2.5, 3.5, 4.5, 6.0, 7.0]
    running.cancel()
    await asyncio.wait([running])


async def test_every_series_is_told_again_within_a_minute(slot: Slot) -> None:
    counted = Counted()
    for route in counted.routes:
        counted.call(route)
    counted.let_in(ACME, 2)
    teller = slot.boot("b1", counted)
    for _ in range(counting.AGAIN_ROUNDS * counting.ACCESS_ROUNDS + 1):
        assert await teller.tell()
    again = [route.route for message in slot.link.sent[1:] for route in message.routes]
    assert {again.count(route) for route in counted.routes} <= {4, 5, 6}
    assert sum(len(message.accesses) for message in slot.link.sent) == 2


async def test_what_is_much_goes_in_chunks(slot: Slot) -> None:
    counted = Counted()
    for number in range(3_000):
        methods = counted.routes[f"/{number}"] = meters.Methods(counted.book.owner("m", "u", "1"), f"/{'x' * 300}")
        methods["GET"].ended(0, 1, meters.SUCCESS)
    assert await slot.boot("b1", counted).tell()
    assert len(slot.link.sizes) > 3
    assert max(slot.link.sizes) <= CHUNK_BYTES
    assert slot.link.total() == 3_000


async def test_what_cannot_be_told_at_the_end_is_told_by_the_next_boot(slot: Slot) -> None:
    first, second, third = Counted(), Counted(), Counted()
    first.call("/a", 3)
    first.let_in(ACME, 4)
    slot.link.there = False
    await slot.boot("b1", first).finish()
    second.call("/a", 2)
    await slot.boot("b2", second).finish()
    slot.link.there = True
    teller = slot.boot("b3", third)
    third.call("/b", 10)
    assert await teller.tell()
    assert slot.link.total() == 3 + 4 + 2 + 10
    assert not slot.file.exists()
    assert await slot.boot("b4", Counted()).tell()
    assert slot.link.total() == 19


async def test_the_last_calls_are_waited_for(slot: Slot) -> None:
    counted = Counted()
    meter = counted.routes["/a"]["GET"]
    meter.inside = 1

    class Clock(FakeClock):
        async def sleep(self, seconds: float) -> None:
            if meter.inside:
                meter.inside = 0
                counted.call("/a")

    await slot.teller(counted, Clock()).finish()
    assert slot.link.total() == 1


async def test_a_series_goes_when_its_route_is_gone_and_its_last_count_told(slot: Slot) -> None:
    counted = Counted()
    counted.call("/a")
    counted.call("/b")
    teller = slot.boot("b1", counted)
    await teller.tell()
    gone = counted.routes.pop("/a")
    gone["GET"].inside = 1
    for _ in range(20):
        await teller.tell()
    assert len(counted.book) == 2, "a call is still inside"
    slot.link.there = False
    gone["GET"].inside = 0
    gone["GET"].ended(0, 1, meters.SUCCESS)
    for _ in range(20):
        assert not await teller.tell()
    assert len(counted.book) == 2, "its last call was not told"
    slot.link.there = True
    for _ in range(20):
        assert await teller.tell()
    assert [meter.route for meter in counted.book.live()] == ["/b"]
    assert slot.link.total() == 3


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.booleans(), st.booleans()), max_size=30))
async def test_a_stream_that_comes_and_goes_hears_of_every_call(
    slot: Slot, steps: list[tuple[str, bool, bool]]
) -> None:
    slot.link, counted, done = Link(), Counted(), 0
    slot.file.unlink(missing_ok=True)
    number = 0
    teller = slot.boot("b0", counted)
    for route, there, ends in steps:
        slot.link.there = there
        counted.call(route)
        done += 1
        if ends:
            await teller.finish()
            number, counted = number + 1, Counted()
            teller = slot.boot(f"b{number}", counted)
        else:
            await teller.tell()
    slot.link.there = True
    await teller.finish()
    assert sum(slot.link.calls().values()) == done


async def test_a_clean_end_leaves_no_file(slot: Slot) -> None:
    counted = Counted()
    counted.let_in(GLOBEX, 3)
    await slot.boot("b1", counted).finish()
    assert slot.link.total() == 3
    assert not slot.file.exists()


async def test_a_file_that_cannot_be_read_is_set_aside(slot: Slot) -> None:
    slot.file.parent.mkdir()
    slot.file.write_text("nonsense")
    assert await slot.boot("b1", Counted()).tell()
    assert slot.file.with_name("w0.metrics.jsonl.refused").exists()
