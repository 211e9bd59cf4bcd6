"""Apply → live: from the first byte of the request at the API to the swap on the worker.

Both ends are read from the clock of one machine: the client's moment before it sends, and the worker's own record of
when the module's generation was published (``/modules/system/info``).  Every apply changes one module of ten plain
routes; *known code* changes only its configuration, *new code* also its source.
"""

import time
from datetime import datetime
from pathlib import Path

import httpx

from tests.bench import modules
from tests.bench.tables import quantile, table
from tests.doubles.platform import Platform, running, wait_for

ROUNDS = 60


def run(folder: Path) -> str:
    """The table."""
    rows = []
    with running(folder / "home", examples=False) as platform:
        modules.write(platform.modules, "changing")
        with httpx.Client(base_url=platform.control, timeout=30) as client:
            _apply(client, platform, 0)
            for label, new_code in (("known code", False), ("new code", True)):
                taken = [_once(client, platform, number, new_code=new_code) for number in range(1, ROUNDS + 1)]
                for end, index in (("swapped on the worker", 0), ("ACTIVE in the API", 1), ("apply answered", 2)):
                    values = [each[index] * 1e3 for each in taken]
                    rows.append((label, end, *(f"{quantile(values, share):.1f}" for share in (0.5, 0.9, 0.99))))
    return table(
        f"Apply → live, {ROUNDS} applies, 1 idle worker", ("what", "until", "p50 ms", "p90 ms", "p99 ms"), rows
    )


def _once(client: httpx.Client, platform: Platform, number: int, *, new_code: bool) -> tuple[float, float, float]:
    if new_code:
        modules.write(platform.modules, "changing", say=f"round {number}")
    return _apply(client, platform, number + (1_000 if new_code else 0))


def _apply(client: httpx.Client, platform: Platform, number: int) -> tuple[float, float, float]:
    """Seconds until the swap, until ACTIVE was stored, and until the apply was answered."""
    body = modules.text(modules.manifest("changing", config={"round": number}))
    started = time.time()
    answer = client.post(
        "/apis/modplane.dev/v1/apply?fieldManager=bench", content=body, headers={"content-type": "application/json"}
    )
    answered = time.time()
    answer.raise_for_status()
    generation = answer.json()["items"][0]["object"]["metadata"]["generation"]
    stored = wait_for(lambda: _active(client, generation))
    info = httpx.get(f"{platform.endpoints['workers'][0]}/modules/system/info").json()
    (swapped,) = [item["since"] for item in info["modules"] if item["name"] == "changing"]
    return (datetime.fromisoformat(swapped).timestamp() - started, stored - started, answered - started)


def _active(client: httpx.Client, generation: int) -> float | None:
    found = client.get("/apis/modplane.dev/v1/modules/changing").json()
    for condition in found["status"].get("conditions", []):
        if condition["type"] == "Programmed" and condition["observedGeneration"] == generation:
            return (
                datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
                if condition["status"] == "True"
                else None
            )
    return None
