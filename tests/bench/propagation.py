"""Apply → live: from the first byte of the request at the API to the swap on the last of two idle workers.

Both ends are read from the clock of one machine: the moment in which the whole request is handed to the API's open
connection, and each worker's own record of when it published the module's generation (``/modules/system/info``), asked
for later, so that asking takes no processor from what is measured.  Every apply changes one module of ten routes; what
changes decides what has to be done:

*limits*: what lies around the code; *flipped code*: code and configuration that were inspected before, by turns;
*configuration*: what is handed to the code, which is inspected with it; *new code*: its source.

Ten and a thousand other modules are present in two systems that run side by side and take turns.  Beside the figures
stand the floors of the same rounds (`tests.bench.floors`).
"""

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.bench import floors, modules
from tests.bench.tables import median, quantile, table
from tests.doubles.platform import BY_HAND, MODPLANE, Platform, wait_for

ROUNDS = 5
APPLIES = 20
PRESENT = (10, 1_000)
_PEACE = 0.1
"""Seconds in which the bench itself does nothing: before an apply, and after it until its traces are read."""
ENDS = ("last swap", "ACTIVE in the API", "apply answered")

Change = Callable[[Platform, int], dict[str, object]]


def run(folder: Path) -> str:
    """The table."""
    taken: dict[tuple[str, int], list[list[tuple[float, ...]]]] = {}
    least: list[floors.Floors] = []
    with contextlib.ExitStack() as stack:
        nats_url = stack.enter_context(floors.server(folder / "floors"))
        platforms = {count: stack.enter_context(_present(folder / str(count), count)) for count in PRESENT}
        for number in range(ROUNDS):
            for label, change in CHANGES.items():
                least.append(floors.measure(folder, nats_url))
                for count, platform in platforms.items():
                    first = number * APPLIES
                    values = [_apply(platform, change(platform, nth)) for nth in range(first, first + APPLIES)]
                    taken.setdefault((label, count), []).append(values)
    rows = []
    for (label, count), rounds in taken.items():
        for nth, end in enumerate(ENDS):
            middles = [quantile([each[nth] * 1e3 for each in values], 0.5) for values in rounds]
            everything = [each[nth] * 1e3 for values in rounds for each in values]
            tail = [quantile(everything, share) for share in (0.9, 0.99)]
            ratio = f"{median(middles) / median([each.total for each in least]):.1f}"
            rows.append((label, count, end, *(f"{value:.1f}" for value in (median(middles), *tail)), ratio))
    title = f"Apply → live on both of 2 idle workers: {ROUNDS} interleaved rounds of {APPLIES} applies"
    heads = ("what changes", "modules present", "until", "p50 ms", "p90 ms", "p99 ms", "p50 / floors")
    return table(title, heads, rows) + _floors(least)


def _floors(least: list[floors.Floors]) -> str:
    rows = [
        ("a durable commit of SQLite", f"{median([each.commit for each in least]):.2f}"),
        ("a message from bucket to watcher", f"{median([each.message for each in least]):.2f}"),
        ("ten plain routes made by FastAPI", f"{median([each.routes for each in least]):.2f}"),
    ]
    return table("Floors of the same rounds", ("what", "p50 ms"), rows)


def _limits(platform: Platform, number: int) -> dict[str, object]:
    return modules.manifest("changing", limits={"timeoutSeconds": 40 + number})


def _flipped(platform: Platform, number: int) -> dict[str, object]:
    modules.write(platform.modules, "changing", say=f"flip {number % 2}")
    return modules.manifest("changing", description=f"flip {number}")


def _configuration(platform: Platform, number: int) -> dict[str, object]:
    return modules.manifest("changing", config={"round": number})


def _new_code(platform: Platform, number: int) -> dict[str, object]:
    modules.write(platform.modules, "changing", say=f"round {number}")
    return modules.manifest("changing", description=f"round {number}")


def _annotated(platform: Platform, number: int) -> dict[str, object]:
    modules.write(platform.modules, "changing", say=f"typed {number}", annotated=True)
    return modules.manifest("changing", description=f"typed {number}")


CHANGES: dict[str, Change] = {
    "limits": _limits,
    "flipped code": _flipped,
    "configuration": _configuration,
    "new code": _new_code,
    "new code, annotated": _annotated,
}


@contextlib.contextmanager
def _present(home: Path, count: int) -> Iterator[Platform]:
    """Two workers that serve ``count`` modules beside the changing one."""
    platform = Platform(home, workers=2, examples=False, environment=BY_HAND)
    platform.start()
    try:
        folder = home / "manifests"
        folder.mkdir()
        for number in range(count):
            modules.write(platform.modules, f"m{number}")
            (folder / f"m{number}.json").write_text(json.dumps(modules.manifest(f"m{number}")))
        command = [*MODPLANE, "apply", "-f", str(folder), "--data-dir", str(platform.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home)
        with contextlib.closing(platform.database()) as database:
            query = "SELECT count(*) FROM objects WHERE kind = 'Module' AND json_extract(status, '$.state') = 'ACTIVE'"
            wait_for(lambda: database.execute(query).fetchone()[0] == count, timeout=600, step=0.2)
        modules.write(platform.modules, "changing")
        for change in CHANGES.values():
            _apply(platform, change(platform, -1))
        yield platform
    finally:
        platform.stop()


def _apply(platform: Platform, manifest: dict[str, object]) -> tuple[float, ...]:
    """Seconds until the last swap, until ACTIVE was stored, and until the apply was answered."""
    started, answered, answer = _post(platform, modules.text(manifest))
    generation = answer["items"][0]["object"]["metadata"]["generation"]
    time.sleep(_PEACE)
    stored = wait_for(lambda: _active(platform, generation), step=0.05)
    swapped = max(_since(address, generation) for address in platform.endpoints["workers"])
    return (swapped - started, stored - started, answered - started)


def _post(platform: Platform, body: bytes) -> tuple[float, float, Any]:
    """When the first byte of an apply was handed to the API, when the last one of the answer came, and the answer."""
    place, token = urlsplit(platform.control), Path(platform.endpoints["tokenFile"]).read_text().strip()
    head = (
        f"POST /apis/modplane.dev/v1/apply?fieldManager=bench HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    line = socket.create_connection((place.hostname or "", place.port or 0))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with platform.trust.wrap_socket(line, server_hostname=place.hostname) as api:
        answer = http.client.HTTPResponse(api)
        time.sleep(_PEACE)
        started = time.time()
        api.sendall(head.encode() + body)
        answer.begin()
        text = answer.read()
        answered = time.time()
    assert answer.status == 200, text
    return started, answered, json.loads(text)


def _active(platform: Platform, generation: int) -> float | None:
    """Since when this generation is the one that serves, as its status says."""
    found = platform.admin.get(f"{platform.control}/apis/modplane.dev/v1/modules/changing").json()
    serving = found["status"].get("serving", {})
    return datetime.fromisoformat(serving["since"]).timestamp() if serving.get("generation") == generation else None


def _since(address: str, generation: int) -> float:
    """When a worker published this generation."""
    found = httpx.get(f"{address}/modules/system/info").json()["modules"]
    (since,) = [item["since"] for item in found if item["name"] == "changing" and item["generation"] == generation]
    return datetime.fromisoformat(since).timestamp()
