"""Apply → live: from the first byte of the request at the API to the swap on the worker.

Both ends are read from the clock of one machine: the client's moment before it sends, and the worker's own record of
when the module's generation was published (``/modules/system/info``).  Every apply changes one module of ten plain
routes: *known code* its limits (code and configuration were inspected before), *new configuration* what is handed to
the code (which is inspected with it), *new code* its source.
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
            for label, change in CHANGES.items():
                taken = [_apply(client, platform, change(platform, number)) for number in range(ROUNDS)]
                for end, index in (("swapped on the worker", 0), ("ACTIVE in the API", 1), ("apply answered", 2)):
                    values = [each[index] * 1e3 for each in taken]
                    rows.append((label, end, *(f"{quantile(values, share):.1f}" for share in (0.5, 0.9, 0.99))))
    return table(
        f"Apply → live, {ROUNDS} applies, 1 idle worker", ("what", "until", "p50 ms", "p90 ms", "p99 ms"), rows
    )


def _known_code(platform: Platform, number: int) -> dict[str, object]:
    return modules.manifest("changing", limits={"timeoutSeconds": 30 + number})


def _new_configuration(platform: Platform, number: int) -> dict[str, object]:
    return modules.manifest("changing", config={"round": number})


def _new_code(platform: Platform, number: int) -> dict[str, object]:
    modules.write(platform.modules, "changing", say=f"round {number}")
    return modules.manifest("changing", description=f"round {number}")


CHANGES = {"known code": _known_code, "new configuration": _new_configuration, "new code": _new_code}


def _apply(client: httpx.Client, platform: Platform, manifest: dict[str, object]) -> tuple[float, float, float]:
    """Seconds until the swap, until ACTIVE was stored, and until the apply was answered."""
    body = modules.text(manifest)
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
    """Since when this generation is the one that serves, as its status says."""
    serving = client.get("/apis/modplane.dev/v1/modules/changing").json()["status"].get("serving", {})
    return datetime.fromisoformat(serving["since"]).timestamp() if serving.get("generation") == generation else None
