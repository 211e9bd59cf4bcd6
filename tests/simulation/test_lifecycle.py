"""A module's life in a simulated world: each state, what holds it up, what it says."""

import asyncio
import contextlib
import sqlite3
from dataclasses import replace

import pytest

from controlplane.reconcile import examining
from controlplane.store.transactions import Transaction
from schemas import names
from schemas.inspections import InspectionOutcome
from schemas.policies import AuthLevel, AuthRequirement
from tests.doubles.inspectors import digest, module_spec, route
from tests.simulation.conftest import Simulate
from tests.simulation.world import ControlPlane, World


async def settled(world: World, workers: int = 1) -> ControlPlane:
    """A world that has led and reported for a while."""
    plane = world.plane()
    for number in range(workers):
        world.worker(f"w{number}")
    await world.until(lambda: plane.leads)
    await asyncio.sleep(12)
    return plane


def test_an_applied_module_walks_to_active_in_two_commits(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world, 2)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE", 1.0)
        assert plane.store.writes == 2
        assert world.walked("one") == ["DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE"]
        status = world.status("one")
        assert (status.workers.desired, status.workers.applied) == (2, 2)
        assert status.serving is not None
        assert status.serving.generation == 1
        assert world.reason("one", "Ready") == "True:Serving"
        assert [(one.method, one.path, one.auth) for one in status.routes] == [("GET", "/", "BASIC")]

    simulate(scenario)


