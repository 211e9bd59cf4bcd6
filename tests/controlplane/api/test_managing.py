"""The management API, in the words of the seed."""

from dataclasses import replace

import pytest

from controlplane.store.records import Contest
from controlplane.store.transactions import Transaction
from schemas import paths
from tests.doubles.apiparts import Parts, module
from tests.doubles.clock import FakeClock

BASE = "/api/v1/module-management"


async def set_status(parts: Parts, name: str, **status: object) -> None:
    """What the reconciler would write."""

    def unit(tx: Transaction) -> None:
        record = tx.get("Module", name)
        assert record is not None
        tx.put(replace(record, status={**record.status, **status}))

    await parts.store.write(unit)


async def test_discover_is_handed_on(parts: Parts) -> None:
    answer = await parts.client.post(f"{BASE}/modules/discover")
    assert answer.json() == {"found": 2, "applied": []}
    assert (parts.discoverer.asked, parts.discoverer.pruned) == (1, 0)


async def test_a_prune_is_asked_for_in_the_body_or_in_the_address(parts: Parts) -> None:
    await parts.client.post(f"{BASE}/modules/discover", json={"prune": False})
    assert parts.discoverer.pruned == 0
    await parts.client.post(f"{BASE}/modules/discover", json={"prune": True})
    await parts.client.post(f"{BASE}/modules/discover?prune=true", json={})
    assert (parts.discoverer.asked, parts.discoverer.pruned) == (3, 2)
    refused = await parts.client.post(f"{BASE}/modules/discover", json={"purge": True})
    assert (refused.status_code, parts.discoverer.asked) == (422, 3)


async def test_modules_are_listed_filtered_and_paged(parts: Parts) -> None:
    for name, kind in (("a", "core"), ("b", "analytics"), ("c", "core")):
        await parts.apply(module(name, type=kind))
    await set_status(parts, "c", state="ACTIVE")
    whole = (await parts.client.get(f"{BASE}/modules")).json()
    assert [entry["module_id"] for entry in whole["modules"]] == ["a", "b", "c"]
    assert (whole["total"], whole["next"]) == (3, None)
    page = (await parts.client.get(f"{BASE}/modules?limit=2")).json()
    assert page["next"] == "b"
    rest = (await parts.client.get(f"{BASE}/modules?limit=2&after={page['next']}")).json()
    assert [entry["module_id"] for entry in rest["modules"]] == ["c"]
    core = (await parts.client.get(f"{BASE}/modules?type=core&state=ACTIVE")).json()
    assert [entry["state"] for entry in core["modules"]] == ["active"]


@pytest.mark.parametrize("spelling", ["my_orders", "my-orders"])
async def test_status_is_found_by_either_spelling(parts: Parts, spelling: str) -> None:
    await parts.apply(module("my-orders", displayName="Orders", routing={"apiVersion": "v2", "namespace": "shop"}))
    body = (await parts.client.get(f"{BASE}/modules/{spelling}/status")).json()
    assert body["module_id"] == "my_orders"
    assert body["name"] == "Orders"
    assert body["state"] == "discovered"
    assert body["path"] == "/api/v1/modules/v2/shop"
    assert body["health"] == {"status": "unknown", "last_check": None, "message": "no worker has checked it yet"}
    assert body["conditions"][0]["type"] == "Valid"
    assert body["row_error"] is None


async def test_status_tells_health_and_what_stalls(parts: Parts) -> None:
    await parts.apply(module())
    at = "2030-01-01T00:00:00.000000Z"
    conditions = [
        {"type": "Healthy", "status": "False", "reason": "Failing", "message": "no database", "lastTransitionTime": at},
        {"type": "Stalled", "status": "True", "reason": "ImportFailed", "message": "orders.py:3: no module x"},
    ]
    await set_status(parts, "orders", state="ERROR", conditions=conditions)
    body = (await parts.client.get(f"{BASE}/modules/orders/status")).json()
    assert body["health"] == {"status": "unhealthy", "last_check": at, "message": "no database"}
    assert (body["state"], body["error"]) == ("error", "orders.py:3: no module x")


async def test_a_missing_module_is_a_problem_document(parts: Parts) -> None:
    answer = await parts.client.get(f"{BASE}/modules/nothing/status")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["detail"] == "Module 'nothing' does not exist"


async def test_a_refused_row_is_told_where_its_module_is_looked_for(parts: Parts) -> None:
    def unit(tx: Transaction) -> None:
        statement = "INSERT INTO analytics_modules (id, name, module_type, entry_point) VALUES ('odd', 'Odd', 'x', 'y')"
        tx.ledger.connection.exec_driver_sql(statement)

    await parts.store.write(unit)
    (edit,) = await parts.store.read(lambda reading: reading.row_edits(10))
    await parts.store.write(lambda tx: tx.settle_row_edit(edit, "module_type 'x' is unknown"))
    answer = await parts.client.get(f"{BASE}/modules/odd/status")
    assert answer.status_code == 404
    assert "module_type 'x' is unknown" in answer.json()["detail"]


async def hold(parts: Parts, name: str, *routes: tuple[str, str], refused: bool = False) -> None:
    """What the reconciler writes of a module's routes: its claims, or what it is refused."""

    def unit(tx: Transaction) -> None:
        record = tx.get("Module", name)
        assert record is not None
        wanted = [(method, paths.path_shape(path), path) for method, path in routes]
        if refused:
            tx.contest(record.uid, [Contest("v1", "shop", *each, record.uid, name, tx.now) for each in wanted])
        else:
            assert tx.take_claims(record, "v1", "shop", wanted) == []

    await parts.store.write(unit)


