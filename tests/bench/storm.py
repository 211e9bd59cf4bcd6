"""Changes under load: fifty changes of one module, one every 100 ms, while another module is called without pause.

Shown beside a quiet run of the same load, and with the count of answers other than 200 and of closed connections.
"""

import asyncio
import json
import threading
from pathlib import Path

import httpx

from tests.bench import load, modules
from tests.bench.tables import median, table
from tests.doubles.platform import Platform, running

ROUNDS = 5
CHANGES = 50
CONNECTIONS = 16
REQUESTS = 16_000


def run(folder: Path) -> str:
    """The table."""
    with running(folder / "home", examples=False, workers=1) as platform:
        for name in ("steady", "changing"):
            modules.write(platform.modules, name)
            platform.cli("apply", "--wait", "-f", "-", stdin=json.dumps(modules.manifest(name)))
        _load(platform)
        taken: dict[str, list[load.Load]] = {"quiet": [], "50 changes": []}
        for number in range(ROUNDS):
            taken["quiet"].append(_load(platform))
            taken["50 changes"].append(_during_changes(platform, number))
    rows = []
    for name, runs in taken.items():
        figures = [median([each.percentile(share) for each in runs]) * 1e3 for share in (0.5, 0.99)]
        rate = median([each.requests / each.seconds for each in runs])
        wrong = sum(each.failures for each in runs)
        rows.append((name, f"{rate:.0f}", f"{figures[0]:.2f}", f"{figures[1]:.2f}", wrong))
    heads = ("run", "requests/s", "p50 ms", "p99 ms", "wrong answers or closed connections")
    return table(f"Changes under load: {ROUNDS} interleaved rounds, {CONNECTIONS} connections", heads, rows)


def _load(platform: Platform) -> load.Load:
    port = int(platform.door.rsplit(":", 1)[1])
    path = "/api/v1/modules/v1/steady/r9"
    return load.run("127.0.0.1", port, path, requests=REQUESTS, connections=CONNECTIONS)


def _during_changes(platform: Platform, number: int) -> load.Load:
    ended = threading.Event()

    async def change() -> None:
        async with httpx.AsyncClient(base_url=platform.control, timeout=30) as client:
            for index in range(CHANGES):
                modules.write(platform.modules, "changing", say=f"{number} {index}")
                body = modules.text(modules.manifest("changing", description=f"{number} {index}"))
                answer = await client.post(
                    "/apis/modplane.dev/v1/apply?fieldManager=bench",
                    content=body,
                    headers={"content-type": "application/json"},
                )
                answer.raise_for_status()
                if ended.is_set():
                    return
                await asyncio.sleep(0.1)

    changing = threading.Thread(target=lambda: asyncio.run(change()))
    changing.start()
    try:
        return _load(platform)
    finally:
        ended.set()
        changing.join()
