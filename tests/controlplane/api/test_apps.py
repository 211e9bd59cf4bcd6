"""The application as a whole: probes, unknown addresses, failures."""

import re
from datetime import UTC, datetime

import httpx
import pytest

from controlplane import errors
from controlplane.api import answering
from schemas import kinds
from schemas.meta import Json
from tests.doubles.apiparts import MODULES, Parts, module


async def test_health_and_information(parts: Parts) -> None:
    assert (await parts.client.get("/health")).json() == {"status": "ok"}
    assert (await parts.client.get("/modules/system/info")).json() == {"version": "1.2.3"}


async def test_ready_names_the_check_that_fails(parts: Parts) -> None:
    good = await parts.client.get("/ready")
    assert (good.status_code, good.json()["ready"]) == (200, True)
    parts.checks["nats"] = {"ok": False, "reason": "nobody answers at 127.0.0.1:4222"}
    bad = await parts.client.get("/ready")
    assert (bad.status_code, bad.json()["ready"]) == (503, False)
    assert bad.json()["checks"]["nats"]["reason"] == "nobody answers at 127.0.0.1:4222"


@pytest.mark.parametrize(
    ("path", "code", "form"),
    [
        ("/nowhere", 404, "problem"),
        ("/api/v1/module-management/nowhere", 404, "problem"),
        ("/docs/nothing.js", 404, "problem"),
        ("/apis/other.dev/v1", 404, "Status"),
        ("/apis/modplane.dev/v1/gadgets", 404, "Status"),
        ("/api/v1/namespaces", 404, "Status"),
        ("/openapi/v2", 404, "Status"),
    ],
)
async def test_unknown_addresses_answer_in_their_own_form(parts: Parts, path: str, code: int, form: str) -> None:
    answer = await parts.client.get(path)
    assert answer.status_code == code
    if form == "Status":
        assert answer.json()["kind"] == "Status"
        assert answer.json()["code"] == code
    else:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["status"] == code


async def test_a_method_that_is_not_there_is_refused_in_form(parts: Parts) -> None:
    assert (await parts.client.put(MODULES, json={})).json()["reason"] == "MethodNotAllowed"
    answer = await parts.client.post("/health")
    assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")


async def test_a_closed_store_is_a_503_that_says_when_to_come_back(parts: Parts) -> None:
    await parts.store.close()
    answer = await parts.client.get(MODULES)
    assert (answer.status_code, answer.json()["reason"]) == (503, "ServiceUnavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["details"]["retryAfterSeconds"] == 1


async def test_a_fault_of_ours_tells_the_client_nothing_of_the_inside(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(parts.store, "read", broken)
    transport = httpx.ASGITransport(app=parts.api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(MODULES)
    assert (answer.status_code, answer.json()["reason"]) == (500, "InternalError")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.Compacted(7), 410, "Expired"),
        (errors.Fenced(1, 2), 503, "ServiceUnavailable"),
        (errors.StoreBusy("full"), 503, "ServiceUnavailable"),
        (errors.SourceNotFound("x"), 404, "NotFound"),
        (errors.Unreachable("gone"), 503, "ServiceUnavailable"),
        (errors.ModplaneError("odd"), 500, "InternalError"),
        (answering.Refusal(418, "tea"), 418, "InternalError"),
    ],
)
def test_every_error_has_a_code_and_a_reason(error: Exception, code: int, reason: str) -> None:
    status = answering.status_of(error)
    assert (status["code"], status["reason"]) == (code, reason)
    assert answering.refused(error, "/somewhere").media_type == "application/problem+json"


async def test_discovery_lists_what_kubectl_needs(parts: Parts) -> None:
    assert (await parts.client.get("/api")).json()["kind"] == "APIVersions"
    assert (await parts.client.get("/apis")).json()["groups"][0]["preferredVersion"]["version"] == "v1"
    assert (await parts.client.get("/apis/modplane.dev")).json()["kind"] == "APIGroup"
    listed = {entry["name"]: entry for entry in (await parts.client.get("/apis/modplane.dev/v1")).json()["resources"]}
    assert listed["modules"]["shortNames"] == ["mod"]
    assert "all" in listed["modules"]["categories"]
    assert "patch" in listed["modules"]["verbs"]
    assert listed["workers"]["verbs"] == ["get", "list", "watch"]
    assert listed["modules/status"]["verbs"] == ["get"]
    assert "moduleevents/status" not in listed
    assert (await parts.client.get("/version")).json()["major"] == "1"


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(item) for item in node))
    return set()


def words(node: object) -> set[str]:
    """Every schema keyword that is used, but not the names of properties."""
    if isinstance(node, list):
        return set().union(*(words(item) for item in node))
    if not isinstance(node, dict):
        return set()
    found = set(node)
    for key, value in node.items():
        found |= set().union(*(words(item) for item in value.values())) if key == "properties" else words(value)
    return found


async def test_openapi_has_what_kubectl_reads(parts: Parts) -> None:
    (entry,) = (await parts.client.get("/openapi/v3")).json()["paths"].values()
    document: Json = (await parts.client.get(entry["serverRelativeURL"])).json()
    schemas = document["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in references(document)} <= set(schemas)
    for kind in kinds.KINDS:
        gvk = {"group": "modplane.dev", "version": "v1", "kind": kind.name}
        assert schemas[f"dev.modplane.v1.{kind.name}"]["x-kubernetes-group-version-kind"] == [gvk]
    patch = document["paths"]["/apis/modplane.dev/v1/modules/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Module"
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert words(schemas).isdisjoint({"const", "$defs", "prefixItems"})
    limits = schemas["dev.modplane.v1.Limits"]["properties"]["timeoutSeconds"]
    assert (limits["minimum"], limits["exclusiveMinimum"]) == (0, True)


async def test_answers_are_not_cached_and_keep_their_text(parts: Parts) -> None:
    await parts.apply(module(description="Zürich 東京"))
    answer = await parts.client.get(f"{MODULES}/orders")
    assert answer.headers["cache-control"] == "no-cache, private"
    assert answer.json()["spec"]["description"] == "Zürich 東京"
    assert datetime.fromisoformat(answer.json()["metadata"]["creationTimestamp"]).tzinfo == UTC


async def test_the_docs_page_comes_from_here_and_from_nowhere_else(parts: Parts) -> None:
    answer = await parts.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "://" not in answer.text
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', answer.text)
    assert len(files) == 3
    for name in files:
        assert (await parts.client.get(f"/{name}")).status_code == 200
