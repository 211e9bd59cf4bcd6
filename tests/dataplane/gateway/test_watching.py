"""The watchdog names the module that holds the serving loop, and nobody who merely happened to be there."""

import asyncio
import contextlib
import faulthandler
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter

from dataplane.gateway import dispatching, hosting, pages, serving, watching
from dataplane.gateway.watching import Block, Place, Sample, Watchdog
from schemas.kits.clocks import SystemClock
from tests.doubles.asgi import call
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until_sync

HEX = "0" * 64
OWN = [Place("/lib/time.py", 1, "sleep"), Place(f"/data/code/{HEX}/shop/views.py", 12, "slow")]
HOST = [Place("/site-packages/dataplane/gateway/hosting.py", 3, "close")]


class Thread(watching.LoopThread):
    """The loop's thread as the test says."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.spent = (0.0, 0.0)

    def times(self) -> tuple[float, float]:
        return self.spent

    def sample(self) -> Sample:
        return self.samples.pop(0)

    def call_soon(self, step: Any) -> None:
        raise AssertionError("the test turns the loop")


class Trap(watching.Trap):
    """A fault handler as the test says."""

    def __init__(self) -> None:
        self.stacks: list[watching.Stack] = []

    def take(self) -> Sequence[watching.Stack]:
        taken, self.stacks = self.stacks, []
        return taken

    def set(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Rig:
    def __init__(self, now: Any) -> None:
        self.clock = FakeClock()
        self.thread = Thread()
        self.trap = Trap()
        self.told: list[Block] = []
        self.ended: list[int] = []
        self.host = hosting.Host()
        self.served = serving.serve(FakeInstance(lambda router: None), now)
        self.host.snapshot = self.host.snapshot.with_module(self.served)
        self.dog = Watchdog(
            self.host,
            self.thread,
            self.clock,
            told=self.told.append,
            trap=self.trap,
            end=self.ended.append,
        )

    async def held(self, *samples: Sample, seconds: float = 1.25) -> None:
        """The loop does not turn; one look each quarter of a second."""
        self.thread.samples += samples
        for _ in range(int(seconds / 0.25)):
            await self.clock.advance(0.25)
            self.dog.look()

    async def turns(self) -> None:
        """The loop turns again."""
        self.dog.turn()
        await self.clock.advance(0.25)
        self.dog.look()


@pytest.fixture
async def rig(now: Any) -> Rig:
    return Rig(now)


def sample(task: object = "t", point: object = 1, ran: float = 0.0, waited: float = 0.0, stack: Any = OWN) -> Sample:
    return Sample(task, point, ran, waited, stack)


async def test_a_task_that_waits_at_one_place_is_to_blame(rig: Rig) -> None:
    await rig.held(*[sample()] * 4)
    (block,) = rig.told
    assert (block.module, block.uid, block.generation) == ("shop", "u1", 1)
    assert block.digest == f"sha256:{HEX}"
    assert block.place == "shop/views.py:12 in slow"
    assert block.seconds == pytest.approx(1.0)
    assert rig.dog.wire()["last"] == [block.wire()]


async def test_the_module_whose_call_the_task_is_is_named_whatever_the_stack_shows(rig: Rig, now: Any) -> None:
    task: Any = object()
    other = serving.serve(FakeInstance(lambda router: None, name="other", uid="u2"), now)
    other.tasks.add(task)
    rig.host.snapshot = rig.host.snapshot.with_module(other)
    await rig.held(*[sample(task)] * 4)
    assert [block.module for block in rig.told] == ["other"]


async def test_a_task_that_computes_is_to_blame(rig: Rig) -> None:
    moments = [sample(point=number, ran=number * 0.25) for number in range(4)]
    await rig.held(*moments)
    assert [block.module for block in rig.told] == ["shop"]


async def test_a_task_that_computes_on_a_crowded_machine_is_to_blame_a_little_later(rig: Rig) -> None:
    moments = [sample(point=n, ran=n * 0.05, waited=n * 0.2) for n in range(20)]
    await rig.held(*moments[:4])
    assert not rig.told
    await rig.held(*moments[4:10], seconds=1.0)
    (block,) = rig.told
    assert block.module == "shop"
    assert block.seconds == pytest.approx(1.75)


async def test_a_thread_that_the_machine_does_not_let_run_is_not_to_blame_for_standing_still(rig: Rig) -> None:
    await rig.held(*(sample(waited=number * 0.25) for number in range(4)))
    assert not rig.told


async def test_a_loop_that_rests_is_not_to_blame(rig: Rig) -> None:
    await rig.held(*[sample(task=None, stack=HOST)] * 4)
    assert not rig.told


async def test_a_loop_that_is_only_loaded_blames_nobody(rig: Rig) -> None:
    await rig.held(*(sample(task=number, point=number, ran=number) for number in range(4)))
    assert not rig.told
    assert rig.dog.count == 0


async def test_a_task_that_others_keep_from_running_is_not_to_blame(rig: Rig) -> None:
    await rig.held(*(sample(point=number, ran=number * 0.02) for number in range(4)))
    assert not rig.told


async def test_a_block_is_told_once_and_the_next_one_again(rig: Rig) -> None:
    await rig.held(*[sample()] * 20, seconds=5)
    assert len(rig.told) == 1
    rig.thread.samples.clear()
    await rig.turns()
    await rig.held(*[sample()] * 20, seconds=2)
    assert rig.dog.count == 2


async def test_a_loop_that_turns_is_left_alone(rig: Rig) -> None:
    for _ in range(20):
        await rig.turns()
    assert not rig.told


async def test_the_hosts_own_code_is_told_without_a_module(rig: Rig) -> None:
    await rig.held(*[sample(stack=HOST)] * 4)
    (block,) = rig.told
    assert (block.module, block.digest) == ("", "")
    assert block.place == "/site-packages/dataplane/gateway/hosting.py:3 in close"


async def test_a_loop_that_does_not_come_back_ends_the_process(rig: Rig) -> None:
    await rig.held(*[sample()] * 200, seconds=29.75)
    assert not rig.ended
    await rig.held(seconds=0.25)
    assert rig.ended == [watching.LOST]


async def test_who_held_the_interpreter_is_read_from_the_trap(rig: Rig) -> None:
    rig.trap.stacks = [OWN, HOST]
    rig.thread.spent = (1.1, 1.5)
    await rig.clock.advance(3)
    rig.dog.look()
    (block,) = rig.told
    assert (block.module, block.place) == ("shop", "shop/views.py:12 in slow")
    assert block.seconds == pytest.approx(2.75)
    await rig.turns()
    assert len(rig.told) == 1


@pytest.mark.parametrize("spent", [(0.0, 0.0), (0.9, 5.0)], ids=["stopped", "another"])
async def test_an_interpreter_that_others_held_blames_nobody(rig: Rig, spent: tuple[float, float]) -> None:
    rig.trap.stacks = [HOST, OWN]
    rig.thread.spent = spent
    await rig.clock.advance(100)
    rig.dog.look()
    await rig.held(seconds=0.25)
    assert not rig.told
    assert not rig.ended
    assert not rig.trap.stacks


async def test_what_ended_the_process_before_is_told_by_its_code(rig: Rig) -> None:
    rig.host.snapshot = rig.host.snapshot.without("shop")
    rig.trap.stacks = [OWN]
    rig.dog._ended.set()
    rig.dog.start()
    rig.dog.stop()
    (block,) = rig.told
    assert (block.module, block.digest, block.place) == ("", f"sha256:{HEX}", "shop/views.py:12 in slow")


# --- the real thing


class Serving:
    """A gateway with its loop in a thread of its own."""

    def __init__(self, now: Any) -> None:
        self.now = now
        self.inside, self.release = threading.Event(), threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.host, self.app, self.seen = self.run(self._make())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def call(self) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(call(self.app, "GET", "/api/v1/modules/v1/shop/slow"), self.loop)

    async def _make(self) -> tuple[hosting.Host, Any, watching.LoopThread]:
        def register(router: APIRouter) -> None:
            @router.get("/slow")
            async def slow() -> str:
                self.inside.set()
                self.release.wait(30)
                return "slow"

        host = hosting.Host()
        app = dispatching.Dispatcher(host, pages.Pages(host, ready=dict, info=dict, version="1"))
        await host.install(serving.serve(FakeInstance(register), self.now))
        return host, app, watching.LoopThread()

    def close(self) -> None:
        self.release.set()
        self.run(self.host.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.close()


@pytest.fixture
def platform(now: Any) -> Iterator[Serving]:
    with contextlib.closing(Serving(now)) as made:
        yield made


def test_a_handler_that_holds_a_real_loop_is_named_while_it_does(platform: Serving) -> None:
    told: list[Block] = []
    clock = FakeClock()
    dog = Watchdog(platform.host, platform.seen, clock, told=told.append)
    answer = platform.call()
    platform.inside.wait(60)
    for _ in range(5):
        asyncio.run(clock.advance(0.25))
        dog.look()
    (block,) = told
    assert block.module == "shop"
    assert any(place.function == "slow" for place in block.stack)
    assert not answer.done()
    platform.release.set()
    assert answer.result(60).status == 200


def test_a_watchdog_with_a_thread_of_its_own_tells_and_ends(platform: Serving, tmp_path: Path) -> None:
    told: list[Block] = []
    trap = watching.Trap(tmp_path / "lkg" / "w0.stack", after=30, last=600)
    dog = Watchdog(platform.host, platform.seen, SystemClock(), told=told.append, trap=trap, held=0.1)
    dog.start()
    try:
        platform.call()
        until_sync(lambda: told, timeout=30)
        assert told[0].module == "shop"
        platform.release.set()
    finally:
        dog.stop()


def test_a_trap_keeps_the_stacks_of_who_was_there(tmp_path: Path) -> None:
    def main() -> None:
        trap = watching.Trap(tmp_path / "w0.stack", after=0.02, last=600)
        try:
            armed = 0

            def shown() -> bool:  # a thread that runs while its stack is written may be left out: then it is set again
                nonlocal armed
                text = (tmp_path / "w0.stack").read_text()
                if " in main\n" not in text and text.count("Timeout (") == armed:
                    armed += 1
                    trap.set()  # waits for what is being written
                return " in main\n" in text

            until_sync(shown)
            faulthandler.cancel_dump_traceback_later()
            assert any(place.function == "main" for stack in trap.take() for place in stack)
            assert list(trap.take()) == []
        finally:
            trap.close()

    main()


def test_what_the_fault_handler_writes_is_read_main_thread_first(tmp_path: Path) -> None:
    ready, release = threading.Event(), threading.Event()

    def waits_elsewhere() -> None:
        ready.set()
        release.wait(60)

    other = threading.Thread(target=waits_elsewhere)
    other.start()
    ready.wait(60)
    with (tmp_path / "stacks").open("w+") as file:
        faulthandler.dump_traceback(file=file)
        file.seek(0)
        stacks = watching.dumped(file.read())
    release.set()
    other.join()
    functions = [[place.function for place in stack] for stack in stacks]
    assert "test_what_the_fault_handler_writes_is_read_main_thread_first" in functions[0]
    assert any("waits_elsewhere" in stack for stack in functions[1:])
