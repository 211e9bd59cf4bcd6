"""A check remembers since when it is as it is."""

import asyncio

from schemas.kits import checks
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until


async def test_since_moves_only_when_a_check_turns() -> None:
    clock = FakeClock()
    found = {"nats": (True, "ignored"), "store": (False, "gone")}
    watched = checks.Checks(lambda: found, clock)
    first = watched.told()
    assert (first["nats"]["ok"], first["nats"]["reason"], first["store"]["reason"]) == (True, "", "gone")
    await clock.advance(5)
    assert watched.told()["nats"] == first["nats"]
    found["nats"] = (False, "nobody answers")
    turned = watched.told()["nats"]
    assert (turned["reason"], turned["since"]) == ("nobody answers", "2030-01-01T00:00:05+00:00")


async def test_a_turn_is_noticed_when_nobody_asks() -> None:
    clock = FakeClock()
    found = {"nats": (True, "")}
    watched = checks.Checks(lambda: found, clock)
    task = asyncio.create_task(watched.run())
    await until(lambda: clock.sleepers == 1)
    found["nats"] = (False, "nobody answers")
    await clock.advance(checks.LOOK_SECONDS)
    await clock.advance(60)
    assert watched.told()["nats"]["since"] == "2030-01-01T00:00:01+00:00"
    task.cancel()
