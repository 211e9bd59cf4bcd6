"""Nothing that was counted is lost: it is told anew until it got through, or left for the next boot."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataplane.agent import counting
from dataplane.gateway.counting import Accesses
from schemas import names
from schemas.kits import buckets
from schemas.kits.natslink import LinkError, NatsLink
from schemas.usage import UsageReport
from tests.doubles.clock import FakeClock

ACME, GLOBEX = ("acme", "pricing"), ("globex", "pricing")


class Link:
    """A bucket that is there or not."""

    def __init__(self) -> None:
        self.there = True
        self.told: dict[str, UsageReport] = {}
        self.sends = 0

    async def call(self, body: Any, *, deadline: float) -> None:
        if not self.there:
            raise LinkError("away")
        await body(SimpleNamespace(js=self, ended=None))

    async def publish(self, subject: str, payload: bytes, **_: Any) -> Any:
        self.sends += 1
        key = subject.removeprefix(f"$KV.{names.BUCKET_USAGE}.")
        self.told[key] = UsageReport.model_validate_json(payload)
        return SimpleNamespace(seq=self.sends)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    async def put(session: Any, bucket: str, key: str, value: bytes, *, ttl: int) -> int:
        return int((await session.js.publish(f"$KV.{bucket}.{key}", value)).seq)

    monkeypatch.setattr(buckets, "put", put)
    return Link()


class Slot:
    """One worker slot through its boots."""

    def __init__(self, link: Link, folder: Path) -> None:
        self.link = link
        self.file = folder / "lkg" / "w0.usage.json"

    def boot(self, name: str, accesses: Accesses) -> counting.Teller:
        link = cast("NatsLink", self.link)
        return counting.Teller(link, FakeClock(), accesses, worker="w0", boot=name, file=self.file)

    def counted(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for report in self.link.told.values():
            for each in report.counts:
                totals[each.organisation] = totals.get(each.organisation, 0) + each.count
        return totals


@pytest.fixture
def slot(link: Link, tmp_path: Path) -> Slot:
    return Slot(link, tmp_path)


def calls(accesses: Accesses, pair: tuple[str, str], times: int) -> None:
    for _ in range(times):
        accesses.count(pair)


async def test_only_what_changed_is_told(slot: Slot) -> None:
    accesses = Accesses()
    teller = slot.boot("b1", accesses)
    assert await teller.tell()
    assert slot.link.sends == 0
    calls(accesses, ACME, 3)
    assert await teller.tell()
    assert await teller.tell()
    assert slot.link.sends == 1
    calls(accesses, ACME, 1)
    calls(accesses, GLOBEX, 2)
    assert await teller.tell()
    assert slot.counted() == {"acme": 4, "globex": 2}


async def test_many_pairs_go_in_parts_that_stay_what_they_are(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PART", 2)
    accesses = Accesses()
    teller = slot.boot("b1", accesses)
    for number in range(5):
        calls(accesses, (f"o{number}", "m"), number + 1)
    await teller.tell()
    assert sorted(slot.link.told) == ["w0.b1.0", "w0.b1.1", "w0.b1.2"]
    calls(accesses, ("o4", "m"), 1)
    await teller.tell()
    assert slot.link.sends == 4
    assert slot.counted() == {"o0": 1, "o1": 2, "o2": 3, "o3": 4, "o4": 6}


async def test_what_cannot_be_told_at_the_end_is_told_by_the_next_boot(slot: Slot) -> None:
    first = Accesses()
    calls(first, ACME, 3)
    slot.link.there = False
    await slot.boot("b1", first).finish()
    second = Accesses()
    calls(second, ACME, 2)
    await slot.boot("b2", second).finish()
    slot.link.there = True
    third = Accesses()
    teller = slot.boot("b3", third)
    calls(third, GLOBEX, 1)
    assert await teller.tell()
    assert slot.counted() == {"acme": 5, "globex": 1}
    assert not slot.file.exists()
    assert slot.boot("b4", Accesses())._left == []


async def test_a_clean_end_leaves_no_file(slot: Slot) -> None:
    accesses = Accesses()
    calls(accesses, ACME, 3)
    await slot.boot("b1", accesses).finish()
    assert slot.counted() == {"acme": 3}
    assert not slot.file.exists()


async def test_a_file_that_cannot_be_read_is_set_aside(slot: Slot) -> None:
    slot.file.parent.mkdir()
    slot.file.write_text("nonsense")
    assert await slot.boot("b1", Accesses()).tell()
    assert slot.file.with_name("w0.usage.json.refused").exists()
