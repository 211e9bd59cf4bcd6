"""A module's life in a simulated world: each state, what holds it up, what it says."""

import asyncio

from tests.doubles.inspectors import module_spec
from tests.simulation.conftest import Simulate
from tests.simulation.world import World


def test_an_applied_module_walks_to_active_in_two_commits(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = world.plane()
        world.worker()
        world.worker("w1")
        await world.until(lambda: plane.leads)
        await asyncio.sleep(10)
        before = world.store.revision, plane.store.writes
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE", 2.0)
        assert world.walked("one") == ["DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE"]
        status = world.status("one")
        assert (status.workers.desired, status.workers.applied) == (2, 2)
        assert status.serving is not None
        assert world.reason("one", "Ready") == "True:Serving"
        assert [(route.method, route.path, route.auth) for route in status.routes] == [("GET", "/", "BASIC")]
        assert before

    simulate(scenario)
