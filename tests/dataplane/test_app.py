"""Worker processes: hot changes under load, drain, restart without a failed request, and messages at start."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.doubles import sources
from tests.doubles.polling import until
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

PREFIX = "/api/v1/modules/v1"

RICH = """
import asyncio
import contextlib
from pathlib import Path
from fastapi import WebSocket
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

class Rich(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="rich", version="1.0.0")

    def register_routes(self, router):
        @router.get("/hello")
        @require_module_auth("NONE")
        async def hello():
            return "hello"

        @router.get("/slow")
        @require_module_auth("NONE")
        async def slow(release: str):
            while not Path(release).exists():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            return "slow"

        @router.websocket("/live")
        @require_module_auth("NONE")
        async def live(socket: WebSocket):
            await socket.accept()
            await socket.send_text("hello")
            await socket.receive_text()
"""
ROUTES = [("GET", "/hello"), ("GET", "/slow"), ("WEBSOCKET", "/live")]


class Rig:
    def __init__(self, workers: Any) -> None:
        self.workers = workers
        self.digest = sources.store(workers.code_root, {"rich.py": RICH})
        self.generation = 0

    async def desire(self, name: str, *, uid: str = "u1", **more: object) -> None:
        self.generation += 1
        module = sources.desired(self.digest, "rich:Rich", ROUTES, **{"namespace": name, **more})
        await self.workers.leader.desire(name, module, uid=uid, generation=self.generation)

    async def answers(self, client: httpx.AsyncClient, name: str, status: int) -> None:
        url = f"{self.workers.door}{PREFIX}/{name}/hello"

        async def same() -> bool:
            return (await client.get(url)).status_code == status

        await until(same, what=f"{name} answers {status}")


@pytest.fixture
def rig(workers: Any) -> Rig:
    return Rig(workers)


async def test_modules_are_added_changed_and_removed_under_load_without_a_failed_request(rig: Rig) -> None:
    await rig.desire("still")
    await rig.desire("moving")
    worker = await rig.workers.start()
    line = await worker.ready()
    assert line["id"] == "w0"
    async with httpx.AsyncClient() as client:
        still, moving = (f"{rig.workers.door}{PREFIX}/{name}/hello" for name in ("still", "moving"))
        with flowing(still) as quiet, flowing(moving) as changed:
            for round_ in range(15):
                await rig.desire("coming")
                await rig.desire("moving", config={"round": round_})
                await rig.answers(client, "coming", 200)
                await rig.workers.leader.desire("coming", None)
                await rig.answers(client, "coming", 404)
        assert quiet.only(200), (quiet.answers, quiet.failures)
        assert changed.only(200), (changed.answers, changed.failures)
        assert quiet.calls > 30
        info = (await client.get(f"{line['address']}/modules/system/info")).json()
        assert {module["name"] for module in info["modules"]} == {"still", "moving"}
        answer = await client.get(still)
        assert answer.headers["x-modplane-worker"] == f"w0/{line['boot']}"
    assert await worker.end() == 0


async def test_workers_are_replaced_under_load_without_a_failed_request(rig: Rig) -> None:
    await rig.desire("still")
    old = await rig.workers.start()
    await old.ready()
    with flowing(f"{rig.workers.door}{PREFIX}/still/hello") as seen:
        for place in range(2):
            new = await rig.workers.start(name=f"w{place + 1}")
            await new.ready()
            assert await old.end() == 0
            old = new
    assert seen.only(200), (seen.answers, seen.failures)
    report = await rig.workers.leader.report("w0")
    assert report is not None
    assert report.leaving


async def test_a_drain_lets_busy_requests_end_and_tells_websockets_to_come_again(rig: Rig, tmp_path: Path) -> None:
    release = tmp_path / "release"
    await rig.desire("still")
    worker = await rig.workers.start()
    line = await worker.ready()
    url = f"{rig.workers.door}{PREFIX}/still"
    async with httpx.AsyncClient() as client, websockets.connect(url.replace("http", "ws") + "/live") as live:
        assert await live.recv() == "hello"
        slow = asyncio.create_task(client.get(f"{url}/slow", params={"release": str(release)}, timeout=20))
        await until(lambda: _in_flight(line["address"]) == 2)
        worker.process.send_signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(live.recv(), 30)
        assert live.close_code == 1012
        ready = httpx.get(f"{line['address']}/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "this worker is draining")
        release.touch()
        answer = await slow
        assert (answer.json(), answer.headers["connection"]) == ("slow", "close")
    assert await worker.end() == 0


def _in_flight(address: str) -> int:
    modules = httpx.get(f"{address}/modules/system/info").json()["modules"]
    return sum(module["inFlight"] for module in modules)


async def test_a_worker_ends_when_its_supervisor_is_gone(rig: Rig) -> None:
    await rig.desire("still")
    worker = await rig.workers.start()
    await worker.ready()
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert await asyncio.wait_for(worker.process.wait(), 30) == 0


async def test_a_worker_without_desired_state_keeps_its_shared_door_shut_and_its_own_open(rig: Rig) -> None:
    worker = await rig.workers.start(stdin=subprocess.DEVNULL)
    # its own door is in no line yet: the report names it
    report = await until(lambda: rig.workers.leader.report("w0"))
    assert report.state == "never_loaded"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{report.address}/health")).status_code == 200
        ready = await client.get(f"{report.address}/ready")
        assert (ready.status_code, ready.json()["state"]) == (503, "never_loaded")
        waiting = asyncio.create_task(client.get(f"{rig.workers.door}{PREFIX}/late/hello", timeout=20))
        await rig.desire("late")
        await worker.ready()
        assert (await waiting).status_code == 200
    assert await worker.end(signal.SIGINT) == 0


async def test_a_killed_worker_comes_back_to_the_same_world(rig: Rig) -> None:
    await rig.desire("still")
    first = await rig.workers.start()
    await first.ready()
    await first.end(signal.SIGKILL)
    await rig.desire("new")
    second = await rig.workers.start()
    line = await second.ready()
    assert line["boot"] != first.line["boot"]
    async with httpx.AsyncClient() as client:
        for name in ("still", "new"):
            await rig.answers(client, name, 200)
    assert await second.end() == 0


async def test_the_header_can_be_switched_off_and_labels_place_modules(rig: Rig) -> None:
    await rig.desire("near", worker_selector={"zone": "a"})
    await rig.desire("far", worker_selector={"zone": "b"})
    worker = await rig.workers.start("--labels", "zone=a", "--worker-header", "false", "--log-format", "json")
    await worker.ready()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{rig.workers.door}{PREFIX}/near/hello")
        assert answer.status_code == 200
        assert "x-modplane-worker" not in answer.headers
        assert (await client.get(f"{rig.workers.door}{PREFIX}/far/hello")).status_code == 404
    assert await worker.end() == 0
    events = [json.loads(line)["event"] for line in worker.log.read_text().splitlines()]
    assert "worker ready" in events


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dataplane", *words], capture_output=True, text=True, check=False, timeout=30
    )


def test_a_port_in_use_is_a_message_that_says_what_to_do() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _run("worker", "--data-port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--data-port" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("worker", "--listen-fd", "0"), "is not a listening socket"),
        pytest.param(("--id", "No Name"), "--id / MODPLANE_WORKER_ID", marks=pytest.mark.slow),
        pytest.param(("worker", "--labels", "zone"), "not key=value", marks=pytest.mark.slow),
        pytest.param(("worker", "--nonsense", "1"), "--nonsense", marks=pytest.mark.slow),
    ],
)
def test_what_makes_no_sense_is_said(words: tuple[str, ...], message: str) -> None:
    done = _run(*words)
    assert done.returncode in {1, 2}
    assert message in done.stderr
