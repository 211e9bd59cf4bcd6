"""Three blocks within ten minutes condemn a module's code and configuration, also for later processes of the slot."""

from pathlib import Path

import pytest

from dataplane.agent import holding, striking
from schemas.module import DesiredModule
from tests.doubles.clock import FakeClock


def wanted(version: int = 1) -> holding.Wanted:
    desired = DesiredModule(
        entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a", config={"version": version}
    )
    return holding.Wanted("a", "u1", version, (1, version), f"payload {version}", desired)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def strikes(tmp_path: Path, clock: FakeClock) -> striking.Strikes:
    return make(tmp_path, clock)


def make(folder: Path, clock: FakeClock, host_version: str = "host/1") -> striking.Strikes:
    made = striking.Strikes(folder / "lkg" / "w0.blocks.json", worker="w0", host_version=host_version, clock=clock)
    made.recall()
    return made


def test_the_third_within_ten_minutes_condemns(strikes: striking.Strikes) -> None:
    assert strikes.add(wanted(), "a.py:1 in f") is None
    assert strikes.add(wanted(), "a.py:2 in f") is None
    verdict = strikes.add(wanted(), "a.py:3 in f")
    assert verdict is not None
    assert verdict == strikes.verdict(wanted())
    assert "w0 3 times within 10 minutes, last at a.py:3 in f" in verdict
    assert strikes.verdict(wanted(2)) is None, "another configuration"


async def test_blocks_far_apart_are_bad_luck(strikes: striking.Strikes, clock: FakeClock) -> None:
    for _ in range(10):
        assert strikes.add(wanted(), "") is None
        await clock.advance(301)
    for _ in range(2):
        verdict = strikes.add(wanted(), "")
    assert verdict is not None


async def test_a_later_process_remembers_and_another_host_version_forgives(
    strikes: striking.Strikes, tmp_path: Path, clock: FakeClock
) -> None:
    for _ in range(2):
        strikes.add(wanted(), "")
    later = make(tmp_path, clock)
    assert later.verdict(wanted()) is None
    assert later.add(wanted(), "") is not None
    await clock.advance(86_400)
    assert make(tmp_path, clock).verdict(wanted()) is not None
    assert make(tmp_path, clock, "host/2").verdict(wanted()) is None


def test_a_file_that_cannot_be_read_or_written_costs_the_memory_only(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "lkg").write_text("in the way")
    strikes = make(tmp_path, clock)
    for _ in range(3):
        verdict = strikes.add(wanted(), "")
    assert verdict is not None
    (tmp_path / "lkg").unlink()
    (tmp_path / "lkg").mkdir()
    (tmp_path / "lkg" / "w0.blocks.json").write_text('{"entries": 7}')
    assert make(tmp_path, clock).verdict(wanted()) is None


def test_the_file_does_not_grow_for_ever(
    strikes: striking.Strikes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: FakeClock
) -> None:
    monkeypatch.setattr(striking, "_KEPT", 3)
    for version in range(9):
        strikes.add(wanted(version), "")
    assert len(make(tmp_path, clock)._entries) == 3
