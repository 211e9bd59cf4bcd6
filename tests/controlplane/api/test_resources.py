"""Reading over HTTP."""

import pytest

from tests.doubles.apiparts import MODULES, Parts, module

TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


async def fill(parts: Parts, count: int) -> None:
    items = [module(f"m{number:03}", labels={"odd": str(number % 2)}) for number in range(count)]
    await parts.writer.apply(items, manager="tester")


async def test_get_and_its_status(parts: Parts) -> None:
    await parts.apply(module())
    whole = await parts.client.get(f"{MODULES}/orders")
    assert whole.json() == (await parts.client.get(f"{MODULES}/orders/status")).json()


async def test_get_of_nothing_and_of_no_kind(parts: Parts) -> None:
    missing = await parts.client.get(f"{MODULES}/nothing")
    assert missing.json()["details"] == {"name": "nothing", "group": "modplane.dev", "kind": "modules"}
    unknown = await parts.client.get("/apis/modplane.dev/v1/gadgets/x")
    assert unknown.status_code == 404
    assert "modules" in unknown.json()["message"]


async def test_an_empty_list_has_a_version_to_watch_from(parts: Parts) -> None:
    body = (await parts.client.get(MODULES)).json()
    assert body == {
        "kind": "ModuleList",
        "apiVersion": "modplane.dev/v1",
        "metadata": {"resourceVersion": "0"},
        "items": [],
    }


async def test_pages_cover_everything_once_and_tell_the_first_revision(parts: Parts) -> None:
    await fill(parts, 25)
    seen, versions, token = [], set(), ""
    while True:
        body = (await parts.client.get(MODULES, params={"limit": 10, "continue": token})).json()
        seen += [item["metadata"]["name"] for item in body["items"]]
        versions.add(body["metadata"]["resourceVersion"])
        await parts.apply(module("m000", version=f"1.0.{len(seen)}"), manager="tester")
        token = body["metadata"].get("continue", "")
        if not token:
            break
    assert seen == [f"m{number:03}" for number in range(25)]
    assert len(versions) == 1


async def test_a_selector_is_searched_across_pages(parts: Parts) -> None:
    await fill(parts, 25)
    params = {"labelSelector": "odd=1", "limit": "5"}
    body = (await parts.client.get(MODULES, params=params)).json()
    assert [item["metadata"]["name"] for item in body["items"]] == ["m001", "m003", "m005", "m007", "m009"]
    rest = (
        await parts.client.get(MODULES, params={**params, "limit": "50", "continue": body["metadata"]["continue"]})
    ).json()
    assert len(rest["items"]) == 7
    assert "continue" not in rest["metadata"]


async def test_the_field_selector_finds_a_name(parts: Parts) -> None:
    await fill(parts, 3)
    body = (await parts.client.get(MODULES, params={"fieldSelector": "metadata.name=m001"})).json()
    assert [item["metadata"]["name"] for item in body["items"]] == ["m001"]
    both = {"fieldSelector": "metadata.name=m001", "labelSelector": "odd=0"}
    assert (await parts.client.get(MODULES, params=both)).json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=-1",
        "continue=nonsense",
        "continue=W10=",
        "labelSelector=a%20b",
        "fieldSelector=spec.nothing=1",
        "resourceVersion=abc",
        "watch=perhaps",
        "includeObject=All",
    ],
)
async def test_nonsense_in_the_query_is_a_bad_request(parts: Parts, query: str) -> None:
    answer = await parts.client.get(f"{MODULES}?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")


async def test_only_the_present_can_be_listed(parts: Parts) -> None:
    await fill(parts, 1)
    revision = parts.store.revision
    for query, code in (
        (f"resourceVersion={revision}&resourceVersionMatch=Exact", 200),
        ("resourceVersion=1&resourceVersionMatch=Exact", 410),
        ("resourceVersion=1&resourceVersionMatch=NotOlderThan", 200),
        ("resourceVersion=0", 200),
        (f"resourceVersion={revision + 1}", 410),
    ):
        assert (await parts.client.get(f"{MODULES}?{query}")).status_code == code


async def test_a_table_is_answered_to_those_who_ask(parts: Parts) -> None:
    await fill(parts, 2)
    body = (await parts.client.get(MODULES, headers=TABLE)).json()
    assert body["kind"] == "Table"
    assert [row["cells"][0] for row in body["rows"]] == ["m000", "m001"]
    assert body["metadata"]["resourceVersion"] == str(parts.store.revision)
    one = (await parts.client.get(f"{MODULES}/m001?includeObject=Object", headers=TABLE)).json()
    assert one["rows"][0]["object"]["kind"] == "Module"
    plain = await parts.client.get(MODULES, headers={"accept": "application/json,application/json;as=Table"})
    assert plain.json()["kind"] == "ModuleList"


async def test_the_events_of_one_module_are_found(parts: Parts) -> None:
    await fill(parts, 3)
    await parts.apply(module("m001", version="1.0.0"), manager="tester")
    params = {"fieldSelector": "spec.module=m001,spec.generation=2"}
    (event,) = (await parts.client.get("/apis/modplane.dev/v1/moduleevents", params=params)).json()["items"]
    assert (event["spec"]["module"], event["spec"]["to"]) == ("m001", "DISCOVERED")
