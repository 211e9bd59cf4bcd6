"""Shadowed routes: what a module's route would answer alone, and another module's route answers instead.

Routes that differ are never refused, even where they catch requests in common: the more specific one answers
(`schemas.paths.precedence`), such as ``/users/me`` beside ``/users/{id}``.  Here it is told who loses which requests to
whom.  HEAD and OPTIONS count too where a module leaves them open: then another module speaks for its path.
What always holds: the answer is that of the worker's matcher for any two modules; of three, one that is told here may
be the second to lose a request that the third one takes.

Pure, over claims of one namespace, whose cost depends on those that have a stem in common.  Called by
`controlplane.reconcile.contending` for one module's neighbours and by the management API for a whole namespace.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

from controlplane.admission import overlapping
from controlplane.admission.conflicts import Held
from schemas import paths

PAIRS: Final = 50_000
"""How many pairs of a namespace's routes are compared for one answer."""


@dataclass(slots=True)
class Route:
    """Every method that one module holds on one path shape."""

    uid: str
    module: str
    path: str
    shape: str
    revision: int
    """Of the last of them."""
    at: datetime
    """When that was taken."""
    methods: set[str] = field(default_factory=set)

    @property
    def stem(self) -> str:
        """What its paths begin with."""
        return paths.stem(self.path)

    def answers(self, method: str) -> bool:
        """Whether requests of a method are answered."""
        return method in self.methods or paths.ANY_METHOD in self.methods


@dataclass(frozen=True, slots=True)
class Shadow:
    """Requests that one module's route loses to another's."""

    methods: tuple[str, ...]
    """Of the requests, sorted; ``*``: every method."""
    route: Route
    by: Route
    left_open: bool
    """Whether the module leaves these methods open, so that the other one speaks for its path; else its route would
    answer them, and the other's is more specific."""
    whole: bool
    """Whether no request of these methods is left."""
    example: str
    """A path below the namespace that is answered by the other; empty: not found in time."""

    @property
    def revision(self) -> int:
        """Of the younger of the two."""
        return max(self.route.revision, self.by.revision)

    @property
    def since(self) -> datetime:
        """Since when it is so."""
        return max(self.route.at, self.by.at)


def routes_of(claims: Iterable[Held]) -> list[Route]:
    """Claims by module and shape, the oldest first."""
    found: dict[tuple[str, str], Route] = {}
    for claim in claims:
        new = Route(claim.uid, claim.module, claim.path, claim.shape, claim.revision, claim.at)
        route = found.setdefault((claim.uid, claim.shape), new)
        route.methods.add(claim.method)
        route.revision, route.at = max((route.revision, route.at), (claim.revision, claim.at))
    return sorted(found.values(), key=lambda route: (route.revision, route.module, route.shape))


def between(mine: Iterable[Route], others: Iterable[Route]) -> list[Shadow]:
    """Every shadow between routes of ``mine`` and of ``others`` (of other modules), in both directions, by age."""
    listed = list(others)
    found = (shadow for route in mine for other in listed if route.uid != other.uid for shadow in _both(route, other))
    return sorted(found, key=_age)


def among(routes: Iterable[Route], pairs: int = PAIRS) -> tuple[list[Shadow], bool]:
    """The shadows in a namespace, by age, and whether these are all: ``pairs`` of routes are compared at most."""
    near = _near(routes)
    found = sorted((shadow for one, other in islice(near, pairs) for shadow in _both(one, other)), key=_age)
    return found, next(near, None) is None


def _age(shadow: Shadow) -> tuple[int, str, str, str, str, bool]:
    route, by = shadow.route, shadow.by
    return (shadow.revision, route.module, route.shape, by.module, by.shape, shadow.left_open)


def _near(routes: Iterable[Route]) -> Iterator[tuple[Route, Route]]:
    """Each pair of routes of two modules that may meet: one of the stems begins with the other."""
    ordered = sorted(routes, key=lambda route: (route.stem, route.shape))
    stems = [route.stem for route in ordered]
    for at, route in enumerate(ordered):
        end = bisect_left(stems, paths.after(stems[at]), at)
        for other in ordered[at + 1 : end]:
            if other.uid != route.uid:
                yield route, other


def _both(one: Route, other: Route) -> Iterator[Shadow]:
    """What each of two routes loses to the other."""
    if paths.after(one.stem) <= other.stem or paths.after(other.stem) <= one.stem:
        return
    ahead = paths.precedence(one.path) < paths.precedence(other.path)
    for route, by, behind in ((other, one, ahead), (one, other, not ahead)):
        lost = _taken(route, by) if behind and one.shape != other.shape else set()
        for methods, left_open in ((lost, False), (_left_open(route, by), True)):
            if methods and (met := overlapping.meet(route.path, by.path)) is not None:
                yield Shadow(tuple(sorted(methods)), route, by, left_open, met.whole, met.example)


def _taken(route: Route, by: Route) -> set[str]:
    """The methods of ``route`` that ``by`` answers before it."""
    if paths.ANY_METHOD in by.methods:
        return set(route.methods)
    return set(by.methods) if paths.ANY_METHOD in route.methods else route.methods & by.methods


def _left_open(route: Route, by: Route) -> set[str]:
    """HEAD and OPTIONS of ``route``'s paths, where the module leaves them open and ``by`` answers them (RFC 9110)."""
    asked = {"OPTIONS"} if route.methods - {paths.WEBSOCKET} else set()
    if "GET" in route.methods:
        asked.add("HEAD")
    return {method for method in asked if by.answers(method) and not route.answers(method)}
