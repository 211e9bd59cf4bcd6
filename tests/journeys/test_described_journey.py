"""Each plane answers as its OpenAPI document says, whatever it is asked: schemathesis finds no fault.

Against a real platform with the examples, with every check that there is; the cases are the same in every run.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.gateway import documenting
from schemas import names
from tests.doubles.platform import Platform, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

EXAMPLES = "25"
"""Of each operation, beside those that cover its schema systematically."""
PREFIXES = {
    "analytics_core": f"{names.MODULES_PREFIX}/v1/analytics-core",
    "analytics_core_v2": f"{names.MODULES_PREFIX}/v2/analytics-core",
    "pricing_intelligence": f"{names.MODULES_PREFIX}/v1/pricing-intelligence",
    "team_dashboard": f"{names.MODULES_PREFIX}/v1/team-dashboard",
}
"""Of the modules that guard routes."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("described")) as started:
        for name in ("analytics-core", "pricing-intelligence", "my-module"):
            started.wait_state(name, "ACTIVE")
        yield started


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Platform]:
    """One on which nobody has called what deletes modules."""
    with running(tmp_path) as started:
        yield started


def faults(home: Path, document: str, *words: str) -> str:
    """What schemathesis says of a document; empty: nothing."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", document, "--checks", "all",
            "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--generation-deterministic",
            "--request-timeout", "60", "--suppress-health-check", "all", "--no-color", *words,
        ],
        cwd=home, capture_output=True, text=True, timeout=270, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def test_the_control_plane_answers_as_it_says(platform: Platform) -> None:
    token = Path(platform.endpoints["tokenFile"]).read_text().strip()
    found = faults(
        platform.home, f"{platform.control}/openapi.json", "--header", f"Authorization: Bearer {token}",
        "--tls-verify", platform.endpoints["caFile"],
    )  # fmt: skip
    assert found == ""


def test_a_worker_answers_as_it_says(platform: Platform) -> None:
    document = platform.home / "worker.openapi.json"
    document.write_text(json.dumps(documenting.document(names.VERSION)))
    assert faults(platform.home, str(document), "--url", platform.door) == ""


def test_the_modules_answer_as_the_worker_says(platform: Platform) -> None:
    assert faults(platform.home, f"{platform.door}/openapi.json") == ""


def test_the_modules_answer_who_may_call_as_the_worker_says(untouched: Platform) -> None:
    untouched.cli("apply", "--wait", "-f", str(untouched.modules / "_tour"))
    may = ("--org", "acme", "--permission", "read_analytics", "--permission", "analyse_markets")
    token = untouched.cli("token", "create", "--sub", "ada", *may).strip()
    wait_for(lambda: len(guarding(untouched)) > 10, what="the guarded routes of the examples are there")
    guarded = guarding(untouched)
    assert faults(untouched.home, f"{untouched.door}/openapi.json", "--header", f"Authorization: Bearer {token}") == ""
    wait_for(lambda: guarded <= reached(untouched), what=lambda: f"not reached: {guarded - reached(untouched)}")


def guarding(platform: Platform) -> set[str]:
    """Routes of the modules that serve which ask who calls."""
    paths = platform.http.get(f"{platform.door}/openapi.json").json()["paths"]
    return {path for path, item in paths.items() if any(each.get("security") for each in item.values())}


def reached(platform: Platform) -> set[str]:
    """Routes that somebody was let into, as counted."""
    found = platform.admin.get(f"{platform.control}{names.MANAGEMENT_PREFIX}/modules/metrics").json()
    return {
        PREFIXES[entry["module_id"]] + entry["route"]
        for entry in found.values()
        if entry["module_id"] in PREFIXES and entry["call_count"] > entry["errors"]["refused"]
    }
