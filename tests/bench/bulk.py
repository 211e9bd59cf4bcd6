"""Many modules at once: apply a folder of distinct plain modules on two workers, then restart the workers.

Shown: until the command was answered (durable), until every module was ACTIVE, the worker's memory, and how long a
restarted system takes until the last module answers.
"""

import json
import subprocess
import time
from pathlib import Path

import httpx
import psutil

from tests.bench import modules
from tests.bench.tables import table
from tests.doubles.platform import MODPLANE, Platform, wait_for

COUNTS = (100, 1_000)


def run(folder: Path) -> str:
    """The table."""
    rows = [_measure(folder / str(count), count) for count in COUNTS]
    heads = ("modules", "apply answered s", "all ACTIVE s", "ms per module", "worker MiB", "restart, last answers s")
    return table("Bulk: a folder of distinct plain modules (10 routes each) on 2 workers", heads, rows)


def _measure(home: Path, count: int) -> tuple[object, ...]:
    platform = Platform(home, workers=2, examples=False)
    platform.start()
    try:
        manifests = home / "manifests"
        manifests.mkdir()
        for number in range(count):
            modules.write(platform.modules, f"m{number}")
            (manifests / f"m{number}.json").write_text(json.dumps(modules.manifest(f"m{number}")))
        started = time.monotonic()
        subprocess.run(
            [*MODPLANE, "apply", "-f", str(manifests), "--server", platform.control],
            check=True, stdout=subprocess.DEVNULL, cwd=home,
        )  # fmt: skip
        answered = time.monotonic() - started
        wait_for(lambda: _active(platform) == count, timeout=300, step=0.2)
        active = time.monotonic() - started
        worker = platform.child("dataplane", "worker", "w0")
        memory = worker.memory_info().rss / 2**20
        restart = _restart(platform, count)
    finally:
        platform.stop()
    each = active / count * 1e3
    return count, f"{answered:.2f}", f"{active:.1f}", f"{each:.1f}", f"{memory:.0f}", f"{restart:.1f}"


def _restart(platform: Platform, count: int) -> float:
    """Seconds from the kill of both workers until the last module answers on each of the new ones."""
    for slot in ("w0", "w1"):
        platform.child("dataplane", "worker", slot).kill()
    started = time.monotonic()
    url = f"{platform.door}/api/v1/modules/v1/m{count - 1}/r9"
    wait_for(lambda: _workers_serve(platform, count) and httpx.get(url).status_code == 200, timeout=300, step=0.1)
    return time.monotonic() - started


def _workers_serve(platform: Platform, count: int) -> bool:
    try:
        items = platform.http.get(f"{platform.control}/apis/modplane.dev/v1/workers").json()["items"]
        living = {child.pid for child in platform.children() if child.status() != psutil.STATUS_ZOMBIE}
        reports = [item["status"]["report"] for item in items]
        served = [
            httpx.get(f"{report['address']}/modules/system/info").json()
            for report in reports
            if report.get("modules") == count
        ]
        return len([info for info in served if info["worker"]["pid"] in living]) == 2
    except httpx.HTTPError:
        return False


def _active(platform: Platform) -> int:
    items = platform.http.get(f"{platform.control}/apis/modplane.dev/v1/modules").json()["items"]
    return sum(item["status"]["state"] == "ACTIVE" for item in items)
