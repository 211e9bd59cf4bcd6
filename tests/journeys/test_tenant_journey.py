"""Flags, tenants and revocations on a whole platform: what a person writes counts on every worker at once."""

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.kits.tokens import development
from tests.doubles.platform import BY_HAND, Platform, manifest, running, wait_for

pytestmark = pytest.mark.processes

SOURCE = '''"""A module for organisations, with a route behind a flag."""

from typing import Any

from fastapi import APIRouter

from dataplane.sdk import (
    BaseModuleRouter,
    CurrentPrincipal,
    ModuleMetadata,
    OrganisationConfiguration,
    require_module_auth,
)


class ReportsModule(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="reports", version="1.0.0")

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/monthly")
        async def monthly(caller: CurrentPrincipal, configuration: OrganisationConfiguration) -> dict[str, Any]:
            return {"for": caller.organisation, "currency": configuration.get("currency")}

        @router.get("/forecast")
        @require_module_auth(feature_flags=["forecast"])
        async def forecast() -> dict[str, Any]:
            return {"sunny": True}
'''

TENANTS = """
apiVersion: modplane.dev/v1
kind: Organisation
metadata: {name: acme}
---
apiVersion: modplane.dev/v1
kind: Organisation
metadata: {name: globex}
---
apiVersion: modplane.dev/v1
kind: ModuleAccess
spec: {organisation: acme, module: reports, configuration: {currency: EUR}}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two workers that serve a module for organisations, to which acme has access."""
    with running(tmp_path_factory.mktemp("tenants"), workers=2, examples=False, environment=BY_HAND) as started:
        (started.modules / "reports.py").write_text(SOURCE)
        started.cli("apply", "-f", "-", stdin=f"{manifest('reports', tenancy='organisation')}\n---{TENANTS}")
        started.wait_state("reports", "ACTIVE")
        yield started


def token(platform: Platform, subject: str, organisation: str | None = None) -> str:
    """As `modplane token create` makes it."""
    caller = development.Caller(subject, organisation)
    return development.sign(platform.data, caller, now=time.time(), seconds=3600.0)


def ask(platform: Platform, path: str, bearer: str) -> list[httpx.Response]:
    """The answers of every worker."""
    headers = {"authorization": f"Bearer {bearer}"}
    return [
        platform.http.get(f"{door}/api/v1/modules/v1/reports{path}", headers=headers)
        for door in platform.endpoints["workers"]
    ]


def statuses(platform: Platform, path: str, bearer: str) -> list[int]:
    return [answer.status_code for answer in ask(platform, path, bearer)]


def wait(platform: Platform, path: str, bearer: str, status: int) -> None:
    """Until every worker answers so."""
    wait_for(
        lambda: set(statuses(platform, path, bearer)) == {status},
        what=lambda: f"{path} {status} everywhere: {statuses(platform, path, bearer)}\n{platform.output()}",
    )


def flag(**spec: Any) -> str:
    return json.dumps(
        {"apiVersion": "modplane.dev/v1", "kind": "FeatureFlag", "metadata": {"name": "forecast"}, "spec": spec}
    )


def test_an_organisation_with_access_gets_its_configuration_and_another_is_refused(platform: Platform) -> None:
    ann = token(platform, "ann", "acme")
    wait(platform, "/monthly", ann, 200)
    assert [answer.json() for answer in ask(platform, "/monthly", ann)] == [{"for": "acme", "currency": "EUR"}] * 2
    assert statuses(platform, "/monthly", token(platform, "bob", "globex")) == [403, 403]
    assert statuses(platform, "/monthly", token(platform, "eve")) == [403, 403]


def test_what_is_said_to_be_applied_counts_on_every_worker(platform: Platform) -> None:
    """No poll: an answer of a worker that did not go by it yet would be seen."""
    ann = token(platform, "ann", "acme")
    wait(platform, "/monthly", ann, 200)
    for variant, status in [("on", 200), ("off", 403)]:
        text = flag(overrides={"organisations": [{"key": "acme", "variant": variant}]})
        said = platform.cli("apply", "--wait", "-f", "-", stdin=text)
        assert "forecast is applied by every worker" in said
        assert statuses(platform, "/forecast", ann) == [status, status]
    found = platform.object("featureflags", "forecast")
    assert found is not None
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert (found["status"]["workers"]["applied"], found["status"]["workers"]["desired"]) == (2, 2)
    assert "2/2" in platform.cli("get", "flags")
    names = ("organisation/acme", "organisation/globex", "access/acme--reports", "flag/forecast")
    platform.cli("wait", *names, "--for=condition=Applied", timeout=90)


