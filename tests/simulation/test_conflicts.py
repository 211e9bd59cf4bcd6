"""Modules that share a namespace, in a simulated world: who keeps which route, and what both sides are told."""

import asyncio

import pytest

from controlplane.store import neighbouring
from tests.doubles.inspectors import digest, module_spec, route
from tests.simulation.conftest import Simulate
from tests.simulation.test_lifecycle import settled
from tests.simulation.world import World

SHARED = {"namespace": "shared"}


def code(world: World, number: int, *routes: object) -> None:
    """What the code of a number registers: paths, or whole routes."""
    world.inspector.answers[digest(number)] = [route(each) if isinstance(each, str) else each for each in routes]  # type: ignore[misc]


async def apply(world: World, name: str, number: int, state: str = "ACTIVE") -> None:
    await world.apply(name, module_spec(number, routing=SHARED))
    await world.until_state(name, state)


def holders(world: World) -> dict[str, str]:
    """Who holds which path."""
    return {claim.path: claim.module for claim in world.store._query(lambda reading: reading.claims())}


def refused(world: World) -> list[tuple[str, str]]:
    found = world.store._query(lambda reading: neighbouring.contests(reading.ask))
    return [(contest.module, contest.path) for contest in found]


def test_a_refusal_is_told_on_both_sides_and_taken_back_with_the_route(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        code(world, 1, "/users/{id}", "/kept")
        code(world, 2, "/users/{name}")
        code(world, 3, "/kept")
        await apply(world, "one", 1)
        await apply(world, "two", 2, "VALIDATED")
        assert world.reason("two", "RoutesAccepted") == "False:RouteConflict"
        await world.until(lambda: world.reason("one", "RoutesContested") == "True:ClaimRefused", 5)
        assert "module two asks for GET /users/{name}" in world.message("one", "RoutesContested")
        assert world.reason("one", "Ready") == "True:Serving"
        assert refused(world) == [("two", "/users/{name}")]

        await world.apply("one", module_spec(3, routing=SHARED))
        await world.until_state("two", "ACTIVE", 5)
        await world.until(lambda: world.reason("one", "RoutesContested") == "", 5)
        assert refused(world) == []
        assert holders(world) == {"/users/{name}": "two", "/kept": "one"}

    simulate(scenario)


@pytest.mark.parametrize("how", ["another route", "deleted", "another namespace", "broken"])
def test_the_owner_is_told_when_nobody_asks_for_its_route_any_more(simulate: Simulate, how: str) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        code(world, 1, "/a")
        code(world, 2, "/a")
        code(world, 3, "/b")
        code(world, 4, "//")
        await apply(world, "one", 1)
        await apply(world, "two", 2, "VALIDATED")
        await world.until(lambda: world.reason("one", "RoutesContested") == "True:ClaimRefused", 5)
        if how == "another route":
            await apply(world, "two", 3)
        elif how == "another namespace":
            await world.apply("two", module_spec(2))
        elif how == "broken":
            await apply(world, "two", 4, "ERROR")
        else:
            await world.delete("two")
        await world.until(lambda: world.reason("one", "RoutesContested") == "", 5)
        assert refused(world) == []

    simulate(scenario)


@pytest.mark.parametrize("adds", ["older", "younger"])
def test_a_route_that_is_added_later_stays_with_its_older_claim(simulate: Simulate, adds: str) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        code(world, 1, "/one")
        code(world, 2, "/two")
        await apply(world, "older", 1)
        await apply(world, "younger", 2)
        owner = "younger" if adds == "older" else "older"
        mine, theirs = ("/one", "/two") if adds == "older" else ("/two", "/one")
        code(world, 3, mine, theirs)
        await apply(world, adds, 3, "VALIDATED")
        assert f"already held by module {owner}" in world.message(adds, "RoutesAccepted")
        status = world.status(adds)
        assert status.serving is not None
        assert status.serving.generation == 1, "the generation that serves is not hurt"

        plane.kill()
        other = world.plane("cp1")
        await world.until(lambda: other.leads)
        await asyncio.sleep(20)
        assert world.reason(adds, "RoutesAccepted") == "False:RouteConflict"
        assert world.reason(owner, "RoutesContested") == "True:ClaimRefused"
        assert holders(world) == {"/one": "older", "/two": "younger"}

        await world.delete(owner)
        await world.until_state(adds, "ACTIVE", 10)
        assert holders(world) == {"/one": adds, "/two": adds}

    simulate(scenario)


def test_an_overlap_is_told_on_both_sides_and_hurts_nobody(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        code(world, 1, "/users/{id}")
        code(world, 2, "/users/me")
        code(world, 3, "/other")
        await apply(world, "wide", 1)
        await apply(world, "narrow", 2)
        assert world.reason("narrow", "RoutesOverlap") == "True:Shadowing"
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "True:Shadowed", 5)
        said = world.message("wide", "RoutesOverlap")
        assert said == (
            "some requests for GET /users/{id} such as /users/me are answered by module narrow (/users/me),"
            " whose route is more specific"
        )
        assert world.reason("wide", "Ready") == world.reason("narrow", "Ready") == "True:Serving"
        await apply(world, "narrow", 3)
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "", 10)
        await world.until(lambda: world.reason("narrow", "RoutesOverlap") == "", 10)
        await apply(world, "narrow", 2)
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "True:Shadowed", 5)
        await world.delete("narrow")
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "", 10)

    simulate(scenario)


