"""What failed is pending or rejected as long as it is still wanted as it was; what fails alike is known by its kind."""

from datetime import UTC, datetime
from random import Random

import pytest

from dataplane.agent import failing
from dataplane.agent.holding import Wanted
from dataplane.errors import LoadFailed, StartFailed
from schemas.kits.backoffs import Backoff
from schemas.module import DesiredModule
from tests.doubles.clock import FakeClock

MODULE = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a")
BROKEN = LoadFailed("ImportFailed", "no module named x")
SLOW = StartFailed("StartTimedOut", "it took too long")


def module(name: str, digest: str = "d1", number: int = 0) -> Wanted:
    return Wanted(name, "u1", 1, (1, 1), digest, MODULE.model_copy(update={"config": {"number": number}}))


class Least(Random):
    """Draws no jitter."""

    def random(self) -> float:
        return 0.0


class Rig:
    """Failures over what is wanted, with a clock that stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wanted = {"a": module("a"), "b": module("b")}
        self.failures = failing.Failures(self.wanted, self.clock, Backoff(base=1.0, cap=60.0, source=Least()), "host/1")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_may_heal_is_pending_and_what_may_not_is_rejected(rig: Rig) -> None:
    since = datetime(2030, 1, 1, tzinfo=UTC)
    assert rig.failures.note(module("a"), SLOW, again=True) is not None
    assert rig.failures.note(module("b"), BROKEN, again=False) is None
    assert [(each.module, each.reason) for each in rig.failures.pending().values()] == [("a", "StartTimedOut")]
    (rejected,) = rig.failures.rejected({"b": since})
    assert (rejected.module, rejected.reason, rejected.serving_since) == ("b", "ImportFailed", since)
    assert {name: fact.retry_at is None for name, fact in rig.failures.facts().items()} == {"a": False, "b": True}


async def test_attempts_at_the_same_are_made_later_and_later_and_a_new_one_begins_anew(rig: Rig) -> None:
    assert rig.failures.note(module("a"), SLOW, again=True) == 1.0
    since = rig.failures.pending()["a"].since
    await rig.clock.advance(5.0)
    assert rig.failures.note(module("a"), SLOW, again=True) == 2.0
    assert rig.failures.pending()["a"].since == since
    rig.wanted["a"] = module("a", "d2")
    assert not rig.failures.any_latest
    assert rig.failures.pending() == {}
    assert rig.failures.note(module("a", "d2"), SLOW, again=True) == 1.0
    assert rig.failures.pending()["a"].since > since


def test_what_serves_or_is_wanted_no_more_is_forgotten(rig: Rig) -> None:
    rig.failures.note(module("a"), SLOW, again=True)
    assert "a" in rig.failures
    assert rig.failures.names() == ["a"]
    rig.failures.forget("a")
    rig.failures.forget("never there")
    assert "a" not in rig.failures
    assert not rig.failures.any_latest


def test_the_quarantine_is_of_a_kind_and_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing, "QUARANTINE_SIZE", 2)
    assert rig.failures.quarantined(module("a")) is None
    rig.failures.quarantine(module("a"), "ImportFailed", "why")
    assert rig.failures.quarantined(module("another", "another digest")) == ("ImportFailed", "why")
    for number in (1, 2):
        rig.failures.quarantine(module("a", number=number), "ImportFailed", "why")
    assert rig.failures.quarantined(module("a")) is None
    assert rig.failures.quarantined(module("a", number=2)) is not None
