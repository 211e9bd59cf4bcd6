"""A check remembers since when it is as it is."""

from schemas.kits.checks import Checks
from tests.doubles.clock import FakeClock


async def test_since_moves_only_when_a_check_turns() -> None:
    clock = FakeClock()
    checks = Checks(clock)
    first = checks.told({"nats": (True, "ignored"), "store": (False, "gone")})
    assert (first["nats"]["ok"], first["nats"]["reason"], first["store"]["reason"]) == (True, "", "gone")
    await clock.advance(5)
    assert checks.told({"nats": (True, "")})["nats"] == first["nats"]
    turned = checks.told({"nats": (False, "nobody answers")})["nats"]
    assert (turned["reason"], turned["since"]) == ("nobody answers", "2030-01-01T00:00:05+00:00")
