"""From reported routes to desired ones: checked, with effective policies, claimed by shape."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import accepting
from controlplane.store.records import Claim
from schemas import policies
from schemas.inspections import InspectionOutcome, InspectionReport, RouteReport
from schemas.module import ModuleSpec
from schemas.policies import AuthLevel, AuthRequirement
from tests.doubles.inspectors import module_spec, route


def spec(**more: object) -> ModuleSpec:
    return ModuleSpec.model_validate(module_spec(1, **more))


def inspected(*routes: RouteReport) -> InspectionReport:
    return InspectionReport(id="", outcome=InspectionOutcome.OK, routes=list(routes))


def test_each_route_gets_the_conjunction_of_floor_and_its_own_words() -> None:
    floor = AuthRequirement(level=AuthLevel.ROLE, roles=["analyst"])
    own = AuthRequirement(level=AuthLevel.PERMISSION, permissions=["read"])
    given_spec = spec(auth=floor.model_dump(mode="json", by_alias=True))
    desired = accepting.desired_module("one", given_spec, inspected(route("/a", "GET", auth=own), route("/b", "post")))
    assert desired.routes[0].policy == policies.conjoin(floor, own)
    assert desired.routes[1].policy == policies.conjoin(floor, None)
    assert [status.auth for status in accepting.route_statuses(desired)] == ["ROLE", "ROLE"]
    assert accepting.claims_of(desired) == [("GET", "/a", "/a"), ("POST", "/b", "/b")]
    assert (desired.api_version, desired.namespace, desired.source_path) == ("v1", "one", "mod")


def test_the_source_s_top_name_is_what_lies_in_the_packed_folder() -> None:
    assert accepting.top_name(spec(source={"path": "teams/insights/mod"})) == "mod"


def test_a_conflict_heals_and_everything_else_does_not() -> None:
    rival = Claim(
        "v1", "one", "GET", "/users/{}", "/users/{name}", "other-uid", "other", 3, datetime(2030, 1, 1, tzinfo=UTC)
    )
    refusal = accepting.refusal("one", "uid", spec(), inspected(route("/users/{id}")), [rival])
    assert refusal is not None
    assert (refusal.reason, refusal.terminal) == ("RouteConflict", False)
    assert "module other" in refusal.message
    assert accepting.refusal("one", "other-uid", spec(), inspected(route("/users/{id}")), [rival]) is None


def test_the_catalogue_binds_only_when_it_is_not_empty() -> None:
    asks = route("/a", auth=AuthRequirement(level=AuthLevel.PERMISSION, permissions=["write"]), location="mod.py:4")
    assert accepting.refusal("one", "u", spec(), inspected(asks), []) is None
    refusal = accepting.refusal("one", "u", spec(permissions=["read"]), inspected(asks), [])
    assert refusal is not None
    assert "mod.py:4" in refusal.message
    assert "add it to spec.permissions" in refusal.message
    floor = {"level": "PERMISSION", "permissions": ["writ"]}
    refused = accepting.refusal("one", "u", spec(permissions=["write"], auth=floor), inspected(route("/a")), [])
    assert refused is not None
    assert "spec.auth asks for permission 'writ'" in refused.message


def test_many_problems_are_told_in_part() -> None:
    refusal = accepting.refusal("one", "u", spec(), inspected(*(route(f"x{n}") for n in range(9))), [])
    assert refusal is not None
    assert refusal.message.endswith("; and 4 more")


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/./a", "/a%2fb", "/a b", "/a?b", "/a#b", "/a\\b", "", "/a\n"])
def test_paths_that_no_request_can_reach_are_refused(path: str) -> None:
    refusal = accepting.refusal("one", "u", spec(), inspected(route(path)), [])
    assert refusal is not None
    assert (refusal.reason, refusal.terminal) == ("InvalidRoute", True)


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["/a", "/b/{x}", "/b/{y}", "/c"]))))
def test_accepted_routes_never_share_a_claim(routes: list[tuple[str, str]]) -> None:
    report = inspected(*(route(path, method) for method, path in routes))
    refusal = accepting.refusal("one", "u", spec(), report, [])
    claims = accepting.claims_of(accepting.desired_module("one", spec(), report))
    shapes = [(method, shape) for method, shape, _ in claims]
    if refusal is None:
        assert len(shapes) == len(set(shapes)) == len(routes)
    else:
        assert refusal.reason == "DuplicateRoute"
