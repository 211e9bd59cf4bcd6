"""Control plane, NATS and supervisor dead: every worker that starts serves every active route from its own disk."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from schemas import names
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

MODULES = ["one", "two", "three"]


class Orphan:
    """A worker that a person starts by hand on what a dead system left."""

    def __init__(self, remains: "Remains", slot: str, door: socket.socket | None) -> None:
        listen = ["--data-port", "0"] if door is None else ["--listen-fd", str(door.fileno())]
        self.log = remains.data / f"orphan-{slot}.log"
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "dataplane", "worker", "--id", slot, "--data-dir", str(remains.data),
                    "--nats-url", remains.nats, *listen,
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
                pass_fds=() if door is None else (door.fileno(),),
            )  # fmt: skip

    def ready(self) -> dict[str, Any]:
        """Its ready line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)  # type: ignore[no-any-return]

    def end(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Remains:
    """What a dead system left on its disk, and the workers that are started on it."""

    def __init__(self, data: Path, nats: str) -> None:
        self.data = data
        self.nats = nats
        self.started: list[Orphan] = []

    def start(self, slot: str, door: socket.socket | None = None) -> Orphan:
        """Start the worker of a slot."""
        self.started.append(Orphan(self, slot, door))
        return self.started[-1]


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform that died at the very moment at which its last module was said to be ACTIVE."""
    with running(tmp_path_factory.mktemp("dead"), examples=False, workers=2, environment=BY_HAND) as platform:
        add_modules(platform)
        kill_all(platform)
        return platform


@pytest.fixture
def remains(dead: Platform, tmp_path: Path) -> Iterator[Remains]:
    data = tmp_path / "data"
    data.mkdir()
    for folder in ("lkg", "code"):
        shutil.copytree(dead.data / folder, data / folder)
    shutil.copy(dead.data / names.TRUSTED_KEYS, data)
    made = Remains(data, dead.endpoints["nats"])
    yield made
    for orphan in made.started:
        orphan.end()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("living"), examples=False, workers=2, environment=BY_HAND) as started:
        add_modules(started)
        yield started


def add_modules(platform: Platform) -> None:
    for name in MODULES:
        (platform.modules / f"{name}.py").write_text(module_source(name))
    platform.cli("apply", "--wait", "-f", "-", stdin="\n---\n".join(manifest(name) for name in MODULES))


def kill_all(platform: Platform) -> None:
    """The whole system dies at once, `up` and its guard included."""
    assert platform.process is not None
    processes = [psutil.Process(platform.process.pid), *platform.children()]
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
    platform.process.wait(60)
    psutil.wait_procs(processes, timeout=10)


def kept(data: Path, slot: str) -> Path:
    return data / "lkg" / f"{slot}.db"


def serves_all(door: str) -> bool:
    return all(httpx.get(f"{door}/api/v1/modules/v1/{name}/hello").status_code == 200 for name in MODULES)


def opened_door() -> socket.socket:
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(512)
    return door


@pytest.mark.slow
def test_workers_start_and_are_replaced_under_load_with_everything_else_dead(remains: Remains) -> None:
    with contextlib.closing(opened_door()) as door:
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        first, second = (remains.start(slot, door) for slot in ("w0", "w1"))
        lines = [first.ready(), second.ready()]
        assert serves_all(address)
        for line in lines:
            assert serves_all(line["address"])
            ready = httpx.get(f"{line['address']}/ready")
            assert ready.status_code == 200
            body = ready.json()
            assert (body["ready"], body["state"]) == (True, "out_of_sync")
            assert "serves its last good state" in body["reason"]
            assert body["lastGood"]["restored"]
            assert body["lastGood"]["ageSeconds"] > 0
            info = httpx.get(f"{line['address']}/modules/system/info").json()
            assert {module["name"] for module in info["modules"]} == set(MODULES)
            assert info["lastGood"]["path"] == str(kept(remains.data, line["id"]))
            assert not info["nats"]["connected"]
        with flowing(f"{address}/api/v1/modules/v1/two/hello") as traffic:
            for slot, old in (("w0", first), ("w1", second)):
                old.end(signal.SIGTERM)
                assert serves_all(remains.start(slot, door).ready()["address"])
        assert traffic.only(200), (traffic.answers, traffic.failures)
        assert traffic.calls > 20


@pytest.mark.slow
def test_the_supervisor_brings_killed_workers_back_without_control_plane_and_nats(platform: Platform) -> None:
    stopped = [platform.child(*words) for words in (("controlplane", "serve"), ("nats-server",))]
    try:
        for process in stopped:
            process.suspend()
        for index, slot in enumerate(("w0", "w1")):
            before = platform.endpoints["workers"][index]
            platform.child("dataplane", "worker", f"--id {slot}").kill()
            wait_for(lambda i=index, b=before: _restored(platform, i, b), timeout=30, what=platform.output)
            assert serves_all(platform.door)
        assert all(process.status() == psutil.STATUS_STOPPED for process in stopped)
    finally:
        for process in stopped:
            process.resume()
    (platform.modules / "after.py").write_text(module_source("after"))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest("after"))
    assert platform.call("v1/after/hello").status_code == 200


def _restored(platform: Platform, index: int, before: str) -> bool:
    """Whether a slot has a new worker, which serves from its disk."""
    address = json.loads((platform.data / "endpoints.json").read_text())["workers"][index]
    if address == before:
        return False
    body = httpx.get(f"{address}/ready").json()
    return bool(body["ready"] and body["lastGood"]["restored"])


@pytest.mark.parametrize(
    "damage",
    ["truncated", *(pytest.param(each, marks=pytest.mark.slow) for each in ("a flipped bit", "another format"))],
)
def test_a_damaged_last_good_state_is_refused_with_a_clear_word_and_the_other_worker_serves(
    remains: Remains, damage: str
) -> None:
    path = kept(remains.data, "w0")
    if damage == "truncated":
        os.truncate(path, path.stat().st_size - 4096)
    elif damage == "a flipped bit":
        content = bytearray(path.read_bytes())
        content[content.index(b"entryPoint") + 20] ^= 1
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 2")
    with contextlib.closing(opened_door()) as door:
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        damaged, sound = remains.start("w0", door), remains.start("w1", door)
        sound.ready()
        own = wait_for(lambda: _own_door(damaged, door))
        ready = wait_for(lambda: _refusal(own))
        assert not ready["ready"]
        assert ready["state"] == "never_loaded"
        assert ready["lastGood"]["state"] == "refused"
        assert f"{path}: " in ready["reason"]
        assert "set aside as w0.db.refused" in ready["reason"]
        assert "waits for NATS" in ready["reason"]
        assert path.with_name("w0.db.refused").exists()
        assert httpx.get(f"{own}/api/v1/modules/v1/one/hello").status_code == 404
        with flowing(f"{address}/api/v1/modules/v1/one/hello") as traffic:
            wait_for(lambda: traffic.calls > 50)
        assert traffic.only(200), (traffic.answers, traffic.failures)


def _own_door(orphan: Orphan, shared: socket.socket) -> str:
    for connection in psutil.Process(orphan.process.pid).net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port != shared.getsockname()[1]:
            return f"http://127.0.0.1:{connection.laddr.port}"
    return ""


def _refusal(own: str) -> dict[str, Any] | None:
    with contextlib.suppress(httpx.HTTPError):
        body = httpx.get(f"{own}/ready").json()
        return body if body["lastGood"]["state"] == "refused" else None
    return None


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_state_serves_on_and_says_what_is_not_acknowledged(platform: Platform) -> None:
    worker = platform.child("dataplane", "worker", "--id w0")
    path = kept(platform.data, "w0")
    before = _rows(path)
    limit = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (path.stat().st_size + 16384, limit[1]))
    (platform.modules / "big.py").write_text(module_source("big"))
    platform.cli("apply", "-f", "-", stdin=manifest("big", config={"fill": "x" * 60_000}))
    why = wait_for(lambda: _waits_for_disk(platform), what=platform.output)
    assert "w0 (NotSaved: the last good state cannot be written" in why
    assert "free space" in why
    assert _rows(path) == before
    wait_for(lambda: platform.call("v1/big/hello").status_code == 200)
    assert platform.state("big") == "REGISTERED"
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limit)
    platform.wait_state("big", "ACTIVE", timeout=40)
    assert any(b"x" * 60_000 in document for _, document, _ in _rows(path))


def _rows(path: Path) -> list[tuple[Any, ...]]:
    """What the file holds, read between two saves: the bytes of a save that is tried right now are not its content."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(
            "SELECT 0, document, checksum FROM meta UNION ALL SELECT 1, document, checksum FROM documents ORDER BY 1, 3"
        ).fetchall()


def _waits_for_disk(platform: Platform) -> str:
    found = platform.object("modules", "big")
    conditions = found["status"].get("conditions", []) if found else []
    return next((each["message"] for each in conditions if "NotSaved" in each["message"]), "")
