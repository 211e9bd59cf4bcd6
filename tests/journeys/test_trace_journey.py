"""One change is one trace over three processes, a request is one too, and no collector is needed to see the first."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.kits import tracecontext
from tests.doubles import polling
from tests.doubles.platform import BY_HAND, Platform, running
from tests.doubles.spans import Collector, collector

pytestmark = pytest.mark.processes

ON_WORKERS = {"apply", "load", "warm", "start", "swap", "save", "acknowledge"}
MODULE: dict[str, Any] = {
    "apiVersion": "modplane.dev/v1",
    "kind": "Module",
    "metadata": {"name": "my-module"},
    "spec": {
        "entryPoint": "my_module:MyModule",
        "source": {"path": "my_module"},
        "version": "1.0.0",
        "type": "core",
    },
}


@pytest.fixture(scope="module")
def taken() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture(scope="module")
def platform(taken: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two workers, nothing applied yet, and somebody who collects spans."""
    home = tmp_path_factory.mktemp("traced")
    environment = {**BY_HAND, "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running(home, workers=2, environment=environment) as started:
        yield started


@pytest.fixture(scope="module")
def change(platform: Platform) -> str:
    """The trace of a person who applies a module."""
    parent = tracecontext.start(tracecontext.SAMPLED)
    answer = platform.admin.post(
        f"{platform.control}/apis/modplane.dev/v1/modules", json=MODULE, headers={"traceparent": str(parent)}
    )
    assert answer.status_code == 201, answer.text
    platform.wait_state("my-module", "ACTIVE", timeout=60.0)
    return parent.trace_id


def test_one_change_is_one_trace_over_the_control_plane_and_both_workers(change: str, taken: Collector) -> None:
    def whole() -> list[dict[str, Any]]:
        spans = [span for span in taken.taken() if span["trace"] == change]
        named = {(span["service"], span["name"]) for span in spans}
        acknowledged = {span["instance"] for span in spans if span["name"] == "acknowledge"}
        return spans if ("modplane-controlplane", "reconcile") in named and len(acknowledged) == 2 else []

    spans = polling.until_sync(whole, what="the whole trace has arrived")
    by_id = {span["id"]: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span["instance"] for span in spans}) == 3
    planes = {name: {span["name"] for span in spans if span["service"] == name} for name in ("modplane-worker",)}
    assert planes["modplane-worker"] == ON_WORKERS
    decided = {span["name"] for span in spans if span["service"] == "modplane-controlplane"}
    assert {"store write", "publish desired state", "publish head", "publish event", "reconcile"} <= decided
    roots = [span for span in spans if span["parent"] not in by_id]
    assert [root["name"] for root in roots] == ["POST /apis/modplane.dev/v1/modules"]
    for span in spans:
        if span["service"] == "modplane-worker" and span["name"] == "apply":
            assert by_id[span["parent"]]["name"] == "publish desired state"


def test_the_last_change_is_shown_as_a_tree_with_the_slowest_worker(change: str, platform: Platform) -> None:
    def told() -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(platform.cli("trace", "my_module", "-o", "json"))
        who = {step["who"] for step in answer["steps"]}
        done = {step["name"] for step in answer["steps"]}
        return answer if len(who) == 3 and {"reconcile", "POST /apis/modplane.dev/v1/modules"} <= done else {}

    answer = polling.until_sync(told, what="all steps are kept", step=0.2)
    assert answer["trace_id"] == change
    assert answer["slowest_worker"]["id"] in {"w0", "w1"}
    text = platform.cli("trace", "my-module")
    assert f"trace {change}" in text
    for words in (
        "POST /apis/modplane.dev/v1/modules",
        "apply [w0]",
        "apply [w1]",
        "└─ acknowledge",
        "Slowest worker:",
    ):
        assert words in text


def test_a_request_goes_on_in_its_client_s_trace(change: str, platform: Platform, taken: Collector) -> None:
    parent = tracecontext.start(tracecontext.SAMPLED)
    answer = httpx.get(f"{platform.door}/api/v1/modules/v1/my-module/hello", headers={"traceparent": str(parent)})
    route = "GET /api/v1/modules/v1/my-module/hello"

    def arrived() -> list[dict[str, Any]]:
        spans = [span for span in taken.taken() if span["trace"] == parent.trace_id]
        return spans if {route, "handle"} <= {span["name"] for span in spans} else []

    spans = {span["name"]: span for span in polling.until_sync(arrived, what="the request's spans have arrived")}
    assert spans[route]["parent"] == parent.span_id
    assert spans[route]["attributes"]["http.response.status_code"] == answer.status_code
    assert spans["handle"]["parent"] == spans[route]["id"]


TALKER = """import logging
import sys
import threading

from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

print("imported")


class Talker(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="talker", version="1.0.0")

    def on_startup(self):
        print("started", file=sys.stderr)

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/say")
        @require_module_auth("NONE")
        def say(word: str):
            logging.getLogger(__name__).warning("asked for %s", word)
            thread = threading.Thread(target=lambda: print("in a thread", word))
            thread.start()
            thread.join()
            return 1 / 0 if word == "fail" else word
"""


def test_what_a_module_writes_is_shown_by_module_and_worker(change: str, platform: Platform) -> None:
    (platform.modules / "talker.py").write_text(TALKER)
    made = {**MODULE, "metadata": {"name": "talker"}}
    made["spec"] = {**MODULE["spec"], "entryPoint": "talker:Talker", "source": {"path": "talker"}}
    answer = platform.admin.post(f"{platform.control}/apis/modplane.dev/v1/modules", json=made)
    assert answer.status_code == 201, answer.text
    platform.wait_state("talker", "ACTIVE", timeout=60.0)
    other, own = platform.refresh()
    say = "api/v1/modules/v1/talker/say?word"
    for door in (other, own):
        polling.until_sync(lambda: httpx.get(f"{door}/{say}=hi").status_code == 200, what="it serves")  # noqa: B023
    assert httpx.get(f"{own}/{say}=hello").json() == "hello"
    assert httpx.get(f"{own}/{say}=fail").status_code == 500

    def everywhere() -> bool:
        shown = platform.cli("logs", "talker")
        words = ("stdout    imported", "stderr    started")
        return all(f"  {worker}  {each}\n" in shown for worker in ("w0", "w1") for each in words)

    polling.until_sync(everywhere, what="both workers tell of import and start", step=0.2)
    lines = platform.cli("logs", "talker", "--worker", "w1")
    assert "  w0  " not in lines
    for words in ("warning   asked for hello", "stdout    in a thread hello", "ZeroDivisionError: division by zero"):
        assert words in lines

    def written(words: str) -> list[str]:
        log = "".join(path.read_text(errors="replace") for path in (platform.data / "logs").iterdir())
        return [line for line in log.splitlines(keepends=True) if words in line and line.endswith("\n")]

    (printed,) = polling.until_sync(lambda: written("in a thread hello"), what="what was printed is in the log")
    for words in ("module output", "module=talker", "worker=w1"):
        assert words in printed
    (asked,) = polling.until_sync(lambda: written("asked for hello"), what="what was logged is in the log")
    for words in ("module=talker", "worker=w1", "trace_id=", "request_id="):
        assert words in asked


def test_the_information_page_says_what_became_of_spans(change: str, platform: Platform) -> None:
    shown = httpx.get(f"{platform.refresh()[0]}/modules/system/info").json()["tracing"]
    assert (shown["enabled"], shown["dropped"], shown["failed"]) == (True, 0, 0)
