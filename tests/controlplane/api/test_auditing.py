"""Every write of the control plane is noted with who, what and what came of it; the trail is for administrators."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane import writing
from controlplane.api import apps, authenticating
from controlplane.audit import asking, noting, verifying
from controlplane.audit.asking import Wanted
from controlplane.store import stores
from controlplane.telemetry import measurements
from schemas.meta import Json
from tests.doubles import issuers
from tests.doubles.apiparts import MODULES, Discoverer, Sources, flag, module
from tests.doubles.clock import FakeClock
from tests.doubles.databases import sqlite_store
from tests.doubles.trails import SEALER, Writer, trail

APPLY = "/apis/modplane.dev/v1/apply"
FLAGS = "/apis/modplane.dev/v1/featureflags"
AUDIT = "/api/v1/module-management/audit"


class Desk:
    """A guarded API whose notes a test reads, over a real trail."""

    def __init__(self, folder: Path, store: stores.Store) -> None:
        self.full = False
        self.noted: list[Any] = []
        self.trail = trail(folder)
        clock = FakeClock()
        self.now = clock.now().timestamp()
        self.discoverer = Discoverer()
        self.measured = measurements.Measurements(folder / measurements.PATH, clock.now)
        self.api = apps.create_app(
            store,
            clock=clock,
            sources=Sources(),
            discoverer=self.discoverer,
            readiness=dict,
            info=dict,
            version="1",
            callers=authenticating.Callers(issuers.verifier(), clock, lambda *_: False),
            writer=writing.Writer(store, clock, Sources()),
            measured=self.measured,
            auditor=self,
            book=noting.Book(self, lambda: 1_800_000_000.25),
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.api, client=("10.1.2.3", 5)), base_url="http://127.0.0.1:7400"
        )

    def note(self, entry: Any) -> None:
        self.noted.append(entry)

    async def find(self, wanted: Wanted) -> tuple[list[Json], bool]:
        with self.trail.reading() as database:
            return asking.find(database, wanted)

    async def verify(self) -> Json:
        with self.trail.reading() as database:
            return {**verifying.verify(database, SEALER).wire(), "second_place": "none"}

    async def ask(self, method: str, path: str, role: str | None = "admin", **more: Any) -> httpx.Response:
        headers = {"user-agent": "tester/1", **more.pop("headers", {})}
        if role is not None:
            said = issuers.claims(self.now, sub=f"the-{role}", roles=[role])
            headers["authorization"] = f"Bearer {issuers.token(said)}"
        return await self.client.request(method, path, headers=headers, **more)

    def records(self) -> list[Json]:
        entries, self.noted = self.noted, []
        return [noting.encode(entry) for entry in entries]

    def brief(self) -> list[tuple[Any, ...]]:
        words = ("outcome", "status", "reason", "verb", "resource", "subject")
        return [tuple(each.get(word) for word in words) for each in self.records()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with sqlite_store(tmp_path) as store:
        made = Desk(tmp_path, store)
        yield made
        await made.client.aclose()
        made.api.close()
        made.trail.close()
        await made.measured.close()


async def test_a_change_says_who_from_where_what_and_at_which_revision(desk: Desk) -> None:
    made = await desk.ask("POST", FLAGS, json=flag("beta"), headers={"x-request-id": "r\x1b1"})
    assert made.status_code == 201, made.text
    (record,) = desk.records()
    assert (
        record
        == {
            "kind": "change",
            "at": "2027-01-15T08:00:00.250Z",
            "outcome": "allow",
            "status": 200,
            "reason": "Done",
            "verb": "created",
            "resource": "FeatureFlag/beta",
            "revision": int(made.json()["metadata"]["resourceVersion"]),
            "generation": 1,
            "subject": "the-admin",
            "issuer": issuers.ISSUER,
            "manager": "tester",
            "client": "10.1.2.3",
            "method": "POST",
            "path": FLAGS,
            "request": "r\\x1b1",
        }
        or "organisation" not in record
    )


async def test_a_change_is_found_by_its_trace(desk: Desk) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await desk.ask("POST", FLAGS, json=flag("a"), headers={"traceparent": parent})
    await desk.ask("POST", FLAGS, json=flag("b"))
    named, own = desk.records()
    assert named["trace"] == "0af7651916cd43dd8448eb211c80319c"
    assert len(own["trace"]) == 32
    assert own["trace"] != named["trace"]
    assert own["request"]


async def test_every_way_to_write_is_noted_once(desk: Desk) -> None:
    body = flag("beta")
    await desk.ask("POST", FLAGS, json=body)
    await desk.ask("PUT", f"{FLAGS}/beta", json={**body, "spec": {"defaultVariant": "on"}})
    merge = {"content-type": "application/merge-patch+json"}
    patch = {"spec": {"defaultVariant": "off"}}
    await desk.ask("PATCH", f"{FLAGS}/beta", content=json.dumps(patch), headers=merge)
    await desk.ask("PATCH", f"{FLAGS}/beta", content=json.dumps(patch), headers=merge)
    await desk.ask("DELETE", f"{FLAGS}/beta")
    await desk.ask("POST", "/api/v1/module-management/modules/discover")
    assert [(each[0], each[2], each[3], each[4]) for each in desk.brief()] == [
        ("allow", "Done", "created", "FeatureFlag/beta"),
        ("allow", "Done", "configured", "FeatureFlag/beta"),
        ("allow", "Done", "configured", "FeatureFlag/beta"),
        ("allow", "Unchanged", None, "FeatureFlag/beta"),
        ("allow", "Done", "deleted", "FeatureFlag/beta"),
        ("allow", "Done", "discover", None),
    ]


async def test_of_a_list_each_object_is_noted_that_changes_or_is_refused(desk: Desk) -> None:
    items = [flag("a"), flag("b"), {**flag("c"), "spec": {"nonsense": 1}}]
    await desk.ask("POST", APPLY, params={"fieldManager": "ci"}, json={"items": items[:1]})
    desk.records()
    answer = await desk.ask("POST", APPLY, params={"fieldManager": "ci"}, json={"items": items})
    assert answer.status_code == 200
    assert desk.brief() == [
        ("allow", 200, "Done", "created", "FeatureFlag/b", "the-admin"),
        ("error", 422, "Invalid", "refused", "FeatureFlag/c", "the-admin"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "role", "body", "expected"),
    [
        ("POST", FLAGS, None, flag(), ("deny", 401, "Unauthorized", "refused", "FeatureFlag", None)),
        ("POST", FLAGS, "viewer", flag(), ("deny", 403, "Forbidden", "refused", "FeatureFlag", "the-viewer")),
        ("DELETE", f"{FLAGS}/no", "admin", None, ("error", 404, "NotFound", "refused", "FeatureFlag/no", "the-admin")),
        ("DELETE", MODULES, "admin", None, ("error", 405, "MethodNotAllowed", "refused", "Module", "the-admin")),
        ("POST", MODULES, "admin", {"x": 1}, ("error", 422, "Invalid", "refused", "Module", "the-admin")),
    ],
)  # fmt: skip
async def test_what_is_refused_is_noted_too(
    desk: Desk, method: str, path: str, role: str | None, body: Json | None, expected: tuple[Any, ...]
) -> None:
    answer = await desk.ask(method, path, role, json=body)
    assert answer.status_code == expected[1]
    assert desk.brief() == [expected]


async def test_a_dry_run_and_a_look_change_nothing_and_are_not_noted(desk: Desk) -> None:
    assert (await desk.ask("POST", FLAGS, params={"dryRun": "All"}, json=flag())).status_code == 201
    assert (await desk.ask("GET", FLAGS)).status_code == 200
    refused = await desk.ask("POST", FLAGS, params={"dryRun": "All"}, json={**flag(), "spec": {"no": 1}})
    assert refused.status_code == 422
    listed = await desk.ask("POST", APPLY, params={"fieldManager": "a", "dryRun": "All"}, json={"items": [module()]})
    assert listed.status_code == 200
    assert desk.records() == []


async def test_without_room_for_its_record_nothing_is_changed(desk: Desk) -> None:
    desk.full = True
    answer = await desk.ask("POST", FLAGS, json=flag())
    assert answer.status_code == 503
    assert "audit trail" in answer.json()["message"]
    assert (await desk.ask("GET", FLAGS)).json()["items"] == []
    desk.full = False
    assert (await desk.ask("POST", FLAGS, json=flag())).status_code == 201
    assert [each[2] for each in desk.brief()] == ["ServiceUnavailable", "Done"]


@pytest.mark.parametrize(("role", "status"), [(None, 401), ("viewer", 403), ("editor", 403), ("admin", 200)])
@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/verification"])
async def test_only_administrators_see_the_trail(desk: Desk, role: str | None, status: int, path: str) -> None:
    assert (await desk.ask("GET", path, role)).status_code == status


async def test_the_trail_is_shown_by_pages(desk: Desk) -> None:
    desk.trail.add(Writer().batch(5, module="shop", subject="ada"))
    page = (await desk.ask("GET", AUDIT, params={"limit": 2, "module": "shop"})).json()
    assert [each["id"] for each in page["records"]] == [4, 5]
    page = (await desk.ask("GET", AUDIT, params={"limit": 2, "before": page["next"]})).json()
    assert ([each["id"] for each in page["records"]], page["next"]) == ([2, 3], 2)
    page = (await desk.ask("GET", AUDIT, params={"newest": "false", "after": 3, "limit": 9})).json()
    assert ([each["id"] for each in page["records"]], page["next"]) == ([4, 5], None)
    since = {"since": "2026-01-01T01:00:03+01:00"}
    assert len((await desk.ask("GET", AUDIT, params=since)).json()["records"]) == 2
    assert (await desk.ask("GET", f"{AUDIT}/verification")).json()["ok"]


@pytest.mark.parametrize(
    "query",
    [
        {"outcome": "maybe"}, {"kind": "x"}, {"since": "yesterday"}, {"after": "-1"}, {"after": str(1 << 63)},
        {"limit": "0"}, {"limit": "10001"}, {"subject": "a" * 300},
    ],
)  # fmt: skip
async def test_nonsense_is_refused_with_a_problem_document(desk: Desk, query: dict[str, str]) -> None:
    answer = await desk.ask("GET", AUDIT, params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
