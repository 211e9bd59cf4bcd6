"""Workers replaced one at a time, with stand-in children: in order, with overlap, and given up without harm."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.cli import children, endpoints, exits, folders, guarding, ports, rolling, supervising
from tests.doubles import standin
from tests.doubles.polling import until

STAND_IN = Path(standin.__file__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[folders.DataFolder]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervising, "terminal", lambda: False)
    taken = folders.take(tmp_path / "data")
    yield taken
    taken.release()


def plan(name: str, behaviour: str = "good", attempts: int = 1) -> children.Plan:
    words = [sys.executable, str(STAND_IN), name, behaviour]
    return children.Plan(name, words, stop_seconds=10, attempts=attempts)


class Running:
    """A supervisor in a task of the test's loop."""

    def __init__(self, folder: folders.DataFolder, *workers: children.Plan, replace_seconds: float = 30.0) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.greeted = False
        system = supervising.System(
            folder=folder,
            nats=plan("nats"),
            controlplane=plan("plane"),
            workers=workers,
            doors=(ports.listen(0, "--data-port"),),
            control_url="http://control",
            data_url="http://data",
            nats_url="nats://nats",
            replace_seconds=replace_seconds,
        )
        self.supervisor = supervising.Supervisor(system, self.told.append, self._settled, self._greet)
        self.task = asyncio.create_task(self.supervisor.run())

    async def _settled(self, found: endpoints.Endpoints) -> None: ...

    async def _greet(self, found: endpoints.Endpoints) -> None:
        self.greeted = True

    async def ready(self) -> None:
        await until(lambda: self.greeted or self.task.done(), timeout=30)
        assert self.greeted

    async def hears(self, words: str) -> None:
        await until(lambda: any(words in line for line in self.told), timeout=30)

    def workers(self) -> tuple[str, ...]:
        found = endpoints.read(self.folder.path)
        return () if found is None else tuple(found.workers)

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await self.task == exits.YES
        assert not any(guarding.runs(pid) for pid in starts("nats", "plane", "w0", "w1"))


def starts(*names: str) -> list[int]:
    files = [Path(f"{name}.starts") for name in names]
    return [int(pid) for file in files if file.exists() for pid in file.read_text().split()]


async def test_sighup_replaces_each_worker_by_a_successor_that_knows_whom_it_replaces(
    folder: folders.DataFolder,
) -> None:
    running = Running(folder, plan("w0"), plan("w1"))
    await running.ready()
    os.kill(os.getpid(), signal.SIGHUP)
    await running.hears("2 workers were replaced")
    assert running.told[0] == "SIGHUP: replacing w0, w1, one after the other"
    assert running.workers() == ("http://w0/2", "http://w1/2")
    assert Path("w0.words").read_text() == "\n--replaces b1\n"
    first, second = starts("w0")
    assert not guarding.runs(first)
    assert guarding.runs(second)
    await running.stop()


async def test_a_successor_that_was_killed_later_is_started_again_without_those_words(
    folder: folders.DataFolder,
) -> None:
    running = Running(folder, plan("w0"))
    await running.ready()
    os.kill(os.getpid(), signal.SIGHUP)
    await running.hears("1 worker was replaced")
    os.kill(starts("w0")[1], signal.SIGKILL)
    await until(lambda: running.workers() == ("http://w0/3",), timeout=30)
    assert Path("w0.words").read_text() == "\n--replaces b1\n\n"
    await running.stop()


@pytest.mark.parametrize(
    ("behaviour", "seconds", "words"),
    [("heirless", 0.5, "w0 was not ready"), ("barren", 30.0, "w0 ended with exit code 7 before it was ready")],
)
async def test_a_successor_that_is_not_ready_leaves_the_old_ones_serving(
    folder: folders.DataFolder, behaviour: str, seconds: float, words: str
) -> None:
    running = Running(folder, plan("w0", behaviour), plan("w1"), replace_seconds=seconds)
    await running.ready()
    os.kill(os.getpid(), signal.SIGHUP)
    await running.hears("not replaced either: w1")
    told = next(line for line in running.told if "keeps serving" in line)
    assert words.removeprefix("w0 ") in told
    assert running.workers() == ("http://w0/1", "http://w1/1")
    assert guarding.runs(starts("w0")[0])
    assert len(starts("w1")) == 1
    await running.stop()


