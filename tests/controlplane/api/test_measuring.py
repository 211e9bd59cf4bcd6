"""What was called how often, in the words of the seed."""

from typing import Any

import pytest

from schemas.kits import sketches
from schemas.measures import AccessMeasure, Measures, RouteMeasure
from schemas.meta import Json
from tests.controlplane.api.test_managing import set_status
from tests.doubles.apiparts import Parts, module

URL = "/api/v1/module-management/modules/metrics"


def route(number: int, calls: int, *, uid: str, path: str = "/dashboard/overview", **more: Any) -> RouteMeasure:
    fields: Json = {"module": "analytics-core", "version": "1.0.0", "method": "GET", "last": 1.9e9, "inside": 1}
    fields |= {"seconds": calls * 0.05, "durations": sketches.text({sketches.bucket(0.05): calls})}
    return RouteMeasure(number=number, uid=uid, route=path, calls=calls, **(fields | more))


async def tell(parts: Parts, *routes: RouteMeasure, worker: str = "w0", sequence: int = 1) -> None:
    at = parts.clock.now().timestamp()
    accesses = [AccessMeasure(organisation="acme", module="analytics-core", calls=7, last=at)]
    report = Measures(worker=worker, boot="b1", sequence=sequence, at=at, routes=list(routes), accesses=accesses)
    await parts.measured.take([(worker, report.model_dump_json(by_alias=True).encode())])


@pytest.fixture
async def uid(parts: Parts) -> str:
    await parts.client.post("/apis/modplane.dev/v1/modules", json=module("analytics-core"))
    await set_status(parts, "analytics-core", routes=[{"method": "GET", "path": "/dashboard/overview"}])
    return str((await parts.client.get("/apis/modplane.dev/v1/modules/analytics-core")).json()["metadata"]["uid"])


async def ask(parts: Parts, **query: str) -> Any:
    answer = await parts.client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_route_is_told_as_the_seed_does(parts: Parts, uid: str) -> None:
    await tell(parts, route(1, 8, uid=uid, client_errors=1, timeouts=1), route(2, 2, uid=uid, method="POST"))
    found = await ask(parts)
    assert list(found) == ["analytics_core:/dashboard/overview"]
    entry = found["analytics_core:/dashboard/overview"]
    assert entry["p99_ms"] == pytest.approx(50, rel=sketches.ERROR)
    percentiles = {name: entry[name] for name in ("p50_ms", "p90_ms", "p99_ms")}
    assert entry == {
        "module_id": "analytics_core",
        "route": "/dashboard/overview",
        "method": "GET, POST",
        "version": "1.0.0",
        "call_count": 10,
        "total_duration_ms": 500.0,
        "error_count": 2,
        "avg_duration_ms": 50.0,
        "success_rate": 0.8,
        "errors": {"4xx": 1, "5xx": 0, "refused": 0, "timeout": 1},
        "last_access": "2030-03-17T17:46:40.000000Z",
        "bytes_in": 0,
        "bytes_out": 0,
        "in_flight": 2,
        "methods": entry["methods"],
        **percentiles,
    }
    assert {method: each["call_count"] for method, each in entry["methods"].items()} == {"GET": 8, "POST": 2}


async def test_what_is_gone_is_told_of_a_range_only(parts: Parts, uid: str) -> None:
    gone = [route(2, 20, uid=uid, path="/gone"), route(3, 30, uid="another"), route(4, 40, uid="u", module="deleted")]
    await tell(parts, route(1, 10, uid=uid), *gone)
    assert {key: entry["call_count"] for key, entry in (await ask(parts)).items()} == {
        "analytics_core:/dashboard/overview": 10
    }
    assert sum(each["call_count"] for each in (await ask(parts, **{"from": "2020-01-01T00:00:00Z"})).values()) == 100
    assert await ask(parts, to="2020-01-01T00:00:00Z") == {}


async def test_groups_and_filters(parts: Parts, uid: str) -> None:
    await tell(parts, route(1, 10, uid=uid))
    await tell(parts, route(1, 5, uid=uid), worker="w1")
    by_worker = await ask(parts, group="worker")
    assert {name: each["call_count"] for name, each in by_worker.items()} == {"w0": 10, "w1": 5}
    by_module = await ask(parts, group="module", module="analytics_core")
    assert {name: each["call_count"] for name, each in by_module.items()} == {"analytics_core": 15}
    assert (await ask(parts, worker="w1"))["analytics_core:/dashboard/overview"]["call_count"] == 5
    by_organisation = await ask(parts, group="organisation")
    assert by_organisation["acme"]["call_count"] == 14
    assert by_organisation["acme"]["modules"]["analytics_core"]["call_count"] == 14


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ({"from": "yesterday"}, 422, "from"),
        ({"from": "12"}, 422, "from"),
        ({"group": "colour"}, 422, "group"),
        ({"module": "nothing"}, 404, "nothing"),
    ],
)
async def test_what_makes_no_sense_is_refused(parts: Parts, query: dict[str, str], status: int, word: str) -> None:
    answer = await parts.client.get(URL, params=query)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.text


async def test_nothing_called_is_nothing_told(parts: Parts) -> None:
    assert await ask(parts) == {}


async def test_a_range_that_ends_before_it_begins_has_no_calls(parts: Parts) -> None:
    answer = await parts.client.get(URL, params={"from": "2030-01-02T00:00:00Z", "to": "2030-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()) == (200, {})
