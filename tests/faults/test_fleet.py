"""Several workers behind one port: replaced, killed, poisoned, while clients notice nothing that they need not."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from controlplane.cli.natsusers import Users
from schemas.kits import natsserver
from tests.doubles.platform import BY_HAND, Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

QUICK = {**BY_HAND, "MODPLANE_KEEP_ALIVE_SECONDS": "1"}
"""Idle connections of the drained are given up soon: these tests wait for it."""
KEPT, FRESH = 3, 2
SLOTS = ("w0", "w1", "w2")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Three workers, of which w1 is in zone b; each test has modules of its own."""
    home = tmp_path_factory.mktemp("fleet")
    with running(home, examples=False, workers=3, environment=QUICK, words=["--labels", "w1:zone=b"]) as started:
        yield started


def add(platform: Platform, name: str, *, spec: dict[str, Any] | None = None, **more: Any) -> None:
    (platform.modules / f"{name}.py").write_text(module_source(name, **more))
    platform.cli("apply", "--wait", "-f", "-", stdin=manifest(name, **(spec or {})))


def boots(platform: Platform) -> dict[str, str]:
    """The boot of each slot, as the process behind its own address says."""
    workers = [httpx.get(f"{address}/modules/system/info").json()["worker"] for address in platform.refresh()]
    return {worker["id"]: worker["boot"] for worker in workers}


def everywhere(platform: Platform, path: str) -> list[int]:
    """What each worker's own address answers."""
    return [httpx.get(f"{address}/api/v1/modules/{path}").status_code for address in platform.refresh()]


def counts(platform: Platform, name: str) -> dict[str, int]:
    found = platform.object("modules", name)
    assert found is not None
    return dict(found["status"]["workers"])


def all_three(platform: Platform, name: str) -> bool:
    return counts(platform, name) == {"desired": 3, "applied": 3, "rejected": 0, "joining": 0, "lost": 0}


def programmed(platform: Platform, name: str) -> dict[str, Any]:
    found = platform.object("modules", name)
    assert found is not None
    return next(each for each in found["status"]["conditions"] if each["type"] == "Programmed")


@contextlib.contextmanager
def hung_up(platform: Platform) -> Iterator[None]:
    """Send SIGHUP, and wait in the end until all workers are replaced."""
    assert platform.process is not None
    before = platform.output().count("3 workers were replaced")
    os.kill(platform.process.pid, signal.SIGHUP)
    yield
    wait_for(lambda: platform.output().count("3 workers were replaced") > before, timeout=90, what=platform.output)


def frozen(platform: Platform, *slots: str) -> list[psutil.Process]:
    stopped = [platform.child("dataplane worker", f"--id {slot}") for slot in slots]
    for process in stopped:
        process.suspend()
    return stopped


ECHO = """
        @router.websocket("/echo")
        @require_module_auth(auth_level="NONE")
        async def echo(socket: WebSocket) -> None:
            await socket.accept()
            while True:
                await socket.send_text(await socket.receive_text())
"""


def with_echo(name: str) -> str:
    return module_source(name).replace("import APIRouter", "import APIRouter, WebSocket") + ECHO


