"""Deletion is a state with a deadline, and always gets through."""

import asyncio
from dataclasses import replace

import pytest

from controlplane import errors
from schemas import names
from schemas.inspections import InspectionOutcome
from tests.doubles.inspectors import digest, module_spec
from tests.simulation.conftest import Simulate
from tests.simulation.test_lifecycle import settled
from tests.simulation.world import World


def test_a_module_goes_when_counted_workers_reported_its_routes_gone(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world, 2)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        before = plane.store.writes
        await world.delete("one")
        await world.until_state("one", "gone", 1)
        assert plane.store.writes - before == 2
        assert world.walked("one")[-1] == "UNREGISTERED"
        assert not any(worker.serving for worker in world.workers)
        assert world.store._query(lambda reading: reading.claims()) == []

    simulate(scenario)


def test_a_silent_worker_holds_it_for_sixty_seconds_and_is_named(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world, 2)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        world.pending.add("one")
        stuck = world.workers[1]
        stuck._apply = lambda key, row: None  # type: ignore[method-assign]
        await world.delete("one")
        await asyncio.sleep(55)
        assert world.reason("one", "Deleting") == "True:Draining"
        assert "worker w1" in world.message("one", "Deleting")
        assert world.reason("one", "Ready") == "False:Draining"
        await world.until_state("one", "gone", 10)
        last = world.events("one")[-1]
        assert (last["to"], last["reason"]) == ("UNREGISTERED", "DeadlinePassed")
        assert "worker w1 did not confirm within 60 s" in last["message"]

    simulate(scenario)


def test_a_lost_worker_holds_nothing_but_is_named(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world, 2)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        world.workers[1].running = False
        await world.delete("one")
        await world.until_state("one", "gone", 15)
        assert "silent: w1" in world.events("one")[-1]["message"]

    simulate(scenario)


def test_foreign_finalizers_hold_the_object_but_not_our_part(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(), finalizers=["example.com/audit"])
        await world.until_state("one", "ACTIVE")
        await world.delete("one")
        await world.until_state("one", "UNREGISTERED", 5)
        record = world.get("one")
        assert record is not None
        assert record.finalizers == ("example.com/audit",)
        assert world.store._query(lambda reading: reading.claims()) == []
        assert "still held by example.com/audit" in world.message("one", "Deleting")
        assert world.walked("one").count("UNREGISTERED") == 1
        await world.edit("one", lambda record: replace(record, finalizers=()))
        await world.until_state("one", "gone", 5)
        assert world.walked("one").count("UNREGISTERED") == 1

    simulate(scenario)


def test_a_foreign_finalizer_may_go_first(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(), finalizers=["example.com/audit"])
        await world.until_state("one", "ACTIVE")
        world.workers[0]._apply = lambda key, row: None  # type: ignore[method-assign]
        await world.delete("one")
        await asyncio.sleep(5)
        await world.edit("one", lambda record: replace(record, finalizers=(names.FINALIZER,)))
        assert world.state("one") == "ACTIVE"
        await world.until_state("one", "gone", 60)

    simulate(scenario)


@pytest.mark.parametrize(
    "trouble", ["error", "rejected", "suspended", "unmet", "no workers", "nats down", "never seen"]
)
def test_deletion_gets_through_from(simulate: Simulate, trouble: str) -> None:
    async def scenario(world: World) -> None:
        spec = module_spec()
        if trouble == "error":
            world.inspector.refuse(digest(1), InspectionOutcome.FAILED, "ImportFailed", "no")
        if trouble == "rejected":
            world.unloadable.add(digest(1))
        if trouble == "suspended":
            spec["suspend"] = True
        if trouble == "unmet":
            spec["dependencies"] = [{"name": "nobody", "version": "*"}]
        if trouble in ("no workers", "nats down"):
            world.nats_up = trouble == "no workers"
            world.plane()
        elif trouble == "never seen":
            await world.apply("one", spec)
            await world.delete("one")
            world.plane()
        else:
            await settled(world)
        if trouble != "never seen":
            await world.apply("one", spec)
            await asyncio.sleep(3)
            await world.delete("one")
        await world.until_state("one", "gone", 65)
        assert world.walked("one")[-1] == "UNREGISTERED"

    simulate(scenario)


def test_deletion_starts_at_once_while_the_module_backs_off(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        broken = True

        async def gate(what: str) -> None:
            if broken and what == "write":
                raise errors.StoreBusy("disk full")

        await world.apply("one", module_spec())
        plane.store.gate = gate
        await world.until(lambda: world.reconciler.queue.failures("one") >= 1, 3)
        broken = False
        world.reconciler.queue._schedule._failing["one"].due += 1000
        world.reconciler.queue._schedule._failing["one"].failures = 12
        await world.delete("one")
        await world.until_state("one", "gone", 2)

    simulate(scenario)


def test_the_deadline_survives_the_leader(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        world.workers[0]._apply = lambda key, row: None  # type: ignore[method-assign]
        await world.delete("one")
        await asyncio.sleep(50)
        plane.kill()
        world.plane("cp1")
        await world.until_state("one", "gone", 20)

    simulate(scenario)


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_the_deadline_survives_a_wrong_wall_clock(simulate: Simulate, skew: float) -> None:
    async def scenario(world: World) -> None:
        world.plane("cp0", skew)
        world.worker()
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        world.workers[0]._apply = lambda key, row: None  # type: ignore[method-assign]
        await world.delete("one")
        await world.until_state("one", "gone", 65)

    simulate(scenario)
