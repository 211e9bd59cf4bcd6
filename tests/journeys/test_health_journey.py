"""A module falls ill and recovers, is taken out and comes back, and a bad generation gives way to the last good one.

On a running platform, two workers, as people and callers see it.  The tests tell one story, in order.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas import names
from tests.doubles.platform import BY_HAND, Platform, module_source, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WARD = '''"""A module that is ill when a file says so."""

import pathlib
import uuid

from fastapi import HTTPException

from dataplane.sdk import BaseModuleRouter, HealthStatus, ModuleMetadata, require_module_auth


class Ward(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="ward", version="1.0.0")
    id = ""

    def register_routes(self, router):
        self.id = uuid.uuid4().hex

        @router.get("/who")
        @require_module_auth("NONE")
        async def who():
            if self.config.get("broken"):
                raise HTTPException(500, "broken")
            return {"id": self.id, "say": self.config.get("say")}

    async def check_health(self):
        ill = pathlib.Path(self.config["ill"]).read_text().split()
        return HealthStatus("all" not in ill and self.id not in ill, "the file says that I am ill", {"id": self.id})
'''


class Ward:
    """The module, from outside."""

    def __init__(self, platform: Platform, ill: Path) -> None:
        self.platform = platform
        self.ill = ill

    def apply(self, *, bake: int = 2, **config: Any) -> None:
        spec = {
            "entryPoint": "ward:Ward",
            "config": {"ill": str(self.ill), **config},
            "health": {"intervalSeconds": 1, "failureThreshold": 1},
            "rollout": {"bakeSeconds": bake, "minimumCalls": 5},
        }
        text = {"apiVersion": names.API_VERSION, "kind": "Module", "metadata": {"name": "ward"}, "spec": spec}
        self.platform.cli("apply", "-f", "-", stdin=json.dumps(text))

    def call(self) -> httpx.Response:
        """A call through the shared door, on a connection of its own, so that either worker may get it."""
        with httpx.Client(timeout=30) as client:
            return client.get(f"{self.platform.door}/api/v1/modules/v1/ward/who")

    def at(self, worker: str) -> httpx.Response:
        return self.platform.http.get(f"{worker}/api/v1/modules/v1/ward/who")

    def everywhere(self) -> list[httpx.Response]:
        return [self.at(worker) for worker in self.platform.refresh()]

    def status(self) -> dict[str, Any]:
        path = f"{names.MANAGEMENT_PREFIX}/modules/ward/status"
        found: dict[str, Any] = self.platform.admin.get(f"{self.platform.control}{path}").json()
        return found

    def health(self) -> str:
        return str(self.status()["health"]["status"])

    def condition(self, kind: str) -> dict[str, Any]:
        return next((each for each in self.status()["conditions"] if each["type"] == kind), {})


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    home = tmp_path_factory.mktemp("ward")
    with running(home, workers=2, examples=False, environment=BY_HAND) as platform:
        (platform.modules / "ward.py").write_text(WARD)
        (platform.modules / "next_door.py").write_text(module_source("next_door"))
        (home / "ill").write_text("")
        made = Ward(platform, home / "ill")
        platform.cli("discover")
        platform.wait_state("next-door", "ACTIVE")
        made.apply(say="one")
        yield made


def test_a_generation_that_is_well_proves_itself(ward: Ward) -> None:
    wait_for(lambda: ward.condition("Baked").get("reason") == "Proved", what=ward.status)
    wait_for(lambda: ward.health() == "healthy", what=ward.status)
    first = ward.status()["health"]["last_check"]
    wait_for(lambda: datetime.fromisoformat(ward.status()["health"]["last_check"]) > datetime.fromisoformat(first))


def test_an_ill_instance_is_replaced_by_a_fresh_one_without_a_failed_request(ward: Ward) -> None:
    worker = ward.platform.refresh()[0]
    ill = ward.at(worker).json()["id"]
    ward.ill.write_text(ill)
    seen: list[int] = []

    def replaced() -> bool:
        seen.append(ward.call().status_code)
        return bool(ward.at(worker).json()["id"] != ill)

    wait_for(replaced, what=ward.status)
    wait_for(lambda: ward.health() == "healthy", what=ward.status)
    assert set(seen) == {200}


def test_what_no_fresh_instance_helps_is_out_of_service_while_others_serve(ward: Ward) -> None:
    ward.ill.write_text("all")
    wait_for(lambda: {answer.status_code for answer in ward.everywhere()} == {503}, what=ward.status)
    for answer in ward.everywhere():
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["detail"] == "module ward cannot serve on this worker: Unhealthy"
    assert ward.platform.call("v1/next-door/hello").status_code == 200
    assert ward.platform.call("v1/ward/health").status_code == 503
    wait_for(lambda: ward.status()["health"].get("out") == 2, what=ward.status)
    assert "the file says that I am ill" in ward.condition("Healthy")["message"]
    assert ward.condition("Ready")["status"] == "False"


def test_the_first_check_that_is_well_brings_it_back(ward: Ward) -> None:
    ward.ill.write_text("")
    wait_for(lambda: {answer.status_code for answer in ward.everywhere()} == {200}, what=ward.status)
    wait_for(lambda: ward.condition("Ready").get("status") == "True", what=ward.status)


def test_a_bad_generation_gives_way_to_the_last_good_one_with_the_numbers(ward: Ward) -> None:
    good = ward.status()["serving"]["generation"]
    ward.apply(bake=600, say="two", broken=True)

    def given_up() -> bool:
        ward.call()
        return bool(ward.status()["state"] == "error")

    wait_for(given_up, what=ward.status)
    wait_for(lambda: {answer.status_code for answer in ward.everywhere()} == {200}, what=ward.status)
    assert {answer.json()["say"] for answer in ward.everywhere()} == {"one"}
    wait_for(lambda: ward.status()["serving"]["generation"] == good, what=ward.status)
    status = ward.status()
    assert status["serving"]["reason"] == "ReturnedToLastGood"
    assert ward.condition("Baked")["reason"] in {"ErrorBudgetSpent", "BakeCircuitOpen"}
    assert "calls failed" in ward.condition("Baked")["message"]
    path = f"{names.MANAGEMENT_PREFIX}/modules/registration-history?module=ward"
    newest = ward.platform.admin.get(f"{ward.platform.control}{path}").json()["events"][0]
    assert (newest["state"], newest["message"]) == ("error", ward.condition("Baked")["message"])


def test_the_next_generation_is_tried_anew(ward: Ward) -> None:
    ward.apply(say="three")
    wait_for(lambda: ward.condition("Baked").get("reason") == "Proved", what=ward.status)
    assert {answer.json()["say"] for answer in ward.everywhere()} == {"three"}
