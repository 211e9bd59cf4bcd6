"""Which route of a namespace a request means: literal paths by dictionary, templates by compiled pattern.

Templates are Starlette's, converters included.  Order: a literal path wins over a template, and of two templates the
more specific one (`schemas.paths.precedence`), whichever module came first; so every worker answers alike, and the
control plane can tell who answers what.  A module's own router is sorted by it too, so that the route whose policy was
checked is the route that runs.  Pure; built for each changed namespace by `dataplane.gateway.snapshots`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from starlette.routing import compile_path

from schemas.paths import ANY_METHOD, PARAMETER, WEBSOCKET, Rank, path_shape, precedence

T = TypeVar("T")

_BEHIND: Final = (9, 0, 0, "")
"""Makes a rank that comes directly behind another one."""


@dataclass(frozen=True, slots=True)
class Compiled(Generic[T]):
    """One route, ready to be put into a matcher; ``pattern`` None: a literal path."""

    path: str
    methods: tuple[str, ...]
    pattern: Callable[[str], object] | None
    rank: Rank
    target: T


class Matcher(Generic[T]):
    """The routes of one namespace; never changed after it is made."""

    __slots__ = ("_literal", "_templates")

    def __init__(self, routes: Iterable[Compiled[T]]) -> None:
        """Of routes that answer the same method and path shape, the later one in ``routes`` counts."""
        literal: dict[str, dict[str, T]] = {}
        templates: dict[tuple[Rank, str], tuple[Callable[[str], object], dict[str, T]]] = {}
        for route in routes:
            if route.pattern is None:
                methods = literal.setdefault(route.path, {})
            else:
                _, methods = templates.setdefault((route.rank, path_shape(route.path)), (route.pattern, {}))
            methods.update(dict.fromkeys(route.methods, route.target))
        self._literal = literal
        self._templates = tuple(templates[key] for key in sorted(templates))

    def find(self, method: str, path: str) -> T | None:
        """What answers ``method`` (or `WEBSOCKET`) on ``path``, which begins with a slash."""
        methods = self._literal.get(path)
        if methods is not None and (found := methods.get(method) or methods.get(ANY_METHOD)) is not None:
            return found
        for pattern, methods in self._templates:
            if pattern(path) and (found := methods.get(method) or methods.get(ANY_METHOD)) is not None:
                return found
        return None

    def allowed(self, path: str) -> list[str]:
        """The methods that some route answers on ``path``, sorted; empty: there is no such path."""
        methods = set(self._literal.get(path, ()))
        for pattern, more in self._templates:
            if pattern(path):
                methods.update(more)
        return sorted(methods - {WEBSOCKET})


def compiled(methods: Iterable[str], path: str, target: T) -> Compiled[T]:
    """A route made ready; ValueError for a template that Starlette cannot compile."""
    upper = tuple(dict.fromkeys(method.upper() for method in methods))
    if PARAMETER.search(path) is None:
        return Compiled(path, upper, None, (), target)
    try:
        pattern, _, _ = compile_path(path)
    except AssertionError as error:
        raise ValueError(f"{path}: {error}") from error
    return Compiled(path, upper, pattern.match, precedence(path), target)


def faithful(routes: Iterable[Compiled[T]]) -> list[Compiled[T]]:
    """The routes of one module such that a matcher picks what a router that tries them in this order picks.

    What an earlier route hides wholly is left out; a template that comes after a less specific one stays behind it.
    """
    kept: list[Compiled[T]] = []
    literal: dict[str, list[Compiled[T]]] = {}
    templates: list[tuple[str, Callable[[str], object], Compiled[T]]] = []
    latest: Rank = ()
    for route in routes:
        if route.pattern is None:
            hiding = [*literal.get(route.path, ()), *(other for _, matches, other in templates if matches(route.path))]
        else:
            hiding = [other for shape, _, other in templates if shape == path_shape(route.path)]
        methods = tuple(method for method in route.methods if not any(_answers(other, method) for other in hiding))
        if not methods:
            continue
        rank = route.rank
        if route.pattern is not None:
            rank = latest = rank if rank >= latest else (*latest, _BEHIND)
        same = len(methods) == len(route.methods) and rank is route.rank
        stays = route if same else replace(route, methods=methods, rank=rank)
        kept.append(stays)
        if stays.pattern is None:
            literal.setdefault(stays.path, []).append(stays)
        else:
            templates.append((path_shape(stays.path), stays.pattern, stays))
    return kept


def _answers(route: Compiled[T], method: str) -> bool:
    return method in route.methods or ANY_METHOD in route.methods


def in_order(items: Iterable[T], path_of: Callable[[T], str | None]) -> list[T]:
    """``items`` sorted as a matcher tries them; those without a path stay behind the others, in their order."""

    def rank(item: T) -> tuple[bool, Rank]:
        path = path_of(item)
        return (path is None, () if path is None else precedence(path))

    return sorted(items, key=rank)
