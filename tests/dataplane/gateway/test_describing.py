"""What one module contributes to the document, and that the whole is a valid OpenAPI 3.1 document."""

import asyncio
import json
import re
import threading
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Depends, File, Form, Query, UploadFile, WebSocket
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from dataplane.gateway import describing, merging, serving
from dataplane.gateway.snapshots import Snapshot
from tests.doubles.modules import FakeInstance

PREFIX = "/api/v1/modules/v1"

# FastAPI puts this warning aside with `warnings.catch_warnings`, which threads that do so at once undo for each other
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.UnsupportedFieldAttributeWarning")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    friends: list["Cat | Dog"] = []


class Odd(BaseModel):
    """Properties that look like OpenAPI's own words."""

    mapping: dict[str, Cat] = Field({}, examples=[{"$ref": "#/components/schemas/Cat"}])
    security: list[Cat] = []
    properties: Cat | None = None
    operationId: str = "x"  # noqa: N815 - on purpose


class Broken(BaseModel):
    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        raise RuntimeError("no schema today")


token = OAuth2PasswordBearer("token", scopes={"read": "Read"})


async def user(scopes: SecurityScopes, given: Annotated[str, Depends(token)]) -> str:
    return given


callbacks = APIRouter()


@callbacks.post("{$request.body#/url}")
def called_back(pet: Cat) -> None: ...


def rich(router: APIRouter) -> None:
    @router.post("/pets", callbacks=callbacks.routes, tags=["pets"])
    async def create(pet: Annotated[Cat | Dog, Field(discriminator="kind")], by: Annotated[str, Depends(user)]) -> Odd:
        raise AssertionError(pet, by)

    @router.get("/pets/{number:int}/files/{rest:path}", responses={404: {"model": Odd}}, deprecated=True)
    async def one(number: int, rest: str, q: Annotated[list[str] | None, Query(max_length=3)] = None) -> list[Dog]:
        raise AssertionError(number, rest, q)

    @router.put("/form")
    async def form(name: Annotated[str, Form()], file: Annotated[UploadFile, File()]) -> None:
        raise AssertionError(name, file)

    @router.get("/hidden", include_in_schema=False)
    async def hidden() -> None: ...

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        raise AssertionError(socket)


def failing(router: APIRouter) -> None:
    @router.get("/broken/{number:int}")
    async def broken(number: int) -> Broken:
        raise AssertionError(number)


def parsed(document: describing.Document) -> dict[str, Any]:
    body = b"".join(document.chunks)
    assert document.size == len(body)
    return json.loads(body)  # type: ignore[no-any-return]


def valid(document: dict[str, Any]) -> dict[str, Any]:
    OpenAPIV31SpecValidator(document).validate()
    return document


def references(value: Any) -> set[str]:
    return set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(value)))


@pytest.fixture
def served(now: Any) -> Any:
    def make(register: Any, name: str = "shop", **more: Any) -> serving.Served:
        return serving.serve(FakeInstance(register, name=name, **more), now)

    return make


def test_the_document_of_rich_modules_is_valid_and_all_its_references_lead_somewhere(served: Any) -> None:
    modules = [served(rich, name=name, guarded={"/pets", "/form"}) for name in ("shop", "twin")]
    document = valid(parsed(describing.joined(map(describing.fragment, modules), "1")))
    found = {f"{kind}/{name}" for kind, entries in document["components"].items() for name in entries}
    data = {"schemas/Cat"}  # stands in an example, which is data
    assert references(document) - data <= found
    assert {"schemas/shop.Odd", "schemas/twin.Odd", "securitySchemes/shop.OAuth2PasswordBearer"} <= found
    ids = re.findall(r'"operationId": "([^"]+)"', json.dumps(document))
    assert len(ids) == len(set(ids)) == 8
    odd = document["components"]["schemas"]["shop.Odd"]["properties"]
    assert odd["mapping"]["examples"] == [{"$ref": "#/components/schemas/Cat"}]
    assert odd["mapping"]["additionalProperties"] == {"$ref": "#/components/schemas/shop.Cat"}
    assert odd["security"]["items"] == {"$ref": "#/components/schemas/shop.Cat"}


def test_an_operation_says_whose_it_is_and_what_a_caller_has_to_prove(served: Any) -> None:
    module = served(rich, generation=7, guarded={"/pets"})
    paths = parsed(describing.joined([describing.fragment(module)], "1"))["paths"]
    create = paths[f"{PREFIX}/shop/pets"]["post"]
    assert (create["x-module"], create["x-generation"]) == ("shop", 7)
    assert create["x-auth"] == {"level": "BASIC"}
    assert create["security"] == [{"modplaneBearer": [], "shop.OAuth2PasswordBearer": []}]
    assert create["responses"]["401"] == {"$ref": "#/components/responses/Unauthorized"}
    assert create["responses"]["403"] == {"$ref": "#/components/responses/Forbidden"}
    form = paths[f"{PREFIX}/shop/form"]["put"]
    assert form["x-auth"] == {"level": "NONE"}
    assert "security" not in form
    assert not {"401", "403"} & set(form["responses"])
    assert set(paths) == {
        f"{PREFIX}/shop/{path}" for path in ("pets", "pets/{number}/files/{rest}", "form")
    }  # neither what is hidden nor a WebSocket