async def test_a_worker_that_asks_for_it_is_replaced_alone(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("w0"), plan("w1", "weary"))
    await running.ready()
    await running.hears("1 worker was replaced")
    assert "w1 wants to be recycled (memory is full): replacing w1" in running.told
    assert running.workers() == ("http://w0/1", "http://w1/2")
    await running.stop()


async def test_a_worker_may_fail_a_few_times_before_it_is_ready(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("w0", "stumbles", attempts=4))
    await running.ready()
    assert len(starts("w0")) == 3
    assert sum("w0 ended with exit code 7; starting it again" in line for line in running.told) == 2
    await running.stop()


async def test_a_stop_in_the_middle_of_a_replacement_leaves_nothing(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("w0", "heirless"))
    await running.ready()
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: len(starts("w0")) == 2, timeout=30)
    await running.stop()


async def test_a_terminal_that_hangs_up_ends_all_but_under_nohup_nothing(
    folder: folders.DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = True
    monkeypatch.setattr(supervising, "terminal", lambda: there)
    running = Running(folder, plan("w0"))
    await running.ready()
    there = False
    running.supervisor._nohup = True
    running.supervisor._hung_up()
    assert running.told == []
    running.supervisor._terminal, running.supervisor._nohup = True, False
    running.supervisor._hung_up()
    assert await running.task == exits.YES


class Slots:
    """Workers of a roller without processes."""

    def __init__(self, *versions: str) -> None:
        self.plans = [plan(f"w{slot}") for slot in range(len(versions))]
        self.started: list[str] = []
        self.failures = 0
        self.told: list[str] = []
        self.installed = versions[0]
        self.workers = [self._child(each, version) for each, version in zip(self.plans, versions, strict=True)]
        self.roller = rolling.Roller(
            self.workers, self._start, lambda old: old.forget(), self.told.append, lambda: None,
            look=0.001, installed=lambda: self.installed,
        )  # fmt: skip

    def _child(self, of: children.Plan, version: str) -> children.Child:
        child = children.Child(of, Path(), told=self.told.append)
        child.facts = {"hostVersion": version}
        child.ready.set_result(child.facts)
        return child

    def _start(self, of: children.Plan, words: object) -> children.Child:
        self.started.append(of.name)
        child = self._child(of, self.installed)
        if self.failures:
            self.failures -= 1
            child.ready = asyncio.get_running_loop().create_future()
            child.ready.set_exception(children.FailedError("it stumbled"))
        return child


async def test_another_host_version_replaces_those_that_run_on_the_old_one() -> None:
    slots = Slots("fastapi/1 starlette/3", "fastapi/1 starlette/3", "fastapi/2 starlette/3")
    running = asyncio.create_task(slots.roller.run())
    slots.installed = "fastapi/2 starlette/3"
    await until(lambda: "2 workers were replaced" in slots.told)
    running.cancel()
    assert slots.started == ["w0", "w1"]
    assert "installed versions changed (fastapi/1 → 2; the control plane" in slots.told[0]


async def test_nothing_happens_while_the_versions_stay() -> None:
    asked: list[str] = []
    slots = Slots("fastapi/1")

    def installed() -> str:
        asked.append("asked")
        return "fastapi/1"

    slots.roller.installed = installed
    running = asyncio.create_task(slots.roller.run())
    await until(lambda: len(asked) > 3)
    running.cancel()
    assert slots.started == []


async def test_who_asked_to_be_recycled_gets_another_chance_when_its_successor_failed() -> None:
    slots = Slots("fastapi/1")
    slots.failures, slots.roller.again = 2, 0.001
    running = asyncio.create_task(slots.roller.run())
    slots.roller.recycle(0, "memory is full")
    await until(lambda: "1 worker was replaced" in slots.told)
    running.cancel()
    assert slots.started == ["w0"] * 3
    assert sum("the old w0 keeps serving" in line for line in slots.told) == 2
