"""The worker's own pages, and one OpenAPI document of all that is live."""

import gc
import hashlib
import re
import weakref
from importlib import resources
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from schemas.kits.apidocs import assets
from tests.doubles.asgi import call

PREFIX = "/api/v1/modules/v1"


class Thing(BaseModel):
    name: str
    parts: list["Thing"] = []


def shop(router: APIRouter) -> None:
    @router.get("/things/{number:int}", tags=["mine"])
    async def thing(number: int) -> Thing:
        raise AssertionError(number)

    @router.get("/open")
    async def opened() -> str:
        return "open"


async def test_health_ready_and_information(gateway: Any) -> None:
    assert (await call(gateway.app, "GET", "/health")).json == {"status": "healthy"}
    assert (await call(gateway.app, "GET", "/ready")).json["state"] == "synced"
    gateway.facts["ready"] = False
    assert (await call(gateway.app, "GET", "/ready")).status == 503
    assert (await call(gateway.app, "GET", "/modules/system/info")).json == {"plane": "data"}
    answer = await call(gateway.app, "POST", "/health")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_the_document_has_every_live_module_under_names_of_its_own(gateway: Any) -> None:
    await gateway.install(shop, guarded={"/things/{number:int}"})
    await gateway.install(shop, name="twin")
    gateway.block(shop, name="broken")
    document = (await call(gateway.app, "GET", "/openapi.json")).json
    assert set(document["paths"]) == {
        f"{PREFIX}/{name}/{path}" for name in ("shop", "twin") for path in ("things/{number}", "open")
    }
    operation = document["paths"][f"{PREFIX}/shop/things/{{number}}"]["get"]
    assert operation["operationId"].startswith("shop__")
    assert operation["tags"] == ["shop", "mine"]
    assert operation["security"] == [{"modplaneBearer": []}]
    assert "security" not in document["paths"][f"{PREFIX}/shop/open"]["get"]
    schemas = document["components"]["schemas"]
    assert {"shop.Thing", "twin.Thing"} <= set(schemas)
    assert schemas["twin.Thing"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/twin.Thing"}
    ids = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(ids) == len(set(ids))


async def test_the_document_is_made_once_per_snapshot_and_has_an_etag(gateway: Any) -> None:
    await gateway.install(shop)
    first = await call(gateway.app, "GET", "/openapi.json")
    tag = first.headers["etag"]
    again = await call(gateway.app, "GET", "/openapi.json", headers={"if-none-match": tag})
    assert (again.status, again.body) == (304, b"")
    await gateway.install(shop, name="twin")
    changed = await call(gateway.app, "GET", "/openapi.json", headers={"if-none-match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag


async def test_the_document_is_exact_after_each_change(gateway: Any) -> None:
    async def modules() -> set[tuple[str, int]]:
        paths = (await call(gateway.app, "GET", "/openapi.json")).json["paths"]
        return {(each["x-module"], each["x-generation"]) for item in paths.values() for each in item.values()}

    assert await modules() == set()
    for generation in range(1, 4):
        await gateway.install(shop, generation=generation)
        assert await modules() == {("shop", generation)}
    await gateway.install(shop, name="twin")
    assert await modules() == {("shop", 3), ("twin", 1)}
    gateway.block(shop, generation=4)
    assert await modules() == {("twin", 1)}
    await gateway.host.remove("twin", "u1")
    assert await modules() == set()


async def test_the_document_of_one_module(gateway: Any) -> None:
    await gateway.install(shop)
    await gateway.install(shop, name="twin")
    answer = await call(gateway.app, "GET", "/openapi.json?module=twin")
    assert {tag["name"] for tag in answer.json["tags"]} == {"twin"}
    assert all(path.startswith(f"{PREFIX}/twin/") for path in answer.json["paths"])
    missing = await call(gateway.app, "GET", "/openapi.json?module=nobody")
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")


async def test_the_pages_keep_no_snapshot_alive(gateway: Any) -> None:
    instance = weakref.ref(await gateway.install(shop))
    await call(gateway.app, "GET", "/openapi.json")
    await gateway.host.remove("shop", "u1")
    gc.collect()
    assert instance() is None


async def test_the_docs_page_and_its_files_come_from_here_and_from_nowhere_else(gateway: Any) -> None:
    answer = await call(gateway.app, "GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert all(
        word in {"'none'", "'self'", "'unsafe-inline'", "data:"} for each in policy.values() for word in each.split()
    )
    page = answer.body.decode()
    assert "://" not in page
    assert not re.search(r"<script(?![^>]* src=)", page)
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', page)
    assert len(files) == 3
    for name in files:
        file = await call(gateway.app, "GET", f"/{name}")
        assert file.status == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["content-length"] == str(len(file.body))
        assert file.headers["content-type"] in {"text/css; charset=utf-8", "text/javascript; charset=utf-8"}
        assert (await call(gateway.app, "GET", f"/outer/{name}", root_path="")).status == 404
        assert (await call(gateway.app, "GET", f"/{name}", root_path="/outer")).status == 200
    for name in ("swagger-ui.css", "VENDORED.json", "swagger-ui-1.0.0.css", ""):
        assert (await call(gateway.app, "GET", f"/docs/{name}")).status == 404


def test_the_vendored_files_are_those_that_were_published() -> None:
    folder = resources.files("schemas.kits.apidocs") / "swagger"
    record = assets.vendored()
    assert (record["package"], record["license"]) == ("swagger-ui-dist", "Apache-2.0")
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name != "VENDORED.json"
    }
    assert digests == record["files"]
    assert "Apache License" in (folder / "LICENSE.txt").read_text()
