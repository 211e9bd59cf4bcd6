"""The management API, in the words of the seed."""

import json
import re
from dataclasses import replace

import pytest

from controlplane.api import modelling
from controlplane.store.records import Contest, Record
from controlplane.store.transactions import Transaction
from schemas import paths
from schemas.module import CircuitState
from schemas.reports import Ailing, WorkerReport, WorkerStatus
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
    unknown = ("unknown", None, "no worker has checked it yet")
    assert (body["health"]["status"], body["health"]["last_check"], body["health"]["message"]) == unknown
    assert body["conditions"][0]["type"] == "Valid"
    assert body["row_error"] is None


async def test_status_tells_health_and_what_stalls(parts: Parts) -> None:
    await parts.apply(module())
    at = "2030-01-01T00:00:00.000000Z"
    conditions = [
        {"type": "Healthy", "status": "False", "reason": "Failing", "message": "no database", "lastTransitionTime": at},
        {"type": "Stalled", "status": "True", "reason": "ImportFailed", "message": "orders.py:3: no module x"},
    ]
    counts = {"unhealthy": 2, "out": 1, "circuit": "open", "lastCheck": "2030-01-01T00:00:05Z"}
    await set_status(parts, "orders", state="ERROR", conditions=conditions, health=counts)
    body = (await parts.client.get(f"{BASE}/modules/orders/status")).json()
    assert body["health"] == {
        "status": "unhealthy", "last_check": "2030-01-01T00:00:05.000000Z", "since": at, "reason": "Failing",
        "message": "no database", "unhealthy": 2, "out": 1, "circuit": "open",
    }  # fmt: skip
    assert (await parts.client.get(f"{BASE}/modules")).json()["modules"][0]["health"] == "unhealthy"
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


async def test_modules_are_chosen_by_label_and_namespace(parts: Parts) -> None:
    await parts.apply(module("a", labels={"team": "x"}))
    await parts.apply(module("b", labels={"team": "y"}, routing={"namespace": "shop"}))
    for query, ids in (("label=team=x", ["a"]), ("label=team!=x", ["b"]), ("namespace=shop", ["b"]), ("label=no", [])):
        found = (await parts.client.get(f"{BASE}/modules?{query}")).json()["modules"]
        assert [each["module_id"] for each in found] == ids, query
    assert (await parts.client.get(f"{BASE}/modules?label=a=b=c")).status_code == 422


async def report(parts: Parts, name: str = "w0", *, lost: bool = False, **more: object) -> None:
    """What the messaging room writes of a worker."""
    now = parts.clock.now()
    told = WorkerReport.model_validate({"id": name, "boot": "b", "started_at": now, "reported_at": now, **more})

    def unit(tx: Transaction) -> None:
        status = WorkerStatus(report=told, lost=lost).wire()
        tx.put(Record("Worker", name, f"uid-{name}", 1, 0, tx.now, labels={"zone": "x"}, status=status))

    await parts.store.write(unit)


async def test_workers_are_listed_with_what_they_find_ailing(parts: Parts) -> None:
    ailing = Ailing(module="orders", generation=1, since=parts.clock.now(), circuit=CircuitState.OPEN)
    await report(parts, state="synced", ailing=[ailing], modules=3)
    body = (await parts.client.get(f"{BASE}/workers")).json()
    assert body["total"] == 1
    (worker,) = body["workers"]
    assert (worker["worker_id"], worker["state"], worker["modules"], worker["labels"]) == (
        "w0",
        "synced",
        3,
        {"zone": "x"},
    )
    assert worker["ailing"][0]["circuit"] == "open"


async def test_the_system_is_healthy_when_everything_is(parts: Parts) -> None:
    await report(parts, state="synced")
    await parts.apply(module())
    body = (await parts.client.get(f"{BASE}/system/health")).json()
    assert (body["status"], body["reasons"]) == ("healthy", [])
    assert (body["modules"], body["workers"]) == ({"discovered": 1}, {"synced": 1})


async def test_a_module_or_worker_in_trouble_degrades_the_system(parts: Parts) -> None:
    await report(parts, state="synced", lost=True)
    await parts.apply(module())
    stalled = [{"type": "Stalled", "status": "True", "reason": "ImportFailed", "message": "orders.py:3: no"}]
    await set_status(parts, "orders", state="ERROR", conditions=stalled)
    body = (await parts.client.get(f"{BASE}/system/health")).json()
    assert body["status"] == "degraded"
    assert body["reasons"] == ["worker w0: lost", "module orders: ImportFailed: orders.py:3: no"]


async def test_a_broken_part_makes_the_system_unhealthy_and_it_still_answers(parts: Parts) -> None:
    parts.checks["nats"] = {"ok": False, "reason": "nobody answers"}
    assert (await parts.client.get(f"{BASE}/system/health")).json()["status"] == "unhealthy"
    await parts.store.close()
    answer = await parts.client.get(f"{BASE}/system/health")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["modules"], body["workers"]) == (None, None)
    assert body["reasons"][1].startswith("store: the store is closed")
    modelling.SystemHealth.model_validate(body)


async def test_events_are_told_newest_first(parts: Parts) -> None:
    await parts.apply(module("a"))
    await parts.apply(module("b"))
    events = (await parts.client.get(f"{BASE}/events")).json()["events"]
    assert [event["module_id"] for event in events] == ["b", "a"]
    assert len((await parts.client.get(f"{BASE}/events?module=a&limit=5")).json()["events"]) == 1


async def test_every_answer_is_of_its_model(parts: Parts) -> None:
    await parts.apply(module("my-orders", labels={"team": "x"}))
    await report(parts, state="synced")
    for path, model in (
        ("/modules", modelling.ModuleList),
        ("/modules/my_orders/status", modelling.ModuleDetail),
        ("/modules/registration-history", modelling.Transitions),
        ("/routing/conflicts", modelling.Conflicts),
        ("/system/health", modelling.SystemHealth),
        ("/workers", modelling.Workers),
        ("/events", modelling.Transitions),
    ):
        answer = await parts.client.get(f"{BASE}{path}")
        assert answer.status_code == 200, path
        model.model_validate(answer.json())
    modelling.Readiness.model_validate((await parts.client.get("/ready")).json())
    modelling.Deletion.model_validate((await parts.client.delete(f"{BASE}/modules/my_orders")).json())


async def test_the_api_describes_itself_with_examples_and_error_bodies(parts: Parts) -> None:
    document = (await parts.client.get("/openapi.json")).json()
    assert {path.removeprefix(BASE) for path in document["paths"]} >= {
        "/modules", "/modules/discover", "/modules/registration-history", "/modules/{module_id}",
        "/modules/{module_id}/status", "/modules/metrics", "/routing/conflicts", "/system/health", "/workers",
        "/events", "/health", "/ready", "/modules/system/info",
    }  # fmt: skip
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            told = operation["responses"]
            assert "$ref" in told["200"]["content"]["application/json"]["schema"], (path, method)
            for code in (code for code in told if int(code) >= 400 and (path, code) != ("/ready", "503")):
                problem = told[code]["content"]["application/problem+json"]
                assert problem["example"]["status"] == int(code), (path, method)
            assert ("security" in operation) is (path not in {"/health", "/ready"})
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert refs <= set(document["components"]["schemas"])
