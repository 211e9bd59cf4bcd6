"""Path templates as claims and matchers see them: what is one route, and which of two routes answers first.

Pure.  Templates are Starlette's: ``/users/{id}``, ``/files/{rest:path}``, ``/items/{n:int}``.  The worker sorts a
namespace's routes by `precedence`, the control plane tells by it who answers what: one order for both planes.
"""

import functools
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

PARAMETER: Final = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?\}")
"""A parameter in a template: its name and its converter (None: ``str``)."""

WEBSOCKET: Final = "WEBSOCKET"
"""Stands in a claim where an HTTP route has its method."""

ANY_METHOD: Final = "*"
"""Stands in the claim of a mounted application, which answers every method and WebSockets."""

Rank: TypeAlias = tuple[tuple[int, int, int, str], ...]
"""Sorts templates; the lesser one answers first."""

_LITERAL, _MIXED, _TYPED, _TEXT, _REST, _END = range(6)
_NARROW: Final = {"uuid": 0, "int": 1, "float": 2}
"""Of the typed converters: what one catches of another's requests is the smaller part of its own."""


@functools.lru_cache(maxsize=4096)
def path_shape(template: str) -> str:
    """The template with each parameter's name struck out; the converter stays unless it is the default ``str``.

    ``/users/{id}`` and ``/users/{name}`` are both ``/users/{}``; ``/items/{n:int}`` is ``/items/{:int}``.  A brace
    that begins no parameter is a character as any other, and written twice.
    """
    parts, end = [], 0
    for found in PARAMETER.finditer(template):
        converter = found.group(2)
        parts += [_plain(template[end : found.start()]), "{}" if converter in (None, "str") else f"{{:{converter}}}"]
        end = found.end()
    return "".join((*parts, _plain(template[end:]))) if end or "{" in template or "}" in template else template


def claims_of(methods: Iterable[str], template: str) -> list[tuple[str, str]]:
    """What a route claims inside its (version, namespace): (method, path shape) pairs, sorted."""
    shape = path_shape(template)
    return sorted([(method.upper(), shape) for method in set(methods)])


def excludes(held: str, wanted: str) -> bool:
    """Whether one module's claim of a method on a path shape leaves no room for another module's claim there."""
    return held == wanted or ANY_METHOD in (held, wanted)


def stem(template: str) -> str:
    """What every path of a template begins with, in whole segments: up to the slash before the first parameter.

    A path without parameters is its own stem.  Two routes can only meet if one's stem begins with the other's.
    """
    found = PARAMETER.search(template)
    return template if found is None else template[: template.rfind("/", 0, found.start()) + 1]


def after(stem_: str) -> str:
    """What comes directly after everything that begins with a stem; of a literal path: after that path alone."""
    return stem_[:-1] + "0" if stem_.endswith("/") else stem_ + "\0"


def precedence(template: str) -> Rank:
    """What sorts routes: less comes first.  A literal path is the empty tuple, before every template.

    The first differing segment decides: literal, then text around parameters (the more text, the earlier), then a
    typed parameter, then ``str``, then ``path``; a template that ends comes behind one that goes on.  Two templates
    of one rank have one shape, so the order is the same wherever it is asked for.
    """
    if PARAMETER.search(template) is None:
        return ()
    return (*(_segment(segment) for segment in template.split("/")[1:]), (_END, 0, 0, ""))


def _segment(segment: str) -> tuple[int, int, int, str]:
    found = list(PARAMETER.finditer(segment))
    if not found:
        return (_LITERAL, 0, 0, segment)
    text = len(segment) - sum(len(each.group()) for each in found)
    converters = [each.group(2) or "str" for each in found]
    if "path" in converters:
        return (_REST, -text, 0, path_shape(segment))
    if text or len(found) > 1:
        return (_MIXED, -text, 0, path_shape(segment))
    if converters == ["str"]:
        return (_TEXT, 0, 0, "")
    return (_TYPED, 0, _NARROW.get(converters[0], len(_NARROW)), converters[0])


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
