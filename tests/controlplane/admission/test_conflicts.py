"""Route conflicts: found by hash, named by owner, equal to what brute force finds."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission.conflicts import RESERVED, RouteConflict, RouteConflictDetector, WantedRoute
from schemas import paths


@dataclass(frozen=True)
class Held:
    api_version: str
    namespace: str
    method: str
    shape: str
    path: str
    uid: str
    module: str
    revision: int
    at: datetime = datetime(2030, 1, 1, tzinfo=UTC)


def held(path: str, *, method: str = "GET", uid: str = "u1", revision: int = 1, namespace: str = "shop") -> Held:
    return Held("v1", namespace, method, paths.path_shape(path), path, uid, f"module-{uid}", revision)


def find(detector: RouteConflictDetector, *routes: WantedRoute, uid: str = "u2") -> list[RouteConflict]:
    return detector.find(uid, f"module-{uid}", "v1", "shop", routes)


def test_parameter_names_do_not_make_a_route_another() -> None:
    detector = RouteConflictDetector([held("/users/{id}")])
    (conflict,) = find(detector, WantedRoute(("GET",), "/users/{name}"))
    assert (conflict.reason, conflict.owner, conflict.owner_path) == ("RouteConflict", "module-u1", "/users/{id}")
    assert "GET /users/{name} in v1/shop is already held by module module-u1 (as /users/{id})" in conflict.message


@pytest.mark.parametrize(
    "route",
    [
        WantedRoute(("POST",), "/users/{id}"),
        WantedRoute(("GET",), "/users/me"),
        WantedRoute(("GET",), "/users/{id:int}"),
        WantedRoute(("GET",), "/users/{id}/"),
        WantedRoute((paths.WEBSOCKET,), "/users/{id}"),
    ],
)
def test_what_is_another_route_is_free(route: WantedRoute) -> None:
    assert find(RouteConflictDetector([held("/users/{id}")]), route) == []


def test_the_same_route_elsewhere_is_free() -> None:
    detector = RouteConflictDetector([held("/users", namespace="other")])
    assert find(detector, WantedRoute(("GET",), "/users")) == []


def test_a_module_keeps_its_own_routes() -> None:
    detector = RouteConflictDetector([held("/users/{id}")])
    assert find(detector, WantedRoute(("GET",), "/users/{other}"), uid="u1") == []


def test_a_route_given_twice_by_one_module_names_both_spellings() -> None:
    (conflict,) = find(
        RouteConflictDetector(), WantedRoute(("GET", "POST"), "/a/{x}"), WantedRoute(("get",), "/a/{y:str}")
    )
    assert (conflict.reason, conflict.method, conflict.owner_path) == ("DuplicateRoute", "GET", "/a/{x}")
    assert "registered twice" in conflict.message


def test_the_health_route_is_the_gateways() -> None:
    (conflict,) = find(RouteConflictDetector(), WantedRoute(("GET",), "/health"))
    assert (conflict.reason, conflict.owner) == ("ReservedRoute", RESERVED)
    assert "answered by the gateway itself" in conflict.message


def test_the_older_claim_stays_in_whatever_order_claims_are_read() -> None:
    old, young = held("/a", uid="old", revision=3), held("/a", uid="young", revision=7)
    for order in ([old, young], [young, old]):
        owner = RouteConflictDetector(order).owner("v1", "shop", "GET", "/a")
        assert owner is not None
        assert owner.uid == "old"


def test_a_mount_and_a_method_on_one_shape_exclude_each_other() -> None:
    files = WantedRoute(("*",), "/files/{path:path}")
    young, old = held("/files/{p:path}", revision=9), held("/files/{rest:path}", method="PUT", uid="u3", revision=4)
    (conflict,) = find(RouteConflictDetector([young, old]), files)
    assert (conflict.method, conflict.owner, conflict.owner_path) == ("*", "module-u3", "/files/{rest:path}")
    mounted = RouteConflictDetector([held("/files/{path:path}", method="*")])
    for method in ("GET", "OPTIONS", paths.WEBSOCKET):
        assert len(find(mounted, WantedRoute((method,), "/files/{p:path}"))) == 1
    assert find(mounted, WantedRoute(("GET",), "/files/{p:path}"), uid="u1") == []
    assert find(mounted, WantedRoute(("GET",), "/files/{p}")) == []


def test_released_routes_are_free_again() -> None:
    detector = RouteConflictDetector([held("/a"), held("/b"), held("/c", uid="u3")])
    detector.release("u1")
    detector.release("nobody")
    assert len(detector) == 1
    assert find(detector, WantedRoute(("GET",), "/a"), WantedRoute(("GET",), "/c"))[0].owner == "module-u3"


TEMPLATES = st.sampled_from(["/a", "/{x}", "/{y}", "/a/{x}", "/a/{n:int}", "/a/{z}", "/health", "/{p:path}"])
METHODS = st.lists(st.sampled_from(["GET", "POST", "DELETE"]), min_size=1, max_size=3).map(tuple)
ROUTES = st.lists(st.builds(WantedRoute, METHODS, TEMPLATES), max_size=5)


@given(st.lists(st.tuples(st.sampled_from("abc"), TEMPLATES, st.sampled_from(["GET", "POST"])), max_size=12), ROUTES)
def test_the_index_finds_what_brute_force_finds(claims: list[tuple[str, str, str]], wanted: list[WantedRoute]) -> None:
    standing = [held(path, method=method, uid=uid, revision=index) for index, (uid, path, method) in enumerate(claims)]
    found = RouteConflictDetector(standing).find("a", "module-a", "v1", "shop", wanted)

    expected: list[tuple[str, str, str]] = []
    before: list[tuple[str, str]] = []
    for route in wanted:
        for method in sorted(set(route.methods)):
            shape = paths.path_shape(route.path)
            oldest = next((claim for claim in standing if (claim.method, claim.shape) == (method, shape)), None)
            if shape == "/health":
                expected.append((method, route.path, RESERVED))
            elif (method, shape) in before:
                expected.append((method, route.path, "module-a"))
            elif oldest is not None and oldest.uid != "a":
                expected.append((method, route.path, oldest.module))
            before.append((method, shape))
    assert [(each.method, each.path, each.owner) for each in found] == expected