def close_code(socket: ClientConnection) -> int | None:
    """The code that the server closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=20)
    return None if closed.value.rcvd is None else closed.value.rcvd.code


@pytest.mark.slow
def test_a_rolling_restart_loses_no_request_and_every_slot_gets_a_new_process(fleet: Platform) -> None:
    (fleet.modules / "calm.py").write_text(with_echo("calm"))
    fleet.cli("apply", "--wait", "-f", "-", stdin=manifest("calm"))
    before = boots(fleet)
    url = f"{fleet.door}/api/v1/modules/v1/calm"
    with (
        connect(f"{url.replace('http', 'ws')}/echo") as socket,
        flowing(f"{url}/hello", callers=KEPT, fresh=FRESH) as traffic,
    ):
        socket.send("here?")
        assert socket.recv() == "here?"
        wait_for(lambda: traffic.calls > 50)
        with hung_up(fleet):
            assert close_code(socket) == 1012
        after = boots(fleet)
        calls = traffic.calls
        wait_for(lambda: traffic.calls > calls + 50)
    assert traffic.only(200), (traffic.answers, traffic.failures)
    assert before.keys() == after.keys() == set(SLOTS)
    assert not set(before.values()) & set(after.values())
    assert {f"{slot}/{boot}" for slot, boot in after.items()} & traffic.workers.keys()
    wait_for(lambda: all_three(fleet, "calm"))
    assert fleet.state("calm") == "ACTIVE"


@pytest.mark.slow
def test_a_rolling_restart_needs_neither_control_plane_nor_nats(fleet: Platform) -> None:
    add(fleet, "self_reliant")
    before = boots(fleet)
    others = [fleet.child("controlplane serve"), fleet.child("nats-server")]
    for process in others:
        process.suspend()
    try:
        url = f"{fleet.door}/api/v1/modules/v1/self-reliant/hello"
        with flowing(url, callers=KEPT, fresh=FRESH) as traffic, hung_up(fleet):
            pass
        assert everywhere(fleet, "v1/self-reliant/hello") == [200, 200, 200]
        assert not set(before.values()) & set(boots(fleet).values())
    finally:
        for process in reversed(others):
            process.resume()
    assert traffic.only(200), (traffic.answers, traffic.failures)
    wait_for(lambda: fleet.state("self-reliant") == "ACTIVE" and all_three(fleet, "self-reliant"), timeout=60)


def test_a_killed_worker_takes_only_what_it_had_accepted_and_comes_back(fleet: Platform) -> None:
    add(fleet, "sturdy")
    before, latched = boots(fleet), programmed(fleet, "sturdy")
    url = f"{fleet.door}/api/v1/modules/v1/sturdy/hello"
    with flowing(url, callers=KEPT, fresh=FRESH) as traffic:
        wait_for(lambda: traffic.calls > 50)
        fleet.child("dataplane worker", "--id w1").kill()
        wait_for(lambda: len(boots_now(fleet)) == 3 and boots_now(fleet)["w1"] != before["w1"], timeout=30)
        calls = traffic.calls
        wait_for(lambda: traffic.calls > calls + 50)
    assert set(traffic.answers) == {200}
    assert traffic.failures.total() <= KEPT + FRESH, traffic.failures
    wait_for(lambda: all_three(fleet, "sturdy"))
    after = boots(fleet)
    assert (after["w0"], after["w2"]) == (before["w0"], before["w2"])
    assert everywhere(fleet, "v1/sturdy/hello") == [200, 200, 200]
    assert programmed(fleet, "sturdy") == latched


def boots_now(platform: Platform) -> dict[str, str]:
    """The same, of the workers that answer at this moment."""
    try:
        return boots(platform)
    except httpx.HTTPError:
        return {}


def test_placement_serves_a_module_on_the_workers_with_its_labels_only(fleet: Platform) -> None:
    add(fleet, "placed", spec={"placement": {"workerSelector": {"zone": "b"}}})
    assert everywhere(fleet, "v1/placed/hello") == [404, 200, 404]
    assert counts(fleet, "placed") == {"desired": 1, "applied": 1, "rejected": 0, "joining": 0, "lost": 0}
    nowhere = manifest("placed", placement={"workerSelector": {"zone": "x"}})
    fleet.cli("apply", "-f", "-", stdin=nowhere)
    wait_for(lambda: programmed(fleet, "placed")["reason"] == "NoMatchingWorker")
    assert "zone=x" in programmed(fleet, "placed")["message"]
    assert fleet.state("placed") == "REGISTERED"
    wait_for(lambda: everywhere(fleet, "v1/placed/hello") == [404, 404, 404])


def admit(platform: Platform, name: str) -> tuple[str, Path]:
    """Give one more worker a user on the running NATS server, as an operator does; its address and the key file."""
    home = platform.data / "nats"
    users = Users(home, (name,))
    text = (home / "nats.conf").read_text()
    lines = natsserver.configuration(home, 0, users=users.listed()[-1:]).splitlines()
    [line] = [each for each in lines if "nkey" in each]
    (home / "nats.conf").write_text(text.replace("  users = [", f"  users = [\n{line}"))
    platform.child("nats-server").send_signal(signal.SIGHUP)
    return platform.endpoints["nats"].replace(f"reader:{users.password}@", ""), users.key_file(name)


@pytest.mark.slow
def test_a_worker_that_joins_and_leaves_moves_the_numbers_and_nothing_else(fleet: Platform) -> None:
    add(fleet, "steady")
    condition = programmed(fleet, "steady")
    address, key = admit(fleet, "guest")
    words = ["--id", "guest", "--data-port", "0", "--data-dir", fleet.data, "--nats-url", address]
    words += ["--nats-key-file", key]
    with (fleet.home / "guest.log").open("wb") as log:
        guest = subprocess.Popen(
            [sys.executable, "-m", "dataplane", "worker", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=fleet.home,
        )
    try:
        wait_for(lambda: counts(fleet, "steady")["applied"] == 4, timeout=30)
        address = report_of(fleet, "guest")["address"]
        assert httpx.get(f"{address}/api/v1/modules/v1/steady/hello").status_code == 200
        assert (fleet.state("steady"), programmed(fleet, "steady")) == ("ACTIVE", condition)
    finally:
        guest.terminate()
        assert guest.wait(30) == 0
    wait_for(lambda: all_three(fleet, "steady"))
    assert (fleet.state("steady"), programmed(fleet, "steady")) == ("ACTIVE", condition)


@pytest.mark.slow
def test_lost_workers_do_not_unsay_active_until_nobody_is_left(fleet: Platform) -> None:
    add(fleet, "latched")
    condition = programmed(fleet, "latched")
    stopped = frozen(fleet, "w2")
    try:
        wait_for(lambda: counts(fleet, "latched")["lost"] == 1, timeout=30)
        assert (fleet.state("latched"), programmed(fleet, "latched")) == ("ACTIVE", condition)
        add(fleet, "meanwhile")
        assert counts(fleet, "meanwhile") == {"desired": 3, "applied": 2, "rejected": 0, "joining": 0, "lost": 1}
        stopped += frozen(fleet, "w0", "w1")
        wait_for(lambda: programmed(fleet, "latched")["reason"] == "NoWorkers", timeout=90)
        assert fleet.state("latched") == "REGISTERED"
    finally:
        for process in stopped:
            process.resume()
    wait_for(lambda: fleet.state("latched") == "ACTIVE" and all_three(fleet, "latched"), timeout=30)
    assert everywhere(fleet, "v1/meanwhile/hello") == [200, 200, 200]


POISON = """import os, sys

