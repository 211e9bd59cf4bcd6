"""With NATS, the database or a module broken the planes still answer, and say what is broken; then they go on.

On a running platform; the tests tell one story, in order, and the last one breaks what cannot be mended.
"""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import names
from tests.doubles.platform import BY_HAND, Platform, module_source, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

HELLO = "v1/shop/hello"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("broken"), examples=False, environment=BY_HAND) as started:
        (started.modules / "shop.py").write_text(module_source("shop"))
        started.cli("discover")
        started.wait_state("shop", "ACTIVE")
        yield started


def control(platform: Platform, path: str) -> tuple[int, dict[str, Any]]:
    answer = platform.admin.get(f"{platform.control}{path}")
    return answer.status_code, answer.json()


def system(platform: Platform) -> dict[str, Any]:
    status, body = control(platform, f"{names.MANAGEMENT_PREFIX}/system/health")
    assert status == 200
    return body


def worker(platform: Platform) -> tuple[int, dict[str, Any]]:
    answer = platform.http.get(f"{platform.door}/ready")
    return answer.status_code, answer.json()


def test_with_everything_well_every_check_is(platform: Platform) -> None:
    wait_for(lambda: system(platform)["status"] == "healthy", what=lambda: system(platform))
    status, ready = control(platform, "/ready")
    assert (status, {name for name, check in ready["checks"].items() if not check["ok"]}) == (200, set())
    wait_for(
        lambda: all(check["ok"] for check in worker(platform)[1]["checks"].values()), what=lambda: worker(platform)
    )
    assert control(platform, "/modules/system/info")[1]["plane"] == "control"


def test_a_broken_module_degrades_the_system_and_nothing_else(platform: Platform) -> None:
    (platform.modules / "odd.py").write_text("import nothing_of_this_name\n")
    spec = {"entryPoint": "odd:Odd"}
    document = {"apiVersion": names.API_VERSION, "kind": "Module", "metadata": {"name": "odd"}, "spec": spec}
    platform.cli("apply", "-f", "-", stdin=json.dumps(document))
    platform.wait_state("odd", "ERROR")
    found = system(platform)
    assert found["status"] == "degraded"
    assert any(reason.startswith("module odd: ImportFailed: odd.py:1") for reason in found["reasons"])
    assert control(platform, "/ready")[0] == 200
    assert platform.call(HELLO).status_code == 200
    platform.cli("delete", "module", "odd")
    wait_for(lambda: system(platform)["status"] == "healthy", what=lambda: system(platform))


def test_without_nats_both_planes_answer_and_say_so_and_recover(platform: Platform) -> None:
    nats = platform.child("nats-server")
    nats.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: control(platform, "/ready")[0] == 503, what=lambda: control(platform, "/ready"))
        _, ready = control(platform, "/ready")
        assert ready["checks"]["nats"]["ok"] is False
        assert ready["checks"]["nats"]["reason"]
        assert ready["checks"]["nats"]["since"]
        assert ready["checks"]["store"]["ok"] is True
        found = system(platform)
        assert (found["status"], found["modules"]) == ("unhealthy", {"active": 1})
        assert any(reason.startswith("nats: ") for reason in found["reasons"])
        wait_for(lambda: not worker(platform)[1]["checks"]["nats"]["ok"], what=lambda: worker(platform))
        assert worker(platform)[0] == 200
        assert platform.call(HELLO).status_code == 200
    finally:
        nats.send_signal(signal.SIGCONT)
    wait_for(lambda: control(platform, "/ready")[0] == 200, what=lambda: control(platform, "/ready"))
    wait_for(lambda: system(platform)["status"] == "healthy", what=lambda: system(platform))


def test_with_its_database_gone_the_control_plane_answers_and_requests_flow(platform: Platform) -> None:
    for file in platform.data.glob("modplane.db*"):
        size = file.stat().st_size
        with file.open("r+b") as written:
            written.write(b"\xff" * size)
    wait_for(
        lambda: not control(platform, "/ready")[1]["checks"]["store"]["ok"], what=lambda: control(platform, "/ready")
    )
    status, ready = control(platform, "/ready")
    assert (status, bool(ready["checks"]["store"]["reason"])) == (503, True)
    assert platform.admin.get(f"{platform.control}/health").status_code == 200
    found = system(platform)
    assert (found["status"], found["modules"]) == ("unhealthy", None)
    refused = platform.admin.get(f"{platform.control}{names.MANAGEMENT_PREFIX}/modules")
    assert refused.status_code in (500, 503)
    assert refused.headers["content-type"] == "application/problem+json"
    assert platform.call(HELLO).status_code == 200