def test_refusals_are_problems_with_a_challenge_and_a_modules_own_words_go_first(served: Any) -> None:
    def own(router: APIRouter) -> None:
        router.add_api_route("/own", lambda: 1, responses={403: {"description": "not on Sundays"}})

    document = valid(parsed(describing.joined([describing.fragment(served(own, guarded={"/own"}))], "1")))
    responses = document["paths"][f"{PREFIX}/shop/own"]["get"]["responses"]
    assert responses["403"] == {"description": "not on Sundays"}
    assert responses["401"] == {"$ref": "#/components/responses/Unauthorized"}
    for name in ("Unauthorized", "Forbidden"):
        found = document["components"]["responses"][name]
        assert found["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert "WWW-Authenticate" in found["headers"]
    assert document["components"]["securitySchemes"]["modplaneBearer"]["scheme"] == "bearer"


def test_a_module_that_cannot_be_described_is_listed_plainly_and_harms_no_other(served: Any) -> None:
    parts = [describing.fragment(served(rich)), describing.fragment(served(failing, name="odd", guarded={"/x"}))]
    document = valid(parsed(describing.joined(parts, "1")))
    operation = document["paths"][f"{PREFIX}/odd/broken/{{number}}"]["get"]
    assert "RuntimeError" in operation["description"]
    assert "no schema today" not in operation["description"]
    assert operation["operationId"] == "odd__get_broken_number"
    assert f"{PREFIX}/shop/pets" in document["paths"]


def test_modules_that_share_a_namespace_share_its_paths(served: Any) -> None:
    def reads(router: APIRouter) -> None:
        router.add_api_route("/x", lambda: "x", methods=["GET"], name="read")

    def writes(router: APIRouter) -> None:
        router.add_api_route("/x", lambda: "x", methods=["PUT"], name="write")

    modules = [served(reads, name="a", namespace="s"), served(writes, name="b", namespace="s")]
    item = valid(parsed(describing.joined(map(describing.fragment, modules), "1")))["paths"][f"{PREFIX}/s/x"]
    assert {method: operation["x-module"] for method, operation in item.items()} == {"get": "a", "put": "b"}


def test_the_tag_is_the_same_for_the_same_modules_and_another_for_any_difference(served: Any) -> None:
    def tag(*modules: serving.Served, version: str = "1") -> str:
        return describing.joined(map(describing.fragment, modules), version).tag

    same = tag(served(rich), served(rich, name="twin"))
    assert tag(served(rich), served(rich, name="twin")) == same
    others = {
        tag(served(rich)),
        tag(served(rich), served(rich, name="twin"), version="2"),
        tag(served(rich), served(rich, name="twin", generation=2)),
        tag(served(rich), served(rich, name="twin", guarded={"/form"})),
        tag(served(rich), served(rich, name="triplet")),
    }
    assert same not in others
    assert len(others) == 5


def test_a_large_document_is_handed_over_in_pieces(served: Any) -> None:
    parts = [describing.fragment(served(rich, name=f"m{number}")) for number in range(100)]
    document = describing.joined(parts, "1")
    assert len(document.chunks) > 1
    assert max(map(len, document.chunks)) < 2 * describing.CHUNK_BYTES
    assert len(parsed(document)["paths"]) == 300


def test_the_empty_document_is_valid() -> None:
    assert valid(parsed(describing.joined([], "1")))["paths"] == {}


async def test_fragments_are_made_once_and_only_of_what_changed(served: Any) -> None:
    made: list[str] = []

    def describe(module: serving.Served) -> describing.Fragment:
        made.append(f"{module.name} {threading.current_thread() is threading.main_thread()}")
        return describing.fragment(module)

    snapshot = Snapshot().with_module(served(rich)).with_module(served(failing, name="odd"))
    book = merging.Book(lambda: snapshot, "1", describe=describe)
    first, again = await asyncio.gather(book.document(), book.document())
    assert first is again
    assert sorted(made) == ["odd False", "shop False"]
    snapshot = snapshot.with_module(served(rich, name="twin"))
    assert f"{PREFIX}/twin/pets" in parsed(await book.document())["paths"]
    snapshot = snapshot.without("twin")
    assert (await book.document()).tag == first.tag
    assert made[2:] == ["twin False"]


async def test_a_module_whose_description_hangs_is_listed_plainly(served: Any) -> None:
    gate = threading.Event()

    def describe(module: serving.Served) -> describing.Fragment:
        if module.name == "odd":
            gate.wait(60)
        return describing.fragment(module)

    snapshot = Snapshot().with_module(served(rich)).with_module(served(failing, name="odd"))
    book = merging.Book(lambda: snapshot, "1", describe=describe, deadline=0.05)
    try:
        document = valid(parsed(await book.document()))
    finally:
        gate.set()
    assert "too long" in document["paths"][f"{PREFIX}/odd/broken/{{number}}"]["get"]["description"]
    assert f"{PREFIX}/shop/pets" in document["paths"]


async def test_a_failure_of_our_own_reaches_who_asked_and_the_next_one_gets_the_document(served: Any) -> None:
    failures = [RuntimeError("ours")]

    def describe(module: serving.Served) -> describing.Fragment:
        if failures:
            raise failures.pop()
        return describing.fragment(module)

    snapshot = Snapshot().with_module(served(rich))
    book = merging.Book(lambda: snapshot, "1", describe=describe)
    with pytest.raises(RuntimeError, match="ours"):
        await book.document()
    assert parsed(await book.document())["paths"]
