"""Matching is Starlette's: the same route wins that a router with the same order would run."""

from itertools import product
from typing import Any

import pytest
from fastapi import APIRouter
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Match

from dataplane.gateway import matching

SEGMENTS = st.sampled_from(["a", "b", "me", "7", "{x}", "{n:int}", "pre-{x}", "{f:float}", "{rest:path}"])


@st.composite
def routes_that_meet(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Methods and templates of a few segments between them."""
    pool = draw(st.lists(SEGMENTS, min_size=2, max_size=4, unique=True))
    parts = st.lists(st.sampled_from(pool), min_size=1, max_size=3)
    tail = st.sampled_from(["", "", "", "/", "/{end:path}"])
    templates = st.builds(lambda parts, tail: "/" + "/".join(_unique(parts)) + tail, parts, tail)
    return draw(st.lists(st.tuples(st.sampled_from(["GET", "POST"]), templates), min_size=1, max_size=8))


ROUTES = routes_that_meet()
PATHS = [
    "/" + "/".join(parts)
    for length in (1, 2, 3)
    for parts in product(["a", "b", "me", "7", "7.5", "pre-a", ""][: 9 - 2 * length], repeat=length)
]


def _unique(parts: list[str]) -> list[str]:
    return [part.replace("{", f"{{p{place}") for place, part in enumerate(parts)]


def _router(routes: list[tuple[str, str]]) -> APIRouter:
    router = APIRouter()
    for place, (method, path) in enumerate(routes):
        router.add_api_route(path, lambda: None, methods=[method], name=str(place))
    return router


def _chosen(router: APIRouter, method: str, path: str) -> str | None:
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    for route in router.routes:
        if route.matches(scope)[0] is Match.FULL:
            return route.name  # type: ignore[attr-defined, no-any-return]
    return None


def _matcher(routes: list[tuple[str, str, str]]) -> matching.Matcher[str]:
    return matching.Matcher(matching.faithful(matching.compiled([method], path, name) for name, method, path in routes))


@settings(deadline=None)
@given(ROUTES)
def test_a_matcher_chooses_what_a_router_sorted_alike_runs(routes: list[tuple[str, str]]) -> None:
    router = _router(routes)
    router.routes[:] = matching.in_order(router.routes, lambda route: getattr(route, "path", None))
    matcher = _matcher([(route.name, next(iter(route.methods)), route.path) for route in router.routes])  # type: ignore[attr-defined]
    for method, path in product(("GET", "POST"), PATHS):
        assert matcher.find(method, path) == _chosen(router, method, path), (method, path)


@settings(deadline=None)
@given(ROUTES)
def test_a_matcher_is_faithful_to_any_order_of_one_module(routes: list[tuple[str, str]]) -> None:
    matcher = _matcher([(str(place), *route) for place, route in enumerate(routes)])
    router = _router(routes)
    for method, path in product(("GET", "POST"), PATHS):
        assert matcher.find(method, path) == _chosen(router, method, path), (method, path)


def test_a_literal_path_wins_over_a_template_of_another_module() -> None:
    matcher = matching.Matcher(
        [matching.compiled(["GET"], "/users/{id}", "template"), matching.compiled(["GET"], "/users/me", "literal")]
    )
    assert matcher.find("GET", "/users/me") == "literal"
    assert matcher.find("GET", "/users/7") == "template"


def test_a_more_literal_template_wins_over_a_less_literal_one() -> None:
    paths = ["/{rest:path}", "/{a}/{b}", "/{a:int}/{b}", "/x-{a}/{b}", "/users/{b}"]
    matcher = matching.Matcher([matching.compiled(["GET"], path, path) for path in paths])
    found = [matcher.find("GET", path) for path in ("/a/b/c", "/a/b", "/7/b", "/x-1/b", "/users/b")]
    assert found == paths


def test_another_method_on_a_literal_path_falls_to_a_template_as_in_starlette() -> None:
    matcher = matching.Matcher(
        [matching.compiled(["GET"], "/users/me", "literal"), matching.compiled(["PUT"], "/users/{id}", "template")]
    )
    assert matcher.find("PUT", "/users/me") == "template"
    assert matcher.find("DELETE", "/users/me") is None
    assert matcher.allowed("/users/me") == ["GET", "PUT"]
    assert matcher.allowed("/nowhere") == []


def test_a_mount_answers_every_method_and_websockets() -> None:
    matcher = matching.Matcher([matching.compiled(["*"], "/files/{path:path}", "mount")])
    assert {matcher.find(method, "/files/a/b") for method in ("GET", "PROPFIND", "WEBSOCKET")} == {"mount"}
    assert matcher.find("GET", "/files") is None


def test_a_websocket_is_not_an_allowed_method() -> None:
    matcher = matching.Matcher([matching.compiled(["WEBSOCKET"], "/live", "socket")])
    assert matcher.find("WEBSOCKET", "/live") == "socket"
    assert matcher.find("GET", "/live") is None
    assert matcher.allowed("/live") == []


def test_an_unknown_converter_is_an_error_that_names_the_path() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        matching.compiled(["GET"], "/a/{x:nonsense}", "t")
