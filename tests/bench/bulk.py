"""Many modules at once: apply a folder of distinct plain modules on two workers, then restart the workers.

Shown: until the command was answered (durable), until every module was ACTIVE, and what all processes of the system
spent on it; the worker's memory; how long restarted workers take until the last module answers, and what they spend.
The database is asked how far it is, so that watching costs the control plane nothing; discovery is off, so that it
does not find the code before the manifests come.
"""

import contextlib
import json
import sqlite3
import subprocess
import time
from pathlib import Path

import httpx
import psutil

from tests.bench import modules
from tests.bench.tables import table
from tests.doubles.platform import MODPLANE, Platform, lives, wait_for

COUNTS = (100, 500, 1_000, 2_000)
SLOTS = ("w0", "w1")


def run(folder: Path) -> str:
    """The table."""
    rows = [_measure(folder / str(count), count) for count in COUNTS]
    heads = (
        "modules", "apply answered s", "all ACTIVE s", "ms per module", "CPU ms per module",
        "worker MiB", "restart, last answers s", "restart, CPU s per worker",
    )  # fmt: skip
    return table("Bulk: a folder of distinct plain modules (10 routes each) on 2 workers", heads, rows)


def _measure(home: Path, count: int) -> tuple[object, ...]:
    platform = Platform(home, workers=2, examples=False, environment={"MODPLANE_AUTO_DISCOVER": "false"})
    platform.start()
    try:
        manifests = home / "manifests"
        manifests.mkdir()
        for number in range(count):
            modules.write(platform.modules, f"m{number}")
            (manifests / f"m{number}.json").write_text(json.dumps(modules.manifest(f"m{number}")))
        before = _processor(platform)
        started = time.monotonic()
        subprocess.run(
            [*MODPLANE, "apply", "-f", str(manifests), "--data-dir", str(platform.data)],
            check=True, stdout=subprocess.DEVNULL, cwd=home,
        )  # fmt: skip
        answered = time.monotonic() - started
        with contextlib.closing(platform.database()) as database:
            wait_for(lambda: _active(database) == count, timeout=600, step=0.2)
        active = time.monotonic() - started
        spent = _processor(platform) - before
        worker = platform.child("dataplane", "worker", "w0")
        memory = worker.memory_info().rss / 2**20
        restart = _restart(platform, count)
        loading = sum(sum(platform.child("dataplane", "worker", slot).cpu_times()[:2]) for slot in SLOTS) / len(SLOTS)
    finally:
        platform.stop()
    return (
        count, f"{answered:.2f}", f"{active:.1f}", f"{active / count * 1e3:.1f}", f"{spent / count * 1e3:.1f}",
        f"{memory:.0f}", f"{restart:.1f}", f"{loading:.1f}",
    )  # fmt: skip


def _restart(platform: Platform, count: int) -> float:
    """Seconds from the kill of both workers until the last module answers on each of the new ones."""
    for slot in SLOTS:
        platform.child("dataplane", "worker", slot).kill()
    started = time.monotonic()
    url = f"{platform.door}/api/v1/modules/v1/m{count - 1}/r9"
    wait_for(lambda: _workers_serve(platform, count) and httpx.get(url).status_code == 200, timeout=300, step=0.1)
    return time.monotonic() - started


def _workers_serve(platform: Platform, count: int) -> bool:
    try:
        items = platform.admin.get(f"{platform.control}/apis/modplane.dev/v1/workers").json()["items"]
        living = {child.pid for child in platform.children() if lives(child)}
        reports = [item["status"]["report"] for item in items]
        served = [
            httpx.get(f"{report['address']}/modules/system/info").json()
            for report in reports
            if report.get("modules") == count
        ]
        return len([info for info in served if info["worker"]["pid"] in living]) == len(SLOTS)
    except httpx.HTTPError:
        return False


def _active(database: sqlite3.Connection) -> int:
    question = "SELECT count(*) FROM objects WHERE kind = 'Module' AND json_extract(status, '$.state') = 'ACTIVE'"
    return int(database.execute(question).fetchone()[0])


def _processor(platform: Platform) -> float:
    """Seconds of processor time that every process of the system has spent, ended children included."""
    assert platform.process is not None
    times = [child.cpu_times() for child in [psutil.Process(platform.process.pid), *platform.children()]]
    return sum(sum(each[:4]) for each in times)
