"""Kill, freeze, reorder and flood: rules 1 to 12 under faults, each world repeated by its seed."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import errors
from controlplane.reconcile import examining, loading, looping
from controlplane.reconcile.facts import Facts
from controlplane.reconcile.queueing import Priority
from controlplane.store.readings import Reading
from schemas.meta import Json
from tests.doubles.inspectors import module_spec, route
from tests.doubles.shards import shards
from tests.doubles.virtualloop import VirtualLoop
from tests.simulation.conftest import Simulate
from tests.simulation.test_lifecycle import settled
from tests.simulation.world import World

_MOVES = ("create", "v2", "v3", "delete", "create'")


async def _move(world: World, move: str) -> None:
    if move == "delete":
        await world.delete("one")
        return
    number = {"create": 1, "v2": 2, "v3": 3, "create'": 4}[move]
    try:
        await world.apply("one", module_spec(number))
    except errors.Conflict:
        await world.until_state("one", "gone", 70)
        await world.apply("one", module_spec(number))


def _ends(moves: tuple[str, ...]) -> int | None:
    """Which code serves after the moves; None: nothing."""
    serving = None
    for move in moves:
        serving = None if move == "delete" else {"create": 1, "v2": 2, "v3": 3, "create'": 4}[move]
    return serving


_ORDERS = [order for length in range(1, 6) for order in itertools.permutations(_MOVES, length)]


@pytest.mark.parametrize("shard", shards(4))
def test_every_permutation_and_drop_subset_of_writes_ends_as_the_store_says(simulate: Simulate, shard: int) -> None:
    """All 325 orders of all subsets, each by a module of its own, hasty and patient, in one world per shard."""

    async def scenario(world: World) -> None:
        await settled(world)
        orders = _ORDERS[shard::4]

        async def walk(name: str, moves: tuple[str, ...], pause: float) -> None:
            for move in moves:
                if move == "delete":
                    await world.delete(name)
                else:
                    number = {"create": 1, "v2": 2, "v3": 3, "create'": 4}[move]
                    while True:
                        try:
                            await world.apply(name, module_spec(number))
                            break
                        except errors.Conflict:
                            await asyncio.sleep(0.5)
                await asyncio.sleep(pause)

        names = {f"m{index}": moves for index, moves in enumerate(orders)}
        async with asyncio.TaskGroup() as tasks:
            for index, (name, moves) in enumerate(names.items()):
                tasks.create_task(walk(name, moves, 0.0 if index % 2 else 0.3))
        await world.until(world.converged)
        for name, moves in names.items():
            wanted = _ends(moves)
            record = world.get(name)
            assert (None if record is None else int(record.spec["source"]["digest"][-1])) == wanted

    simulate(scenario, shard)


@pytest.mark.parametrize("seed", shards(6, fast=2))
def test_notifications_may_be_lost_doubled_and_reordered(simulate: Simulate, seed: int) -> None:
    """What the loop hears is only a hint: with changed hearing the world ends the same, at the latest by resync."""

    async def scenario(world: World) -> None:
        plane = world.plane()
        world.worker()
        await world.until(lambda: plane.leads)
        await asyncio.sleep(0.5)
        reconciler = world.reconciler
        heard = reconciler._heard
        kept: list[object] = []

        def distorted(batch: object) -> None:
            kept.append(batch)
            world.rng.shuffle(kept)
            for _ in range(world.rng.choice([0, 0, 1, 2])):
                heard(world.rng.choice(kept))  # type: ignore[arg-type]

        world.store._listeners.clear()
        world.store.listen(distorted)
        for move in ("create", "v2", "v3", "delete", "create'"):
            await _move(world, move) if move == "create'" and world.state("one") == "gone" else await _try(world, move)
            await asyncio.sleep(world.rng.random())
        await asyncio.sleep(100)
        if world.state("one") == "gone":
            await world.apply("one", module_spec(4))
        await world.until(world.converged, 1500)

    async def _try(world: World, move: str) -> None:
        try:
            await asyncio.wait_for(_move(world, move), 30)
        except (errors.Conflict, TimeoutError, AssertionError):
            return

    simulate(scenario, seed)


async def _crash_story(world: World) -> None:
    """A short life with everything in it: two modules, a dependency, an update, a deletion, a recreation."""
    world.inspector.answers[module_spec(9)["source"]["digest"]] = [route("/a"), route("/b", "POST")]
    world.worker()
    world.plane()
    await world.apply("core", module_spec(1))
    await world.apply("one", module_spec(9, dependencies=[{"name": "core", "version": "^1"}]))
    await asyncio.sleep(1.0)
    await world.apply("one", module_spec(3))
    await asyncio.sleep(0.5)
    await world.delete("core")
    await asyncio.sleep(5.0)
    await world.until_state("core", "gone", 80)
    await world.apply("core", module_spec(2))
    await world.until(world.converged, 100)


def _story_turns(simulate: Simulate, seed: int) -> int:
    turns = 0

    async def story(world: World) -> None:
        nonlocal turns
        await _crash_story(world)
        turns = asyncio.get_running_loop().turns  # type: ignore[attr-defined]

    simulate(story, seed)
    return turns


def _crash_at(simulate: Simulate, seed: int, turn: int) -> None:
    state = {"killed": False}

    def strike(loop: VirtualLoop, world: World) -> None:
        if loop.turns < turn or state["killed"] or not world.planes:
            return
        state["killed"] = True
        world.planes[0].kill()
        loop.call_soon(lambda: world.plane("cp1"))

    async def story(world: World) -> None:
        await _crash_story(world)
        walked = world.walked("one")
        assert walked[0] == "DISCOVERED"
        assert walked[-1] == "ACTIVE"

    try:
        simulate(story, seed, strike)
    except BaseException as error:
        error.add_note(f"killed at turn {turn}")
        raise


@pytest.mark.parametrize("shard", shards(4))
def test_a_kill_after_every_await_converges_without_a_missing_event(simulate: Simulate, shard: int) -> None:
    """The loop's turns of the story's busy seconds are walked through; every one of them is a place to die."""
    total = _story_turns(simulate, 5)
    step = max(total // 80, 1)
    for turn in range(1 + shard * step, total, 4 * step):
        _crash_at(simulate, 5, turn)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(8))
def test_a_kill_after_literally_every_turn_converges(simulate: Simulate, shard: int) -> None:
    for turn in range(1 + shard, _story_turns(simulate, 5), 8):
        _crash_at(simulate, 5, turn)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 20), at=st.floats(0, 1))
def test_a_kill_at_any_point_of_any_order_converges(simulate: Simulate, seed: int, at: float) -> None:
    _crash_at(simulate, seed, int(40 + at * 1200))


_STEPS = ("read", "have", "write", "written")


@pytest.mark.parametrize("nth", shards(24, fast=6))
def test_a_leader_frozen_at_any_await_past_its_lease_hits_no_row(simulate: Simulate, nth: int) -> None:
    async def scenario(world: World) -> None:
        world.with_lock = bool(nth % 2)
        old = world.plane("cp0")
        world.worker()
        await world.until(lambda: old.leads)
        await asyncio.sleep(3)
        frozen, thaw = asyncio.Event(), asyncio.Event()
        seen = 0

        async def gate(what: str) -> None:
            nonlocal seen
            seen += 1
            if seen > nth:
                frozen.set()
                await thaw.wait()

        await world.apply("one", module_spec(1))
        await world.apply("two", module_spec(2))
        old.store.gate = gate
        await asyncio.wait_for(frozen.wait(), 60)
        new = world.plane("cp1")
        world.locks.clear()
        await world.until(lambda: new.leads, 20)
        epoch = new.leadership.epoch
        await world.until(world.converged, 60)
        await world.apply("one", module_spec(3))
        await world.until(world.converged, 60)
        await asyncio.sleep(2 * looping.RECOUNT_AFTER)
        before = world.get("one"), world.get("two"), world.store._query(lambda reading: reading.desired())
        old.store.gate = None
        thaw.set()
        await asyncio.sleep(5)
        assert (world.get("one"), world.get("two"), world.store._query(lambda reading: reading.desired())) == before
        assert not old.leads
        assert new.leadership.epoch == epoch
        assert all(row.epoch <= epoch for row in before[2])

    simulate(scenario, nth)


def test_a_thawed_leader_s_write_is_refused_by_its_epoch_alone(simulate: Simulate) -> None:
    """Nobody has touched the object since it was read: only the epoch stands in the way."""

    async def scenario(world: World) -> None:
        old = world.plane("cp0")
        await world.until(lambda: old.leads)
        await asyncio.sleep(1)
        frozen, thaw, new_may_act = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def freeze(what: str) -> None:
            if what == "write":
                old.store.gate = hold
                frozen.set()
                await thaw.wait()

        async def hold(what: str) -> None:
            await thaw.wait()

        async def wait_for_its_turn(what: str) -> None:
            if new.leads:
                await new_may_act.wait()

        old.store.gate = freeze
        stored = await world.apply("one", module_spec(1))
        await asyncio.wait_for(frozen.wait(), 10)
        new = world.plane("cp1")
        new.store.gate = wait_for_its_turn
        world.locks.clear()
        await world.until(lambda: new.leads, 20)
        old.store.gate = None
        thaw.set()
        await asyncio.sleep(1)
        assert world.get("one") == stored
        assert world.store._query(lambda reading: reading.desired()) == []
        new_may_act.set()
        world.worker()
        await world.until(world.converged, 60)

    simulate(scenario)


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_wall_clocks_an_hour_apart_bring_no_early_take_over(simulate: Simulate, skew: float) -> None:
    async def scenario(world: World) -> None:
        world.with_lock = False
        first = world.plane("cp0")
        await world.until(lambda: first.leads)
        second = world.plane("cp1", skew)
        await asyncio.sleep(120)
        assert first.leads
        assert not second.leads
        await first.stop()
        await world.until(lambda: second.leads, 3)

    simulate(scenario)


def test_a_user_s_edit_overtakes_ten_thousand_resyncs(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        await world.apply("edited", module_spec(1))
        await world.until_state("edited", "ACTIVE")
        reconciler = world.reconciler
        for number in range(10_000):
            reconciler.queue.add(f"gone{number}", Priority.RESYNC)
        before = world.clock.monotonic()
        await world.apply("edited", module_spec(2))
        await world.until(lambda: world.status("edited").observed_generation == 2, 2)
        await world.until_state("edited", "ACTIVE", 2)
        assert world.clock.monotonic() - before < 1.0
        assert len(reconciler.queue) > 5000
        assert plane.leads

    simulate(scenario)


def test_resyncs_are_spread_over_their_interval(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        for number in range(40):
            await world.apply(f"m{number}", module_spec(1))
        await world.until(world.converged)
        await asyncio.sleep(1)
        due = sorted(world.reconciler.queue.retry_in(f"m{number}") or 0.0 for number in range(40))
        assert due[0] > 460
        assert due[-1] < 721
        assert due[-1] - due[0] > 120

    simulate(scenario)


def test_an_exception_in_one_turn_costs_nobody_else_anything(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = loading.read

    def failing(reading: Reading, name: str, now: datetime, examiner: examining.Examiner) -> Facts | None:
        if name == "bad":
            raise RuntimeError("a bug")
        return read(reading, name, now, examiner)

    async def scenario(world: World) -> None:
        plane = await settled(world)
        with monkeypatch.context() as patch:
            patch.setattr(loading, "read", failing)
            await world.apply("bad", module_spec(1))
            await world.apply("good", module_spec(1))
            await world.until_state("good", "ACTIVE", 5)
            await asyncio.sleep(300)
            assert 8 <= world.reconciler.queue.failures("bad") <= 30
        await world.apply("bad", module_spec(2))
        await world.until_state("bad", "ACTIVE", 1)
        assert plane.leads

    simulate(scenario)


def test_a_turn_that_hangs_is_given_up_and_tried_again(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await settled(world)
        reconciler = world.reconciler
        load, hung = reconciler._load, 0

        async def hanging(names: Sequence[str]) -> loading.Loaded:
            nonlocal hung
            if hung < 1:
                hung += 1
                await asyncio.Event().wait()
            return await load(names)

        reconciler._load = hanging  # type: ignore[method-assign]
        await world.apply("one", module_spec(1))
        await asyncio.sleep(29)
        assert world.state("one") == "DISCOVERED"
        await world.until_state("one", "ACTIVE", 5)

    simulate(scenario)


def test_a_database_that_is_away_for_a_minute_loses_nothing(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        plane = await settled(world)
        await world.apply("one", module_spec(1))
        await world.until_state("one", "ACTIVE")
        plane.store.cut_off = True
        await world.apply("one", module_spec(2))
        await asyncio.sleep(60)
        assert not plane.leads
        plane.store.cut_off = False
        await world.until(world.converged, 60)
        assert world.status("one").observed_generation == 2

    simulate(scenario)


@pytest.mark.parametrize("seed", shards(4, fast=2))
def test_a_random_life_of_many_modules_converges(simulate: Simulate, seed: int) -> None:
    async def scenario(world: World) -> None:
        world.plane("cp0")
        world.worker("w0")
        world.worker("w1", zone="eu")
        for _ in range(60):
            name = f"m{world.rng.randrange(6)}"
            what = world.rng.random()
            try:
                if what < 0.6:
                    await world.apply(name, _random_spec(world))
                elif what < 0.8:
                    await world.delete(name)
                elif what < 0.87:
                    world.planes[-1].kill()
                    world.plane(f"cp{len(world.planes)}")
                elif what < 0.93:
                    world.nats_up = not world.nats_up
                else:
                    worker = world.rng.choice(world.workers)
                    worker.boot, worker.applied = f"b{world.rng.random()}", {}
                    worker.serving = {}
            except errors.Conflict:
                pass
            await asyncio.sleep(world.rng.random() ** 4 * 20)
            world.check()
        world.nats_up = True
        await world.until(lambda: world.converged() or _waits_only(world), 900)

    def _random_spec(world: World) -> Json:
        spec = module_spec(world.rng.randrange(1, 5))
        if world.rng.random() < 0.3:
            spec["routing"] = {"namespace": f"n{world.rng.randrange(2)}"}
        return spec

    def _waits_only(world: World) -> bool:
        """Whether whoever does not serve waits for a route that another one has."""
        records = world.store._query(lambda reading: reading.list("Module"))
        return all(
            world.state(record.name) == "ACTIVE" or world.reason(record.name, "RoutesAccepted").endswith("Conflict")
            for record in records
        )

    simulate(scenario, seed)