def test_an_overlap_that_ends_while_nobody_leads_is_untold_by_the_next(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        code(world, 1, "/{rest:path}")
        code(world, 2, "/a")
        await apply(world, "wide", 1)
        await apply(world, "narrow", 2)
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "True:Shadowed", 5)
        plane.kill()
        await world.delete("narrow")
        other = world.plane("cp1")
        await world.until(lambda: other.leads)
        await world.until_state("narrow", "gone")
        await world.until(lambda: world.reason("wide", "RoutesOverlap") == "", 10)

    simulate(scenario)


def test_what_is_told_of_others_is_written_once(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        code(world, 1, "/{rest:path}", route("/b", "POST"))
        code(world, 2, "/a", route("/b", "POST"))
        code(world, 3, "/a", "/c/{x}")
        await apply(world, "one", 1)
        await apply(world, "two", 2, "VALIDATED")
        await apply(world, "three", 3)
        await asyncio.sleep(20)
        assert world.reason("one", "RoutesContested") == "True:ClaimRefused"
        assert world.reason("three", "RoutesContested") == "True:ClaimRefused", "two asked for its route before it"
        assert refused(world) == [("two", "/b"), ("two", "/a")]
        assert world.reason("one", "RoutesOverlap") == "True:Shadowed"
        before = world.store.revision, plane.store.writes, [world.get(name) for name in ("one", "two", "three")]
        for _ in range(20):
            for name in ("one", "two", "three"):
                world.reconciler.wake(name)
            await asyncio.sleep(0.2)
        await asyncio.sleep(800)
        assert (
            world.store.revision,
            plane.store.writes,
            [world.get(name) for name in ("one", "two", "three")],
        ) == before

    simulate(scenario)


def test_many_neighbours_cost_a_module_a_few_writes_and_few_words(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        code(world, 0, "/{rest:path}")
        await apply(world, "wide", 0)
        for number in range(1, 13):
            code(world, number, f"/p{number}/x")
            await apply(world, f"m{number}", number)
        await world.until(lambda: world.message("wide", "RoutesOverlap").endswith("; and others"), 5)
        before = world.get("wide")
        for number in range(13, 23):
            code(world, number, f"/p{number}/x")
            await apply(world, f"m{number}", number)
        await asyncio.sleep(20)
        assert world.get("wide") == before
        assert len(world.message("wide", "RoutesOverlap")) < 600

    simulate(scenario)
