"""The worker's own pages, and one OpenAPI document of all that is live."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

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


async def test_the_docs_page_loads_nothing_from_elsewhere(gateway: Any) -> None:
    answer = await call(gateway.app, "GET", "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert b"http://" not in answer.body
    assert b"https://" not in answer.body
    assert b"openapi.json" in answer.body
