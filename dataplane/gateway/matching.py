"""Which route of a namespace a request means: literal paths by dictionary, templates by compiled pattern.

Templates are Starlette's, converters included.  Order: a literal path wins over a template, and of two templates the
one that is literal (then typed, then ``str``, then ``path``) at the first differing segment; the order of registration
decides the rest.  `precedence` is that order; a module's own router is sorted by it too, so that the route whose
policy was checked is the route that runs.  Pure; built for each changed namespace by `dataplane.gateway.snapshots`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from starlette.routing import compile_path

from schemas.paths import ANY_METHOD, WEBSOCKET, path_shape

T = TypeVar("T")

_PARAMETER: Final = re.compile(r"\{[a-zA-Z_][a-zA-Z0-9_]*(?::([a-zA-Z_][a-zA-Z0-9_]*))?\}")
_LITERAL, _MIXED, _TYPED, _TEXT, _REST = range(5)


@dataclass(frozen=True, slots=True)
class Compiled(Generic[T]):
    """One route, ready to be put into a matcher; ``pattern`` None: a literal path."""

    path: str
    methods: tuple[str, ...]
    pattern: Callable[[str], object] | None
    rank: tuple[int, ...]
    target: T


class Matcher(Generic[T]):
    """The routes of one namespace; never changed after it is made."""

    __slots__ = ("_literal", "_templates")

    def __init__(self, routes: Iterable[Compiled[T]]) -> None:
        """Of routes that answer the same method and path shape, the later one in ``routes`` counts."""
        literal: dict[str, dict[str, T]] = {}
        templates: dict[tuple[tuple[int, ...], str], tuple[Callable[[str], object], dict[str, T]]] = {}
        for route in routes:
            if route.pattern is None:
                methods = literal.setdefault(route.path, {})
            else:
                _, methods = templates.setdefault((route.rank, path_shape(route.path)), (route.pattern, {}))
            methods.update(dict.fromkeys(route.methods, route.target))
        self._literal = literal
        self._templates = tuple(templates[key] for key in sorted(templates, key=lambda key: key[0]))

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
    if "{" not in path:
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
    latest: tuple[int, ...] = ()
    for route in routes:
        hiding = [earlier for earlier in kept if _covers(earlier, route)]
        methods = tuple(method for method in route.methods if not any(_answers(other, method) for other in hiding))
        if methods:
            latest = max(latest, route.rank) if route.pattern is not None else latest
            kept.append(replace(route, methods=methods, rank=latest if route.pattern is not None else ()))
    return kept


def _covers(earlier: Compiled[T], later: Compiled[T]) -> bool:
    if later.pattern is None:
        return earlier.path == later.path if earlier.pattern is None else bool(earlier.pattern(later.path))
    return earlier.pattern is not None and path_shape(earlier.path) == path_shape(later.path)


def _answers(route: Compiled[T], method: str) -> bool:
    return method in route.methods or ANY_METHOD in route.methods


def precedence(path: str) -> tuple[int, ...]:
    """What sorts routes: less comes first.  A literal path is the empty tuple, before every template."""
    if "{" not in path:
        return ()
    return tuple(_kind(segment) for segment in path.split("/")[1:])


def _kind(segment: str) -> int:
    found = _PARAMETER.search(segment)
    if found is None:
        return _LITERAL
    converter = found.group(1) or "str"
    if converter == "path":
        return _REST
    if found.group(0) != segment:
        return _MIXED
    return _TEXT if converter == "str" else _TYPED


def in_order(items: Iterable[T], path_of: Callable[[T], str | None]) -> list[T]:
    """``items`` sorted as a matcher tries them; those without a path stay behind the others, in their order."""

    def rank(item: T) -> tuple[bool, tuple[int, ...]]:
        path = path_of(item)
        return (path is None, () if path is None else precedence(path))

    return sorted(items, key=rank)