@pytest.mark.slow
def test_one_hundred_resyncs_of_a_converged_module_write_nothing(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        before = world.store.revision, plane.store.writes, world.get("one")
        for _ in range(100):
            world.reconciler.wake("one")
            await asyncio.sleep(0.2)
        await asyncio.sleep(3_000)
        assert (world.store.revision, plane.store.writes, world.get("one")) == before

    simulate(scenario)


def test_an_edit_between_read_and_status_write_survives(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        held, go = asyncio.Event(), asyncio.Event()

        async def gate(what: str) -> None:
            if what == "write" and plane.store.writes >= 1 and not held.is_set():
                held.set()
                await go.wait()

        await world.apply("one", module_spec())
        await world.until_state("one", "REGISTERED", 1.0)
        plane.store.gate = gate
        await asyncio.wait_for(held.wait(), 10)
        plane.store.gate = None
        await world.apply("one", module_spec(2))
        go.set()
        await asyncio.sleep(0.02)
        record = world.get("one")
        assert record is not None
        assert (record.generation, record.spec["source"]["digest"]) == (2, digest(2))
        await world.until_state("one", "ACTIVE")
        assert world.status("one").observed_generation == 2
        assert [row.generation for row in world.workers[0].serving.values()] == [2]

    simulate(scenario)


def test_status_says_which_generation_it_observed(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        stored = await world.apply("one", module_spec(2))
        assert world.status("one").observed_generation == 1
        assert world.status("one").state == "DISCOVERED"
        assert stored.generation == 2
        await world.until_state("one", "ACTIVE")
        assert all(condition.observed_generation == 2 for condition in world.status("one").conditions)

    simulate(scenario)


def test_a_recreated_name_is_a_newcomer(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        old = await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        await world.delete("one")
        await world.until_state("one", "gone", 10)
        new = await world.apply("one", module_spec(2))
        assert new.uid != old.uid
        await world.until_state("one", "ACTIVE", 2)
        assert world.walked("one", old.uid)[-1] == "UNREGISTERED"
        assert world.walked("one", new.uid) == ["DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE"]
        assert [row.uid for row in world.workers[0].serving.values()] == [new.uid]

    simulate(scenario)


def test_an_old_reconcile_that_sleeps_over_a_recreation_leaves_the_newcomer_alone(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        held, go = asyncio.Event(), asyncio.Event()

        async def gate(what: str) -> None:
            rows = world.store._query(lambda reading: reading.desired())
            if what == "write" and not held.is_set() and rows[0].deleted:
                held.set()
                await go.wait()

        plane.store.gate = gate
        await world.delete("one")
        await asyncio.wait_for(held.wait(), 10)
        await world.store.write(lambda tx: tx.remove(tx.get("Module", "one")))  # type: ignore[arg-type]
        new = await world.apply("one", module_spec(2))
        plane.store.gate = None
        await asyncio.sleep(1)
        go.set()
        await world.until_state("one", "ACTIVE", 5)
        record = world.get("one")
        assert record is not None
        assert (record.uid, record.deleting) == (new.uid, False)
        assert names.FINALIZER in record.finalizers

    simulate(scenario)


def test_code_that_cannot_be_found_says_where_to_put_it(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", {"entryPoint": "mod:Module", "source": {"path": "mod"}})
        await world.until_state("one", "ERROR")
        assert world.reason("one", "Stalled") == "True:SourceNotFound"
        assert "put mod.py or a folder mod/ there" in world.message("one", "Valid")
        assert world.walked("one") == ["DISCOVERED", "ERROR"]
        await world.apply("one", module_spec())
        await world.until_state("one", "ACTIVE")
        assert world.reason("one", "Stalled") == ""

    simulate(scenario)


def test_wrong_code_is_inspected_once_and_keeps_the_last_good_generation(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        world.inspector.refuse(digest(2), InspectionOutcome.FAILED, "ImportFailed", "mod.py:7: no module named x")
        await world.apply("one", module_spec(2))
        await world.until_state("one", "ERROR")
        assert world.reason("one", "Valid") == "False:ImportFailed"
        assert world.message("one", "Stalled") == "mod.py:7: no module named x"
        asked = world.inspector.asked.total()
        for _ in range(20):
            world.reconciler.wake("one")
            await asyncio.sleep(1)
        await asyncio.sleep(1500)
        assert world.inspector.asked.total() == asked
        assert [row.generation for row in world.workers[0].serving.values()] == [1]
        serving = world.status("one").serving
        assert serving is not None
        assert serving.generation == 1
        await world.apply("one", module_spec(1, description="back"))
        await world.until_state("one", "ACTIVE")

    simulate(scenario)


@pytest.mark.parametrize("outcome", [InspectionOutcome.TIMED_OUT, InspectionOutcome.CRASHED])
def test_an_inspection_without_an_answer_is_tried_three_times(simulate: Simulate, outcome: InspectionOutcome) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        world.inspector.refuse(digest(1), outcome, "InspectionTimedOut", "the code did not finish importing in 10 s")
        await world.apply("one", module_spec(1))
        await world.until(lambda: "attempt 1 of 3" in world.message("one", "Valid"))
        assert world.state("one") == "DISCOVERED"
        await world.until_state("one", "ERROR")
        assert world.inspector.asked.total() == 3
        assert "after 3 attempts" in world.message("one", "Stalled")
        plane.kill()
        world.plane("cp1")
        await world.until(lambda: world.leader is not None)
        await asyncio.sleep(700)
        assert world.inspector.asked.total() == 3
        world.inspector.answers.clear()
        await world.apply("one", module_spec(1, description="once more"))
        await world.until_state("one", "ACTIVE")

    simulate(scenario)


def test_a_broken_inspector_is_not_held_against_the_module(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        world.inspector.answers[digest(1)] = OSError("no more processes")
        await world.apply("one", module_spec(1))
        await world.until(lambda: world.inspector.asked.total() >= 5, 600)
        assert world.state("one") == "DISCOVERED"
        assert "no more processes" in world.message("one", "Valid")
        world.inspector.answers.clear()
        await world.until_state("one", "ACTIVE")

    simulate(scenario)


def test_two_modules_of_one_code_share_one_inspection(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        for name in ("one", "two", "three"):
            await world.apply(name, module_spec())
        for name in ("one", "two", "three"):
            await world.until_state(name, "ACTIVE")
        assert world.inspector.asked.total() == 1

    simulate(scenario)


@pytest.mark.parametrize(
    ("seconds", "busiest"), [(examining.HOLD / 2, examining.AT_ONCE), (examining.HOLD * 6, examining.AT_ONCE + 4)]
)
def test_only_so_many_quick_inspections_run_at_a_time_and_slow_ones_are_told_and_hold_up_nobody(
    simulate: Simulate, seconds: float, busiest: int
) -> None:
    numbers = range(1, examining.AT_ONCE + 5)

    async def scenario(world: World) -> None:
        await settled(world)
        for number in numbers:
            await world.apply(f"m{number}", module_spec(number))
        if seconds > examining.HOLD:
            await world.until(lambda: world.reason(f"m{numbers[-1]}", "Valid") == "Unknown:Inspecting")
        for number in numbers:
            await world.until_state(f"m{number}", "ACTIVE")
        assert world.inspector.busiest == busiest

    simulate(scenario, inspection_seconds=seconds)


def test_a_route_that_another_module_holds_is_refused_and_had_when_it_is_released(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        world.inspector.answers[digest(1)] = [route("/users/{id}"), route("/old")]
        world.inspector.answers[digest(2)] = [route("/users/{name}")]
        world.inspector.answers[digest(3)] = [route("/other")]
        routing = {"namespace": "shared"}
        await world.apply("one", module_spec(1, routing=routing))
        await world.until_state("one", "ACTIVE")
        await world.apply("two", module_spec(2, routing=routing))
        await world.until(lambda: world.reason("two", "RoutesAccepted") == "False:RouteConflict")
        assert world.state("two") == "VALIDATED"
        assert "already held by module one" in world.message("two", "RoutesAccepted")
        await world.apply("one", module_spec(3, routing=routing))
        await world.until_state("two", "ACTIVE", 5)
        await world.apply("three", module_spec(3, routing=routing))
        await world.until(lambda: world.reason("three", "RoutesAccepted") == "False:RouteConflict")
        await world.delete("one")
        await world.until_state("three", "ACTIVE", 10)

    simulate(scenario)


def test_claims_of_the_old_generation_are_kept_until_no_worker_serves_it(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        world.inspector.answers[digest(1)] = [route("/a")]
        world.inspector.answers[digest(2)] = [route("/b")]
        routing = {"namespace": "shared"}
        await world.apply("one", module_spec(1, routing=routing))
        await world.until_state("one", "ACTIVE")
        world.pending.add("one")
        await world.apply("one", module_spec(2, routing=routing))
        await world.until_state("one", "REGISTERED")
        await world.apply("two", module_spec(1, routing=routing))
        await world.until(lambda: world.reason("two", "RoutesAccepted") == "False:RouteConflict")
        assert "StartFailed" in world.message("one", "Programmed")
        world.pending.clear()
        world.workers[0].applied.clear()
        await world.until_state("two", "ACTIVE", 10)

    simulate(scenario)


@pytest.mark.parametrize(
    ("routes", "reason", "says"),
    [
        ([route("/health")], "ReservedRoute", "answered by the gateway itself"),
        ([route("/a/{x}"), route("/a/{y}")], "DuplicateRoute", "registered twice"),
        ([route("//a", location="mod.py:9")], "InvalidRoute", "mod.py:9"),
        ([route("a")], "InvalidRoute", "starts with '/'"),
        ([route("/a", "")], "InvalidRoute", "names no HTTP method"),
        (
            [route("/a", auth=AuthRequirement(level=AuthLevel.PERMISSION, permissions=["reed"]))],
            "PermissionNotDeclared",
            "did you mean 'read'?",
        ),
    ],
)
def test_routes_outside_the_rules_are_refused_for_good(
    simulate: Simulate, routes: list[object], reason: str, says: str
) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        world.inspector.answers[digest(1)] = routes  # type: ignore[assignment]
        await world.apply("one", module_spec(1, permissions=["read"]))
        await world.until_state("one", "ERROR")
        assert world.reason("one", "RoutesAccepted") == f"False:{reason}"
        assert world.reason("one", "Valid") == "True:Inspected"
        assert says in world.message("one", "Stalled")
        assert world.walked("one") == ["DISCOVERED", "VALIDATED", "ERROR"]

    simulate(scenario)


def test_a_dependency_is_waited_for_and_wakes_its_dependents(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        needs = [{"name": "core_users", "version": ">=1.2 <2"}]
        await world.apply("one", module_spec(1, dependencies=needs))
        await world.until(lambda: world.reason("one", "DependenciesReady") == "False:DependencyMissing")
        assert world.state("one") == "VALIDATED"
        await world.apply("core-users", module_spec(2, version="1.1.0"))
        await world.until(lambda: world.reason("one", "DependenciesReady") == "False:DependencyVersion", 5)
        assert "core-users >=1.2 <2; it serves 1.1.0" in world.message("one", "DependenciesReady")
        await world.apply("core-users", module_spec(2, version="1.3.0"))
        await world.until_state("one", "ACTIVE", 5)
        await world.delete("core-users")
        await world.until(lambda: world.reason("one", "DependenciesReady") == "False:DependencyMissing", 10)
        assert world.state("one") == "ACTIVE"
        assert set(world.workers[0].serving) == {"one"}

    simulate(scenario)


def test_a_circle_of_dependencies_is_printed_as_a_path(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        for name, needs in (("a", "b"), ("b", "c"), ("c", "a")):
            await world.apply(name, module_spec(1, dependencies=[{"name": needs, "version": "*"}]))
        await world.until_state("a", "ERROR")
        assert "a → b → c → a" in world.message("a", "Stalled")
        await world.until_state("b", "ERROR")
        await world.apply("c", module_spec(1))
        for name in "abc":
            await world.until_state(name, "ACTIVE", 5)

    simulate(scenario)


def test_suspend_freezes_roll_out_and_nothing_else(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        await world.apply("one", module_spec(2, suspend=True))
        await world.until_state("one", "VALIDATED")
        assert world.reason("one", "Suspended") == "True:SuspendedBySpec"
        assert world.reason("one", "Ready") == "False:Suspended"
        await asyncio.sleep(700)
        assert [row.generation for row in world.workers[0].serving.values()] == [1]
        await world.apply("one", module_spec(2))
        await world.until_state("one", "ACTIVE")
        assert world.reason("one", "Suspended") == ""
        await world.apply("one", module_spec(3, suspend=True))
        await world.delete("one")
        await world.until_state("one", "gone", 10)
        assert not world.workers[0].serving

    simulate(scenario)


def test_a_rejection_by_a_worker_is_an_error_that_names_it(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        world.unloadable.add(digest(2))
        await world.apply("one", module_spec(2))
        await world.until_state("one", "ERROR")
        assert world.reason("one", "Programmed") == "False:Rejected"
        assert world.reason("one", "Stalled") == "True:ImportFailed"
        message = world.message("one", "Stalled")
        assert "worker w0 rejected generation 2: mod.py:3: no such name" in message
        assert "the last good generation keeps serving" in message
        status = world.status("one")
        assert (status.workers.applied, status.workers.rejected) == (0, 1)
        assert status.serving is not None
        assert status.serving.generation == 1
        await world.apply("one", module_spec(3))
        await world.until_state("one", "ACTIVE")

    simulate(scenario)


def test_programmed_latches_over_joins_restarts_and_losses(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        since = [c.last_transition_time for c in world.status("one").conditions if c.type == "Programmed"]
        late = world.worker("w1")
        late.synced = False
        await world.until(lambda: world.status("one").workers.joining == 1)
        late.synced = True
        late.report()
        await world.until(lambda: world.status("one").workers.applied == 2)
        world.workers[0].running = False
        await world.until(lambda: world.status("one").workers.lost == 1)
        assert world.state("one") == "ACTIVE"
        assert world.walked("one")[-1] == "ACTIVE"
        assert since == [c.last_transition_time for c in world.status("one").conditions if c.type == "Programmed"]
        leader = world.leader
        assert leader is not None
        leader.fleet.gone("w0")
        await world.until(lambda: world.status("one").workers.lost == 0)

    simulate(scenario)


def test_no_workers_is_said_once_and_only_over_a_proven_channel(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        world.nats_up = False
        await asyncio.sleep(300)
        assert world.state("one") == "ACTIVE"
        assert world.status("one").workers.lost == 0
        world.workers[0].running = False
        world.nats_up = True
        await asyncio.sleep(25)
        assert world.state("one") == "ACTIVE"
        await world.until_state("one", "REGISTERED", 30)
        assert world.reason("one", "Programmed") == "False:NoWorkers"
        assert "lost: w0" in world.message("one", "Programmed")
        await asyncio.sleep(700)
        assert world.walked("one")[-2:] == ["ACTIVE", "REGISTERED"]
        world.workers[0].running = True
        await world.until_state("one", "ACTIVE", 10)

    simulate(scenario)


def test_a_module_without_any_worker_waits_and_says_so(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        world.nats_up = False
        world.plane()
        await world.apply("one", module_spec(1))
        await world.until_state("one", "REGISTERED")
        await asyncio.sleep(100)
        assert world.reason("one", "Programmed") == "Unknown:ReportsUnproven"
        world.nats_up = True
        await world.until(lambda: world.reason("one", "Programmed") == "Unknown:AwaitingWorkers", 10)
        await world.until(lambda: world.reason("one", "Programmed") == "False:NoWorkers", 35)
        assert [event["reason"] for event in world.events("one")].count("NoWorkers") == 1
        loading = world.worker("w0")
        loading.synced = False
        await asyncio.sleep(5)
        assert world.status("one").workers.joining == 1
        loading.synced = True
        await world.until_state("one", "ACTIVE", 10)

    simulate(scenario)


def test_a_selector_that_matches_nothing_is_told(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        selector = {"workerSelector": {"zone": "eu"}}
        await world.apply("one", module_spec(1, placement=selector))
        await world.until(lambda: world.reason("one", "Programmed") == "False:NoMatchingWorker", 5)
        assert "MODPLANE_WORKER_LABELS=zone=eu" in world.message("one", "Programmed")
        assert world.state("one") == "REGISTERED"
        world.worker("w1", zone="eu")
        await world.until_state("one", "ACTIVE", 10)
        assert world.status("one").workers.desired == 1

    simulate(scenario)


def test_a_refused_row_edit_stalls_the_module_and_leaves_it_serving(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        with contextlib.closing(sqlite3.connect(str(world.store._doors.url.database))) as connection:
            connection.execute("UPDATE analytics_modules SET entry_point = 'nonsense' WHERE id = 'one'")
            connection.commit()

        def settle(tx: Transaction) -> None:
            for edit in tx.row_edits(9):
                tx.settle_row_edit(edit, "no ':' in it")

        await world.store.write(settle)
        world.reconciler.wake("one")
        await world.until_state("one", "ERROR", 5)
        assert world.reason("one", "Stalled") == "True:RowRejected"
        assert "no ':' in it" in world.message("one", "Stalled")
        assert world.reason("one", "Programmed") == "True:Applied"
        assert set(world.workers[0].serving) == {"one"}

    simulate(scenario)


def test_a_spec_that_cannot_be_read_is_an_error(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", {"entryPoint": 7})
        await world.until_state("one", "ERROR")
        assert world.reason("one", "Stalled") == "True:SpecInvalid"
        assert "/spec/entryPoint" in world.message("one", "Stalled")
        await world.delete("one")
        await world.until_state("one", "gone", 10)

    simulate(scenario)


def test_a_status_that_somebody_broke_is_made_anew(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        await world.edit("one", lambda record: replace(record, status={"state": "NONSENSE"}))
        world.reconciler.wake("one")
        await world.until(lambda: world.get("one").status.get("state") == "ACTIVE", 5)  # type: ignore[union-attr]

    simulate(scenario)
