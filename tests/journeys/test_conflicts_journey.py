"""Modules of several teams in one namespace: side by side, refused with the owner named, shadowed, released."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.doubles.platform import BY_HAND, Platform, manifest, running, wait_for

pytestmark = pytest.mark.processes

SOURCE = """
from fastapi import APIRouter
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth


class {cls}Module(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="{name}", version="1.0.0")

    def register_routes(self, router: APIRouter) -> None:
        for method, path in {routes}:
            @router.api_route(path, methods=[method], operation_id=method + path)
            @require_module_auth("NONE")
            async def answer() -> str:
                return "{say}"
"""


@dataclass(frozen=True)
class Space:
    """A namespace of a test's own, and the modules in it: their names are their roles and its number."""

    platform: Platform
    number: int

    def name(self, role: str) -> str:
        return f"{role}{self.number}"

    def apply(self, role: str, *routes: tuple[str, str], version: str = "1.0.0") -> None:
        """A module with these routes, each of which says who answers, and in which version."""
        name = self.name(role)
        text = SOURCE.format(cls=name.title(), name=name, routes=list(routes), say=f"{role} {version}")
        (self.platform.modules / f"{name}.py").write_text(text)
        item = json.loads(manifest(name, routing={"namespace": f"space{self.number}"}, version=version))
        url = f"{self.platform.control}/apis/modplane.dev/v1/apply?fieldManager=test"
        self.platform.admin.post(url, json={"items": [item]}).raise_for_status()

    def serve(self, role: str, *routes: tuple[str, str], version: str = "1.0.0") -> None:
        """The same, and wait until that serves."""
        self.apply(role, *routes, version=version)
        wait_for(lambda: self.condition(role, "Ready").get("status") == "True" and self.version(role) == version)

    def answer(self, path: str, method: str = "GET") -> str:
        response = self.platform.call(f"v1/space{self.number}{path}", method)
        return str(response.json()) if response.status_code == 200 else str(response.status_code)

    def version(self, role: str) -> str:
        """What serves."""
        stored = self.platform.object("modules", self.name(role)) or {}
        return str((stored.get("status", {}).get("serving") or {}).get("version"))

    def condition(self, role: str, kind: str) -> dict[str, Any]:
        """One of the latest generation."""
        stored = self.platform.object("modules", self.name(role))
        assert stored is not None
        found: dict[str, Any]
        found = next((each for each in stored["status"]["conditions"] if each["type"] == kind), {})
        return found if found.get("observedGeneration") == stored["metadata"]["generation"] else {}

    def wait_reason(self, role: str, kind: str, reason: str | None) -> str:
        """Wait until a condition has a reason (None: is not there); its message."""
        wait_for(lambda: self.condition(role, kind).get("reason") == reason)
        return str(self.condition(role, kind).get("message", ""))

    def told(self, what: str) -> list[dict[str, Any]]:
        url = f"{self.platform.control}/api/v1/module-management/routing/conflicts?namespace=space{self.number}"
        return list(self.platform.admin.get(url).raise_for_status().json()[what])


def is_ready(platform: Platform) -> bool:
    try:
        return platform.http.get(f"{platform.control}/ready").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One of its own, since its control plane is killed."""
    with running(tmp_path_factory.mktemp("conflicts"), examples=False, environment=BY_HAND) as started:
        yield started


def test_modules_that_share_a_namespace_serve_side_by_side_and_are_told_of_each_other(platform: Platform) -> None:
    space = Space(platform, 1)
    space.serve("wide", ("GET", "/users/{id}"), ("GET", "/list"))
    space.serve("narrow", ("GET", "/users/me"), ("POST", "/list"), ("GET", "/list/"))
    assert space.answer("/users/me") == "narrow 1.0.0"
    assert space.answer("/users/7") == "wide 1.0.0"
    assert [space.answer(path) for path in ("/list", "/list/")] == ["wide 1.0.0", "narrow 1.0.0"]
    assert space.answer("/list", "POST") == "narrow 1.0.0"
    assert space.answer("/list", "PUT") == "405"
    assert "module narrow1 (/users/me)" in space.wait_reason("wide", "RoutesOverlap", "Shadowed")
    space.wait_reason("narrow", "RoutesOverlap", "Shadowing")
    (shadow,) = space.told("shadowed")
    assert (shadow["shadowed"], shadow["path"], shadow["owner"]) == ("wide1", "/users/{id}", "narrow1")
    assert (shadow["example"], shadow["whole"]) == ("/users/me", False)
    assert "module narrow1 (/users/me)" in platform.cli("describe", "module", "wide1")

    space.serve("narrow", ("GET", "/me"), version="1.1.0")
    wait_for(lambda: not space.condition("wide", "RoutesOverlap"))
    assert space.told("shadowed") == []
    wait_for(lambda: space.answer("/users/me") == "wide 1.0.0")


def test_a_route_that_is_held_is_refused_with_its_owner_and_had_when_it_is_given_back(platform: Platform) -> None:
    space = Space(platform, 2)
    space.serve("wide", ("GET", "/users/{id}"), ("GET", "/list"))
    space.serve("rival", ("GET", "/rival"))
    space.apply("rival", ("GET", "/rival"), ("GET", "/users/{name}"), version="1.1.0")
    said = space.wait_reason("rival", "RoutesAccepted", "RouteConflict")
    assert "GET /users/{name} in v1/space2 is already held by module wide2 (as /users/{id})" in said
    assert "module rival2 asks for GET /users/{name}" in space.wait_reason("wide", "RoutesContested", "ClaimRefused")
    (conflict,) = space.told("conflicts")
    known = {"method": "GET", "path": "/users/{name}", "shape": "/users/{}", "refused": "rival2", "owner": "wide2"}
    assert known.items() <= conflict.items()
    assert space.answer("/rival") == "rival 1.0.0", "the generation that serves is not hurt"
    assert space.answer("/users/7") == "wide 1.0.0"
    space.serve("beside", ("GET", "/beside"))
    assert space.answer("/beside") == "beside 1.0.0", "nobody else is held up"

    space.serve("wide", ("GET", "/list"), version="1.1.0")
    wait_for(lambda: space.answer("/users/7") == "rival 1.1.0")
    wait_for(lambda: not space.condition("wide", "RoutesContested"))
    space.wait_reason("rival", "RoutesAccepted", "Accepted")
    assert space.told("conflicts") == []


@pytest.mark.slow
def test_an_older_claim_outlives_a_restart_of_the_control_plane(platform: Platform) -> None:
    space = Space(platform, 3)
    space.serve("wide", ("GET", "/list"))
    space.apply("rival", ("GET", "/list"))
    space.wait_reason("rival", "RoutesAccepted", "RouteConflict")
    before = space.told("conflicts")
    old = platform.child("controlplane", "serve")
    old.kill()
    wait_for(lambda: old.pid not in {child.pid for child in platform.children()})
    wait_for(lambda: is_ready(platform))
    assert space.told("conflicts") == before
    assert space.answer("/list") == "wide 1.0.0"
    platform.admin.delete(f"{platform.control}/apis/modplane.dev/v1/modules/wide3").raise_for_status()
    wait_for(lambda: space.answer("/list") == "rival 1.0.0")
