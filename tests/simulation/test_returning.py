"""A new generation proves itself, or the last good one serves again, once, and stays until somebody wants another."""

import asyncio

import pytest

from schemas.meta import Json
from tests.doubles.inspectors import digest, module_spec, route
from tests.simulation.conftest import Simulate
from tests.simulation.test_lifecycle import settled
from tests.simulation.world import World


def baked(number: int, **more: object) -> Json:
    return module_spec(number, rollout={"bakeSeconds": 60}, **more)


def served(world: World) -> list[int]:
    """The generation that each worker serves."""
    return [worker.serving["one"].generation for worker in world.workers if "one" in worker.serving]


def held(world: World) -> set[str]:
    """The paths of all claims."""
    return {claim.path for claim in world.store._query(lambda reading: reading.claims())}


async def proved(world: World, workers: int = 2) -> None:
    """A world whose module ``one`` has a first generation that has proved itself."""
    await settled(world, workers)
    await world.apply("one", baked(1))
    await world.until_state("one", "ACTIVE")
    assert world.reason("one", "Baked") == "Unknown:Baking"
    await asyncio.sleep(61)
    assert world.reason("one", "Baked") == "True:Proved"
    good = world.status("one").last_good
    assert good is not None
    assert (good.generation, good.digest) == (1, digest(1))


@pytest.mark.parametrize("seed", range(3))
def test_a_generation_whose_check_fails_gives_way_to_the_last_good_one(simulate: Simulate, seed: int) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.ill.add(digest(2))
        await world.apply("one", baked(2))
        await world.until_state("one", "ERROR")
        await world.until(lambda: served(world) == [1, 1])
        await world.until(lambda: world.status("one").serving.generation == 1)  # type: ignore[union-attr]
        status = world.status("one")
        assert status.serving is not None
        assert (status.serving.version, status.serving.reason) == ("1.0.0", "ReturnedToLastGood")
        assert world.reason("one", "Baked") == world.reason("one", "Stalled").replace("True", "False")
        assert world.reason("one", "Baked") == "False:BakeUnhealthy"
        assert world.reason("one", "Programmed") == "False:ReturnedToLastGood"
        assert world.reason("one", "Healthy") == "True:NoCheck"
        assert world.walked("one")[-1] == "ERROR"

    simulate(scenario, seed)


def test_what_was_given_up_is_not_tried_again_by_itself(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.calls[digest(2)] = (100, 60)
        await world.apply("one", baked(2))
        await world.until_state("one", "ERROR")
        await world.until(lambda: served(world) == [1, 1])
        await asyncio.sleep(5)
        world.calls.clear()
        before = world.store.revision, world.get("one"), world.walked("one")
        for _ in range(20):
            world.reconciler.wake("one")
            await asyncio.sleep(1)
        await asyncio.sleep(900)
        assert (world.store.revision, world.get("one"), world.walked("one")) == before
        world.planes[0].kill()
        second = world.plane("cp1")
        await world.until(lambda: second.leads)
        await asyncio.sleep(60)
        assert (served(world), world.state("one")) == ([1, 1], "ERROR")
        assert "120 of 200 calls failed (60.0 %)" in str(before[1])

    simulate(scenario)


def test_the_next_generation_is_given_its_own_time(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.ill.add(digest(2))
        await world.apply("one", baked(2))
        await world.until_state("one", "ERROR")
        await world.apply("one", baked(3))
        await world.until_state("one", "ACTIVE")
        assert world.reason("one", "Baked") == "Unknown:Baking"
        await asyncio.sleep(62)
        status = world.status("one")
        assert status.last_good is not None
        assert status.serving is not None
        assert (status.last_good.generation, status.serving.generation, status.serving.reason) == (3, 3, "Newest")
        assert (served(world), world.reason("one", "Baked")) == ([3, 3], "True:Proved")

    simulate(scenario)


def test_claims_of_both_are_kept_while_it_bakes_and_those_of_the_one_that_serves_afterwards(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        world.inspector.answers[digest(1)] = [route("/old")]
        world.inspector.answers[digest(2)] = [route("/new")]
        await proved(world)
        await world.apply("one", baked(2))
        await world.until_state("one", "ACTIVE")
        await asyncio.sleep(5)
        assert held(world) == {"/old", "/new"}
        world.ill.add(digest(2))
        await world.until_state("one", "ERROR")
        await world.until(lambda: held(world) == {"/old"})

    simulate(scenario)


def test_a_first_generation_has_nothing_to_return_to_and_stays(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        world.ill.add(digest(1))
        await world.apply("one", baked(1))
        await world.until(lambda: world.reason("one", "Baked") == "False:NothingToReturnTo")
        assert (world.state("one"), served(world)) == ("ACTIVE", [1])
        assert world.reason("one", "Ready") == "False:Unhealthy"
        world.ill.clear()
        await world.until(lambda: world.reason("one", "Ready") == "True:Serving")

    simulate(scenario)


def test_what_fails_after_its_time_stays(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.ill.add(digest(1))
        await world.until(lambda: world.reason("one", "Healthy") == "False:Unhealthy")
        await asyncio.sleep(100)
        assert (world.state("one"), served(world)) == ("ACTIVE", [1, 1])

    simulate(scenario)


@pytest.mark.parametrize("seed", range(4))
def test_a_leader_that_dies_meanwhile_changes_nothing_about_the_end(simulate: Simulate, seed: int) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.ill.add(digest(2))
        await world.apply("one", baked(2))
        await asyncio.sleep(world.rng.random())
        world.planes[0].kill()
        world.plane("cp1")
        await world.until_state("one", "ERROR", 120.0)
        await world.until(lambda: served(world) == [1, 1])
        assert world.walked("one").count("ERROR") == 1

    simulate(scenario, seed)


def test_a_deleted_module_that_had_returned_goes(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await proved(world)
        world.ill.add(digest(2))
        await world.apply("one", baked(2))
        await world.until_state("one", "ERROR")
        await world.delete("one")
        await world.until(lambda: world.get("one") is None)
        assert served(world) == []

    simulate(scenario)