if "worker" in sys.argv:
    os.abort()
"""


def poisoned(name: str) -> str:
    """A module that looks well to an inspection and ends every worker that imports it."""
    head, _, rest = module_source(name).partition("from typing")
    return f"{head}{POISON}\nfrom typing{rest}"


def report_of(platform: Platform, worker: str) -> dict[str, Any]:
    found = platform.object("workers", worker)
    return {} if found is None else dict(found["status"].get("report") or {})


def rejections(platform: Platform, module: str) -> dict[str, str]:
    """Reason by worker, of the workers that refuse a module."""
    return {
        worker: entry["reason"]
        for worker in SLOTS
        for entry in report_of(platform, worker).get("rejected", [])
        if entry["module"] == module
    }


@pytest.mark.slow
def test_a_module_that_kills_its_workers_twice_is_left_out_and_the_others_serve(fleet: Platform) -> None:
    add(fleet, "healthy")
    (fleet.modules / "poison.py").write_text(poisoned("poison"))
    fleet.cli("apply", "-f", "-", stdin=manifest("poison"))
    everybody = dict.fromkeys(SLOTS, "CrashedWorker")
    wait_for(lambda: rejections(fleet, "poison") == everybody, timeout=60, what=fleet.output)
    with flowing(f"{fleet.door}/api/v1/modules/v1/healthy/hello", callers=2, fresh=2) as traffic:
        fleet.wait_state("poison", "ERROR")
        assert "died 2 times while it loaded this module" in fleet.cli("describe", "module", "poison")
        assert everywhere(fleet, "v1/healthy/hello") == [200, 200, 200]
        assert everywhere(fleet, "v1/poison/hello") == [503, 503, 503]
        (fleet.modules / "poison.py").write_text(module_source("poison"))
        fleet.cli("discover")
        fleet.wait_state("poison", "ACTIVE")
        assert everywhere(fleet, "v1/poison/hello") == [200, 200, 200]
    assert traffic.only(200), (traffic.answers, traffic.failures)
    assert fleet.output().count("was ended by SIGABRT") == 6, fleet.output()


@pytest.mark.slow
def test_another_version_of_the_host_replaces_the_workers_without_a_failed_request(tmp_path: Path) -> None:
    installed = tmp_path / "site" / "fastapi-9.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 9.0\n")
    environment = QUICK | {"PYTHONPATH": str(installed.parent)}
    with running(tmp_path / "home", examples=False, workers=2, environment=environment) as platform:
        add(platform, "modern")
        assert "fastapi/9.0" in report_of(platform, "w0")["hostVersion"]
        with flowing(f"{platform.door}/api/v1/modules/v1/modern/hello", callers=2, fresh=1) as traffic:
            (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 9.1\n")
            wait_for(lambda: "2 workers were replaced" in platform.output(), timeout=90, what=platform.output)
        assert "installed versions changed (fastapi/9.0 → 9.1" in platform.output()
        assert traffic.only(200), (traffic.answers, traffic.failures)
        wait_for(lambda: all("fastapi/9.1" in report_of(platform, slot)["hostVersion"] for slot in ("w0", "w1")))


GROW = """
        @router.get("/grow")
        @require_module_auth(auth_level="NONE")
        async def grow() -> int:
            HELD.append(b"x" * 300_000_000)
            return len(HELD)
"""


@pytest.mark.slow
def test_a_worker_that_grew_too_large_gets_a_successor_without_a_failed_request(tmp_path: Path) -> None:
    environment = QUICK | {"MODPLANE_MEMORY_LIMIT_BYTES": str(250 * 1024 * 1024)}
    with running(tmp_path, examples=False, workers=2, environment=environment) as platform:
        source = module_source("greedy").replace("from typing", "HELD: list[bytes] = []\n\nfrom typing")
        (platform.modules / "greedy.py").write_text(source + GROW)
        platform.cli("apply", "--wait", "-f", "-", stdin=manifest("greedy"))
        before = boots(platform)
        with flowing(f"{platform.door}/api/v1/modules/v1/greedy/hello", callers=2, fresh=1) as traffic:
            grown = platform.refresh()[1]
            assert httpx.get(f"{grown}/api/v1/modules/v1/greedy/grow", timeout=10).json() == 1
            wait_for(lambda: "1 worker was replaced" in platform.output(), timeout=60, what=platform.output)
        assert "w1 wants to be recycled (memory is" in platform.output()
        assert traffic.only(200), (traffic.answers, traffic.failures)
        after = boots(platform)
        assert after["w0"] == before["w0"]
        assert after["w1"] != before["w1"]
