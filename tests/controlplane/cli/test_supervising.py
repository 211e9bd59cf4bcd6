"""The supervisor, with stand-in children: order, restarts, endings, and what is left after a kill."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from controlplane.cli import children, endpoints, exits, folders, guarding, ports, supervising
from tests.doubles import standin
from tests.doubles.polling import until, until_sync

STAND_IN = Path(standin.__file__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[folders.DataFolder]:
    monkeypatch.chdir(tmp_path)
    taken = folders.take(tmp_path / "data")
    yield taken
    taken.release()


def plan(name: str, behaviour: str = "good", stop: float = 10.0) -> children.Plan:
    return children.Plan(name, [sys.executable, str(STAND_IN), name, behaviour], stop_seconds=stop)


class Running:
    """A supervisor in a task of the test's loop."""

    def __init__(
        self,
        folder: folders.DataFolder,
        *plans: children.Plan,
        patience: float = 30.0,
        replace_seconds: float = 30.0,
    ) -> None:
        self.told: list[str] = []
        self.greeted: list[endpoints.Endpoints] = []
        nats, plane, *workers = plans
        self.door = ports.listen(0, "--data-port")
        system = supervising.System(
            folder=folder,
            nats=nats,
            controlplane=plane,
            workers=tuple(workers),
            doors=(self.door,),
            control_url="http://control",
            data_url="http://data",
            nats_url="nats://nats",
            patience=patience,
            replace_seconds=replace_seconds,
        )
        self.supervisor = supervising.Supervisor(system, self.told.append, self._settled, self._greet)
        self.task = asyncio.create_task(self.supervisor.run())

    async def _settled(self, found: endpoints.Endpoints) -> None:
        self.told.append("settled")

    async def _greet(self, found: endpoints.Endpoints) -> None:
        self.greeted.append(found)

    async def ready(self) -> None:
        await until(lambda: self.greeted or self.task.done(), timeout=30)
        assert self.greeted

    def signal(self, number: int) -> None:
        os.kill(os.getpid(), number)


def has_workers(folder: folders.DataFolder, *addresses: str) -> bool:
    found = endpoints.read(folder.path)
    return found is not None and found.workers == addresses


def pids(name: str) -> list[int]:
    file = Path(f"{name}.starts")
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