async def test_conflicts_tell_who_holds_a_route_and_who_was_refused_it(parts: Parts) -> None:
    assert isinstance(parts.clock, FakeClock)
    for name in ("my-orders", "other", "third"):
        await parts.apply(module(name))
    await hold(parts, "my-orders", ("GET", "/users/{id}"))
    await parts.clock.advance(60)
    await hold(parts, "other", ("GET", "/users/{name}"), ("PUT", "/free"), refused=True)
    await hold(parts, "third", ("*", "/users/{x}"), refused=True)
    body = (await parts.client.get(f"{BASE}/routing/conflicts")).json()
    assert body["conflicts"][0] == {
        "api_version": "v1",
        "namespace": "shop",
        "method": "GET",
        "path": "/users/{name}",
        "shape": "/users/{}",
        "refused": "other",
        "owner": "my_orders",
        "owner_path": "/users/{id}",
        "owner_since": "2030-01-01T00:00:00.000000Z",
        "since": "2030-01-01T00:01:00.000000Z",
    }
    assert [(each["refused"], each["method"]) for each in body["conflicts"]] == [("other", "GET"), ("third", "*")]
    assert (body["shadowed"], body["complete"]) == ([], True)
    for query, count in (("module=third", 1), ("module=my_orders", 2), ("namespace=shop", 2), ("namespace=x", 0)):
        answer = (await parts.client.get(f"{BASE}/routing/conflicts?{query}")).json()
        assert len(answer["conflicts"]) == count, query
    cut = (await parts.client.get(f"{BASE}/routing/conflicts?limit=1")).json()
    assert (len(cut["conflicts"]), cut["complete"]) == (1, False)


async def test_conflicts_tell_which_routes_are_shadowed(parts: Parts) -> None:
    for name in ("wide", "narrow"):
        await parts.apply(module(name))
    await hold(parts, "wide", ("GET", "/users/{id}"), ("OPTIONS", "/{rest:path}"))
    await hold(parts, "narrow", ("GET", "/users/me"))
    body = (await parts.client.get(f"{BASE}/routing/conflicts")).json()
    assert body["conflicts"] == []
    first, second = body["shadowed"]
    assert first == {
        "api_version": "v1",
        "namespace": "shop",
        "methods": ["OPTIONS"],
        "path": "/users/me",
        "shape": "/users/me",
        "shadowed": "narrow",
        "owner": "wide",
        "owner_path": "/{rest:path}",
        "reason": "left_open",
        "whole": True,
        "example": "/users/me",
        "since": "2030-01-01T00:00:00.000000Z",
    }
    told = (second["shadowed"], second["path"], second["methods"], second["owner"], second["reason"], second["whole"])
    assert told == ("wide", "/users/{id}", ["GET"], "narrow", "more_specific", False)
    for query, count in (("module=narrow", 2), ("module=third", 0), ("namespace=x", 0)):
        assert len((await parts.client.get(f"{BASE}/routing/conflicts?{query}")).json()["shadowed"]) == count, query


async def test_delete_is_accepted_and_then_under_way(parts: Parts) -> None:
    await parts.apply(module("my-orders"))
    answer = await parts.client.delete(f"{BASE}/modules/my_orders")
    assert (answer.status_code, answer.json()) == (202, {"module_id": "my_orders", "deleted": False, "deleting": True})
    assert (await parts.client.delete(f"{BASE}/modules/nothing")).status_code == 404


async def test_history_tells_transitions_newest_first(parts: Parts) -> None:
    assert isinstance(parts.clock, FakeClock)
    await parts.apply(module("a"))
    await parts.clock.advance(3600)
    await parts.apply(module("a", version="2.0.0"))
    await parts.apply(module("b-c"))
    url = f"{BASE}/modules/registration-history"

    async def told(**params: str) -> list[tuple[str, int]]:
        events = (await parts.client.get(url, params=params)).json()["events"]
        return [(event["module_id"], event["generation"]) for event in events]

    assert await told() == [("b_c", 1), ("a", 2), ("a", 1)]
    assert await told(module="b_c") == [("b_c", 1)]
    assert await told(limit="1") == [("b_c", 1)]
    assert await told(state="ACTIVE") == []
    assert await told(to="2030-01-01T00:30:00") == [("a", 1)]
    assert await told(**{"from": "2030-01-01T00:30:00Z", "module": "a"}) == [("a", 2)]
    first = (await parts.client.get(url)).json()["events"][-1]
    assert (first["from"], first["state"], first["reason"], first["sequence"]) == (None, "discovered", "Created", 1)


@pytest.mark.parametrize("query", ["state=NONSENSE", "limit=0", "from=yesterday"])
async def test_nonsense_in_the_query_is_a_problem_document(parts: Parts, query: str) -> None:
    answer = await parts.client.get(f"{BASE}/modules/registration-history?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/query/")


async def test_the_management_api_describes_itself(parts: Parts) -> None:
    document = (await parts.client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        f"{BASE}/modules",
        f"{BASE}/modules/discover",
        f"{BASE}/modules/metrics",
        f"{BASE}/modules/registration-history",
        f"{BASE}/modules/{{module_id}}",
        f"{BASE}/modules/{{module_id}}/status",
        f"{BASE}/modules/{{module_id}}/trace",
        f"{BASE}/routing/conflicts",
    }
