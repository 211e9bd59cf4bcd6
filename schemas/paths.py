"""Path templates as claims see them: two templates of one shape catch the same requests.

Pure.  Templates are Starlette's: ``/users/{id}``, ``/files/{rest:path}``, ``/items/{n:int}``.
"""

import re
from collections.abc import Iterable
from typing import Final

_PARAMETER: Final = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?\}")

WEBSOCKET: Final = "WEBSOCKET"
"""Stands in a claim where an HTTP route has its method."""

ANY_METHOD: Final = "*"
"""Stands in the claim of a mounted application, which answers every method."""


def path_shape(template: str) -> str:
    """The template with each parameter's name struck out; the converter stays unless it is the default ``str``.

    ``/users/{id}`` and ``/users/{name}`` are both ``/users/{}``; ``/items/{n:int}`` is ``/items/{:int}``.
    """

    def struck(match: re.Match[str]) -> str:
        converter = match.group(2)
        return "{}" if converter in (None, "str") else f"{{:{converter}}}"

    return _PARAMETER.sub(struck, template)


def claims_of(methods: Iterable[str], template: str) -> list[tuple[str, str]]:
    """What a route claims inside its (version, namespace): (method, path shape) pairs, sorted."""
    shape = path_shape(template)
    return sorted((method.upper(), shape) for method in set(methods))