def test_a_flag_switches_a_route_off_and_on_while_its_caller_is_remembered(platform: Platform) -> None:
    ann = token(platform, "ann", "acme")
    wait(platform, "/monthly", ann, 200)
    assert statuses(platform, "/forecast", ann) == [403, 403]
    platform.cli("apply", "-f", "-", stdin=flag(overrides={"organisations": [{"key": "acme", "variant": "on"}]}))
    wait(platform, "/forecast", ann, 200)
    platform.cli("apply", "-f", "-", stdin=flag(killSwitch=True))
    wait(platform, "/forecast", ann, 403)
    platform.cli("apply", "-f", "-", stdin=flag(defaultVariant="on"))
    wait(platform, "/forecast", ann, 200)
    shown = platform.cli("get", "flags").splitlines()
    columns = ["NAME", "STATE", "KILLED", "DEFAULT", "ROLLOUT", "OVERRIDES", "WORKERS", "AGE"]
    assert shown[0].split() == columns
    assert shown[1].split()[:4] == ["forecast", "ENABLED", "false", "on"]
    refused = platform.cli("delete", "flag", "forecast", check=3)
    assert "is required by Module reports" in refused
    platform.cli("delete", "flag", "forecast", "--force")
    wait(platform, "/forecast", ann, 403)


def test_a_revoked_token_is_refused_while_it_is_remembered_and_another_of_the_user_is_not(platform: Platform) -> None:
    stolen, other = token(platform, "ann", "acme"), token(platform, "ann", "acme")
    wait(platform, "/monthly", stolen, 200)
    assert statuses(platform, "/monthly", other) == [200, 200]
    claims = json.loads(base64.urlsafe_b64decode(stolen.split(".")[1] + "=="))
    revocation = {"apiVersion": "modplane.dev/v1", "kind": "Revocation", "metadata": {"name": "stolen"},
                  "spec": {"issuer": claims["iss"], "tokenId": claims["jti"]}}  # fmt: skip
    platform.cli("apply", "-f", "-", stdin=json.dumps(revocation))
    wait(platform, "/monthly", stolen, 401)
    assert statuses(platform, "/monthly", other) == [200, 200]
    platform.cli("delete", "revocation", "stolen")
    wait(platform, "/monthly", stolen, 200)


def test_calls_are_counted_in_the_row_of_the_access(platform: Platform) -> None:
    def counted() -> tuple[int, bool]:
        with contextlib.closing(platform.database()) as database:
            ((count, last),) = database.execute(
                "SELECT access_count, last_accessed_at FROM organisation_modules WHERE organisation_id = 'acme'"
            )
        return count, last is not None

    before, _ = counted()
    ann = token(platform, "ann", "acme")
    wait(platform, "/monthly", ann, 200)
    assert [statuses(platform, "/monthly", ann) for _ in range(5)] == [[200, 200]] * 5
    wait_for(lambda: counted() >= (before + 12, True), what=lambda: f"{before} and 12 more: {counted()}")


def access(**spec: Any) -> str:
    named = {"organisation": "globex", "module": "reports"}
    return json.dumps({"apiVersion": "modplane.dev/v1", "kind": "ModuleAccess", "spec": {**named, **spec}})


@pytest.mark.slow
def test_an_access_that_is_taken_away_counts_at_once_and_leaves_the_others(platform: Platform) -> None:
    bob, zoe, ann = token(platform, "bob", "globex"), token(platform, "zoe", "globex"), token(platform, "ann", "acme")
    platform.cli("apply", "-f", "-", stdin=access())
    wait(platform, "/monthly", bob, 200)
    platform.cli("apply", "-f", "-", stdin=access(usersDenied=["bob"]))
    wait(platform, "/monthly", bob, 403)
    assert statuses(platform, "/monthly", zoe) == [200, 200]
    platform.cli("delete", "access", "globex--reports")
    wait(platform, "/monthly", zoe, 403)
    assert statuses(platform, "/monthly", ann) == [200, 200]
