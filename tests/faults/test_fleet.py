"""Several workers behind one port: replaced, killed, poisoned, while clients notice nothing that they need not."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.doubles.platform import Platform, manifest, module_source, running, wait_for
from tests.doubles.traffic import flowing

pytestmark = pytest.mark.processes

QUICK = {"MODPLANE_KEEP_ALIVE_SECONDS": "1"}
"""Idle connections of the drained are given up soon: these tests wait for it."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Platform]:
    with running(tmp_path, examples=False, workers=3, environment=QUICK) as started:
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


def hang_up(platform: Platform, times: int = 1) -> None:
    assert platform.process is not None
    os.kill(platform.process.pid, signal.SIGHUP)
    wait_for(lambda: platform.output().count("3 workers were replaced") == times, timeout=60, what=platform.output)


def test_a_rolling_restart_loses_no_request_and_every_slot_gets_a_new_process(fleet: Platform) -> None:
    add(fleet, "calm")
    before = boots(fleet)
    with flowing(f"{fleet.door}/api/v1/modules/v1/calm/hello", callers=4, fresh=3) as traffic:
        wait_for(lambda: traffic.calls > 50)
        hang_up(fleet)
        after = boots(fleet)
        calls = traffic.calls
        wait_for(lambda: traffic.calls > calls + 50)
    assert traffic.only(200), (traffic.answers, traffic.failures)
    assert before.keys() == after.keys() == {"w0", "w1", "w2"}
    assert not set(before.values()) & set(after.values())
    assert {f"{slot}/{boot}" for slot, boot in after.items()} & traffic.workers.keys()
    wait_for(lambda: counts(fleet, "calm") == {"desired": 3, "applied": 3, "rejected": 0, "joining": 0, "lost": 0})


POISON = '''import os, sys

if "worker" in sys.argv:
    os.abort()
'''


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
        for worker in ("w0", "w1", "w2")
        for entry in report_of(platform, worker).get("rejected", [])
        if entry["module"] == module
    }


def test_a_module_that_kills_its_workers_twice_is_left_out_and_the_others_serve(fleet: Platform) -> None:
    add(fleet, "healthy")
    (fleet.modules / "poison.py").write_text(poisoned("poison"))
    fleet.cli("apply", "-f", "-", stdin=manifest("poison"))
    everybody = {"w0": "CrashedWorker", "w1": "CrashedWorker", "w2": "CrashedWorker"}
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