async def test_a_start_ends_in_endpoints_and_a_stop_removes_them(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane"), plan("w0"), plan("w1"))
    await running.ready()
    found = endpoints.read(folder.path)
    assert found == running.greeted[0]
    assert found is not None
    assert found.workers == ("http://w0/1", "http://w1/1")
    running.signal(signal.SIGTERM)
    assert await running.task == exits.YES
    assert endpoints.read(folder.path) is None
    assert not any(guarding.runs(pid) for name in ("nats", "plane", "w0", "w1") for pid in pids(name))
    assert "w0 speaks" in (folder.logs / "w0.log").read_text()
    assert "some words" in (folder.logs / "w0.log").read_text()


async def test_ctrl_c_is_code_130(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane"))
    await running.ready()
    running.signal(signal.SIGINT)
    assert await running.task == exits.INTERRUPTED


async def test_a_child_that_dies_is_started_again_and_its_new_address_is_told(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane"), plan("w0"))
    await running.ready()
    os.kill(pids("w0")[0], signal.SIGKILL)

    def moved() -> bool:
        found = endpoints.read(folder.path)
        return found is not None and found.workers == ("http://w0/2",)

    await until(moved, timeout=30)
    assert any("w0 was ended by SIGKILL; starting it again" in line for line in running.told)
    running.signal(signal.SIGTERM)
    await running.task


async def test_an_address_that_a_full_disk_did_not_take_is_told_once_there_is_room(
    folder: folders.DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(folder, plan("nats"), plan("plane"), plan("w0"))
    await running.ready()
    write, full = endpoints.write, [errno.ENOSPC] * 3

    def on_a_full_disk(place: Path, found: endpoints.Endpoints) -> None:
        if full:
            raise OSError(full.pop(), "No space left on device")
        write(place, found)

    monkeypatch.setattr(endpoints, "write", on_a_full_disk)
    monkeypatch.setattr(supervising, "_AGAIN_SECONDS", 0.01)
    for death in (1, 2):  # the second one shows that the child is heard as before
        os.kill(pids("w0")[-1], signal.SIGKILL)
        await until(partial(has_workers, folder, f"http://w0/{death + 1}"), timeout=30)
    told = [line for line in running.told if "No space left" in line]
    assert len(told) == 1
    assert told[0].startswith(
        f"{folder.path / 'endpoints.json'} cannot be written: No space left on device; it is tried"
    )
    running.signal(signal.SIGTERM)
    await running.task


async def test_a_child_that_is_killed_before_it_is_ready_gets_another_chance(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane", "brief"), plan("w0"))
    await running.ready()
    await until(lambda: len(pids("plane")) == 2, timeout=30)
    running.signal(signal.SIGTERM)
    await running.task


async def test_a_child_that_fails_at_the_start_ends_all_with_its_last_words(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane", "fails"), plan("w0"))
    with pytest.raises(exits.Exit) as raised:
        await running.task
    assert raised.value.code == exits.REFUSED
    assert "plane ended with exit code 7" in raised.value.message
    assert "the disk is made of cheese" in raised.value.message
    assert str(folder.logs / "plane.log") in raised.value.message
    assert not any(guarding.runs(pid) for name in ("nats", "w0") for pid in pids(name))


async def test_a_program_that_is_not_there_ends_the_start(folder: folders.DataFolder) -> None:
    missing = children.Plan("plane", ["/nowhere/at-all"], stop_seconds=1)
    with pytest.raises(exits.Exit, match="cannot start plane"):
        await Running(folder, plan("nats"), missing).task


async def test_a_start_that_hangs_says_what_it_waits_for_and_can_be_stopped(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane", "silent"), patience=0.2)
    await until(lambda: any("still waiting for plane" in line for line in running.told), timeout=30)
    running.signal(signal.SIGTERM)
    assert await running.task == exits.YES
    assert running.greeted == []


async def test_a_deaf_child_is_killed_after_its_time(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane"), plan("w0", "deaf", stop=0.3))
    await running.ready()
    running.signal(signal.SIGTERM)
    assert await running.task == exits.YES
    assert any("w0 did not end" in line for line in running.told)
    assert not guarding.runs(pids("w0")[0])


async def test_a_second_signal_stops_at_once(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane"), plan("w0", "deaf", stop=60))
    await running.ready()
    running.signal(signal.SIGINT)
    await until(lambda: any("stopping" in line for line in running.told))
    running.signal(signal.SIGINT)
    assert await running.task == exits.INTERRUPTED


async def test_a_child_that_answers_on_a_port_needs_no_ready_line(folder: folders.DataFolder) -> None:
    asked: list[bool] = []

    def answers() -> bool:
        asked.append(True)
        return len(asked) > 2

    silent = plan("nats", "silent")
    nats = children.Plan(silent.name, silent.command, stop_seconds=10, answers=answers)
    running = Running(folder, nats, plan("plane"))
    await running.ready()
    assert len(asked) == 3
    running.signal(signal.SIGTERM)
    await running.task


def test_a_long_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 10)

    async def run() -> None:
        child = children.Child(plan("x"), tmp_path, told=lambda _: None)
        child.log.write_text("a long log of old")
        child._open_log().close()
        child.forget()
        assert child.log.read_text() == ""
        assert (tmp_path / "x.log.1").read_text() == "a long log of old"

    asyncio.run(run())


SUPERVISED = """
import asyncio, sys
from pathlib import Path
from controlplane.cli import folders, ports, supervising, children, guarding
guarding.GRACE_SECONDS = 1.0
folder = folders.take(Path(sys.argv[1]))
def plan(name, behaviour):
    return children.Plan(name, [sys.executable, sys.argv[2], name, behaviour], stop_seconds=5)
async def nothing(found): print("ready", flush=True)
system = supervising.System(folder, plan("nats", "deaf"), plan("plane", "good"), (plan("w0", "deaf"),), (),
                            "http://c", "http://d", "nats://n")
supervising.Guard.__init__.__defaults__ = (1.0,)
asyncio.run(supervising.Supervisor(system, print, nothing, nothing).run())
"""


def test_nothing_survives_a_killed_supervisor_not_even_the_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = str(STAND_IN.parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, str(tmp_path / "data"), str(STAND_IN)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with pytest.raises(exits.Exit, match="another `modplane up`"):
        folders.take(tmp_path / "data")
    process.kill()
    process.wait()
    process.stdout.close()
    # A new one waits until the guard has ended what was left, and finds nothing of it.
    folders.take(tmp_path / "data", patience=20).release()
    until_sync(lambda: not any(guarding.runs(pid) for name in ("nats", "plane", "w0") for pid in pids(name)))


def test_a_folder_held_by_leftovers_is_told_when_patience_ends(tmp_path: Path) -> None:
    first = folders.take(tmp_path)
    os.ftruncate(first.lock, 0)
    with pytest.raises(exits.Exit, match="earlier `modplane up`") as raised:
        folders.take(tmp_path, patience=0.1)
    assert "--data-dir" in raised.value.hint
    first.release()
    folders.take(tmp_path, patience=0.1).release()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(exits.Exit, match="cannot write to the data folder") as raised:
        folders.take(tmp_path / "file" / "data")
    assert "--data-dir" in raised.value.hint


def test_a_port_in_use_is_told_with_its_option() -> None:
    with ports.listen(0, "--data-port") as taken:
        port = taken.getsockname()[1]
        assert ports.answers(port)
        with pytest.raises(exits.Exit, match=f"port {port} on 127.0.0.1 is in use") as raised:
            ports.free(port, "--nats-port")
        assert "--nats-port" in raised.value.hint
    assert not ports.answers(port)
    assert ports.free(port, "--nats-port") == port


def test_a_port_that_is_not_allowed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", denied)
    with pytest.raises(exits.Exit, match="Permission denied"):
        ports.listen(80, "--data-port")


async def test_a_nats_that_stores_nothing_is_started_again_where_there_is_room(folder: folders.DataFolder) -> None:
    running = Running(folder, plan("nats"), plan("plane", "unheard"), plan("w0"))
    await running.ready()
    await until(lambda: len(pids("nats")) == 2, timeout=30)
    assert "NATS stores nothing (nobody listens), and its disk has room: starting it again" in running.told
    running.signal(signal.SIGTERM)
    assert await running.task == exits.YES


async def test_a_nats_on_a_full_disk_is_left_alone_and_said_so(
    folder: folders.DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_ROOM_BYTES", 1 << 62)
    running = Running(folder, plan("nats"), plan("plane", "unheard"), plan("w0"))
    await running.ready()
    said = f"NATS stores nothing (nobody listens): the disk of {folder.path} is full; free space there"
    await until(lambda: said in running.told, timeout=30)
    assert len(pids("nats")) == 1
    running.signal(signal.SIGTERM)
    assert await running.task == exits.YES
