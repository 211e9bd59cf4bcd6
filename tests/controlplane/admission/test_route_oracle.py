"""Conflicts, shadows and the worker's matcher against an oracle that really tries requests.

The oracle is slow and knows nothing of ours: Starlette's own routes, tried one after another, sorted by a comparison
of two templates that is written down here a second time; and a great many concrete paths.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute, compile_path
from starlette.types import Receive, Scope, Send

from controlplane.admission import shadowing
from controlplane.admission.conflicts import RouteConflictDetector, WantedRoute
from controlplane.store.records import Claim
from dataplane.gateway import matching
from dataplane.gateway import paths as gateway_paths
from schemas import paths

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UUID = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
VALUES = {
    "str": ["a", "7", "aXb", "7.5", UUID],
    "int": ["7"],
    "float": ["7.5", "7"],
    "uuid": [UUID, "7" * 32],
    "path": ["", "a", "7/a", "b/"],
}
METHODS = ["GET", "HEAD", "OPTIONS", "POST"]
ASKED = [*METHODS, "WEBSOCKET"]


@dataclass(frozen=True)
class Offered:
    """A route of a module; a mount has the method ``*``."""

    module: str
    methods: tuple[str, ...]
    path: str


# --- what is generated

SEGMENTS = st.sampled_from(["a", "b", "7", "{s}", "{n:int}", "{f:float}", "{u:uuid}", "{p:path}", "a{s}", "{s}b"])


def numbered(parts: Sequence[str]) -> str:
    return "/" + "/".join(part.replace("{", f"{{q{at}") for at, part in enumerate(parts))


TAILS = st.sampled_from(["", "", "", "/"])
TEMPLATES = st.builds(lambda parts, tail: numbered(parts) + tail, st.lists(SEGMENTS, min_size=1, max_size=3), TAILS)
SUBSETS = st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True).map(lambda each: tuple(sorted(each)))


def kinds(templates: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, ...], str]]:
    """Methods and path of a route: mostly plain ones, also WebSockets and mounts."""
    return st.one_of(
        st.tuples(SUBSETS, templates),
        st.tuples(SUBSETS, templates),
        st.tuples(st.just(("WEBSOCKET",)), templates),
        st.tuples(st.just(("*",)), templates.map(lambda path: path.rstrip("/") + "/{path:path}")),
    )


@st.composite
def related(draw: st.DrawFn, most: int, modules: Sequence[str] = ("one", "two", "three")) -> list[Offered]:
    """Routes of a few segments between them, so that they meet."""
    pool = draw(st.lists(SEGMENTS, min_size=2, max_size=3, unique=True))
    parts = st.lists(st.sampled_from(pool), min_size=1, max_size=2)
    templates = st.builds(lambda parts, tail: numbered(parts) + tail, parts, TAILS)
    module = st.sampled_from(modules)
    made = st.builds(lambda module, kind: Offered(module, *kind), module, kinds(templates))
    return draw(st.lists(made, min_size=2, max_size=most))


def accepted(routes: Sequence[Offered]) -> tuple[list[Offered], list[Claim]]:
    """Those that get their claims when they come in this order, as the store would give them."""
    kept: list[Offered] = []
    claims: list[Claim] = []
    for revision, route in enumerate(routes, 1):
        detector = RouteConflictDetector(claims)
        wanted = WantedRoute(route.methods, route.path)
        own = [WantedRoute(each.methods, each.path) for each in kept if each.module == route.module]
        if any(
            each.path == route.path for each in detector.find(route.module, route.module, "v1", "n", [*own, wanted])
        ):
            continue
        kept.append(route)
        claims += [
            Claim("v1", "n", method, shape, path, route.module, route.module, revision, NOW)
            for method, shape, path in wanted.claims()
        ]
    return kept, claims


# --- the oracle


def canonical(template: str) -> str:
    """The template's pattern as Starlette compiles it, parameters renamed by position."""
    count = itertools.count()
    renamed = re.sub(r"{\w+(:\w+)?}", lambda found: f"{{x{next(count)}{found.group(1) or ''}}}", template)
    return compile_path(renamed)[0].pattern


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where a mounted application would."""


def of_starlette(route: Offered) -> BaseRoute:
    if route.methods == ("*",):
        return Mount(route.path.removesuffix("/{path:path}"), app=nothing)
    if route.methods == ("WEBSOCKET",):
        return WebSocketRoute(route.path, lambda: None)
    made = Route(route.path, lambda: None, methods=list(route.methods))
    made.methods = set(route.methods)  # Starlette adds HEAD to GET, FastAPI does not
    return made


ORDER = ["uuid", "int", "float", "str"]


def compared(one: str, other: str) -> int:
    """Below zero: ``one`` is tried before ``other``.  The rules of docs/reference/fastapi.md, in plain words."""
    if ("{" in one) != ("{" in other):
        return 1 if "{" in one else -1
    if "{" not in one:
        return 0
    for mine, theirs in itertools.zip_longest(one.split("/")[1:], other.split("/")[1:]):
        if mine is None or theirs is None:
            return 1 if mine is None else -1
        if canonical(mine) != canonical(theirs) and sort_of(mine) != sort_of(theirs):
            return -1 if sort_of(mine) < sort_of(theirs) else 1
    return 0


def sort_of(segment: str) -> tuple[int, int, int, str]:
    converters = [found or "str" for found in re.findall(r"{\w+:?(\w*)}", segment)]
    text = re.sub(r"{.*?}", "", segment)
    if not converters:
        return (0, 0, 0, segment)
    if "path" in converters:
        return (4, -len(text), 0, text)
    if text or len(converters) > 1:
        return (1, -len(text), 0, re.sub(r"{\w+", "{", segment))
    return (3 if converters == ["str"] else 2, 0, ORDER.index(converters[0]), "")


def by_path(one: Offered, other: Offered) -> int:
    return compared(one.path, other.path)


class Oracle:
    """Routes, tried one after another."""

    def __init__(self, routes: Sequence[Offered]) -> None:
        ordered = sorted(routes, key=functools.cmp_to_key(by_path))
        self._tried = [(route, of_starlette(route)) for route in ordered]

    def answers(self, method: str, path: str) -> Offered | None:
        return self._first(method, path, Match.FULL)

    def knows(self, path: str) -> bool:
        """Whether some HTTP route has this path, for whatever method."""
        return any(self._match(each, "GET", path) is not Match.NONE for _, each in self._tried)

    def _first(self, method: str, path: str, wanted: Match) -> Offered | None:
        return next((route for route, each in self._tried if self._match(each, method, path) is wanted), None)

    @staticmethod
    def _match(route: BaseRoute, method: str, path: str) -> Match:
        kind = "websocket" if method == "WEBSOCKET" else "http"
        scope: dict[str, Any] = {"type": kind, "method": method, "path": path, "root_path": "", "headers": []}
        return route.matches(scope)[0]


def requests(routes: Sequence[Offered]) -> list[str]:
    """Concrete paths of these templates, and of what lies between them."""
    found = {"/", "/a", "/a/b", "/a/7/b"}
    for route in routes:
        parts = re.split(r"{\w+:?(\w*)}", route.path)
        choices = [[part] if at % 2 == 0 else VALUES[part or "str"] for at, part in enumerate(parts)]
        found.update("".join(each) for each in itertools.islice(itertools.product(*choices), 40))
    return sorted(path for path in found if gateway_paths.refusal(path.encode()) is None)


def matcher(routes: Sequence[Offered], modules: Sequence[str]) -> matching.Matcher[Offered]:
    """What a worker builds that loaded these modules in this order."""
    compiled: list[matching.Compiled[Offered]] = []
    for module in modules:
        own = matching.in_order([route for route in routes if route.module == module], lambda route: route.path)
        compiled += matching.faithful(matching.compiled(route.methods, route.path, route) for route in own)
    return matching.Matcher(compiled)


# --- what has to agree


@settings(deadline=None)
@given(TEMPLATES, TEMPLATES)
def test_one_shape_is_one_pattern_of_starlette(one: str, other: str) -> None:
    assert (paths.path_shape(one) == paths.path_shape(other)) is (canonical(one) == canonical(other))


@settings(deadline=None)
@given(related(2))
def test_two_modules_conflict_exactly_on_a_common_pattern_and_method(routes: list[Offered]) -> None:
    one, other = replace(routes[0], module="one"), replace(routes[1], module="two")
    kept, _ = accepted([one, other])
    common = set(one.methods) & set(other.methods) or "*" in (*one.methods, *other.methods)
    assert (len(kept) == 1) is (canonical(one.path) == canonical(other.path) and bool(common))


@settings(deadline=None)
@given(related(6), st.permutations(["one", "two", "three"]))
def test_a_worker_answers_as_the_oracle_whatever_it_loaded_first(routes: list[Offered], order: list[str]) -> None:
    kept, _ = accepted(routes)
    built, oracle = matcher(kept, order), Oracle(kept)
    for path in requests(kept):
        for method in ASKED:
            assert built.find(method, path) == oracle.answers(method, path), (method, path)


@settings(deadline=None)
@given(related(6))
def test_whatever_a_module_loses_to_another_is_told(routes: list[Offered]) -> None:
    kept, claims = accepted(routes)
    shadows, complete = shadowing.among(shadowing.routes_of(claims))
    assert complete
    told = {
        (each.route.module, each.route.shape, each.by.module, each.by.shape, m)
        for each in shadows
        for m in each.methods
    }
    open_to = {(each.route.module, each.by.module, m) for each in shadows if each.left_open for m in each.methods}
    together = Oracle(kept)
    for module in ("one", "two", "three"):
        alone = Oracle([route for route in kept if route.module == module])
        for path, method in itertools.product(requests(kept), ASKED):
            mine, got = alone.answers(method, path), together.answers(method, path)
            if got is None or got.module == module:
                continue
            if mine is not None:
                key = (module, paths.path_shape(mine.path), got.module, paths.path_shape(got.path))
                assert {(*key, method), (*key, "*")} & told, (method, path)
            elif method in ("HEAD", "OPTIONS") and method_matters(alone, method, path):
                assert (module, got.module, method) in open_to, (method, path)


def method_matters(alone: Oracle, method: str, path: str) -> bool:
    """Whether a module that does not answer a method has the path all the same."""
    return alone.answers("GET", path) is not None if method == "HEAD" else alone.knows(path)


@settings(deadline=None)
@given(related(2))
def test_whatever_is_told_is_lost(routes: list[Offered]) -> None:
    kept, claims = accepted(routes)
    together = Oracle(kept)
    for shadow in shadowing.among(shadowing.routes_of(claims))[0]:
        asked = ASKED if shadow.methods == ("*",) else shadow.methods
        assert gateway_paths.refusal(shadow.example.encode()) is None
        for method in asked:
            got = together.answers(method, shadow.example)
            assert got is not None
            assert got.module == shadow.by.module, (method, shadow.example)
        alone = Oracle([route for route in kept if route.module == shadow.route.module])
        if shadow.left_open:
            assert all(alone.answers(method, shadow.example) is None for method in asked)
            assert alone.knows(shadow.example)
        else:
            assert all(alone.answers(method, shadow.example) is not None for method in asked)
        if shadow.whole:
            lost = [path for path in requests(kept) if re.match(canonical(shadow.route.path), path)]
            answers = {together.answers(method, path) for path in lost for method in asked}
            assert all(answer is not None and answer.module == shadow.by.module for answer in answers)
