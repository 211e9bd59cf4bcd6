"""Secrets by reference: a configuration says ``secret://name`` where a module is to get a secret's value.

Pure.  The reference is what every object, document, file and answer holds; a worker puts the value in its place while
it builds the module, and nobody else does.  Used by admission (is it well written?) and by the workers.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from schemas import names

SCHEME: Final = "secret://"
ENVIRONMENT: Final = "MODPLANE_SECRET_"
"""Begins the environment variables that hold secrets."""

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indexes on the way to a value."""


def name_of(text: str) -> str | None:
    """The secret that a text refers to; None: it is no reference (the whole text has to be one)."""
    name = text.removeprefix(SCHEME)
    return name if text.startswith(SCHEME) and names.is_dns_label(name) else None


def variable(name: str) -> str:
    """The environment variable of a secret: ``api-key`` is ``MODPLANE_SECRET_API_KEY``."""
    return ENVIRONMENT + name.upper().replace("-", "_")


def texts(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every text in a value, keys left out, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*place, index))


def mentioned(value: Any) -> set[str]:
    """The names of the secrets that a value refers to."""
    return {name for _, text in texts(value) if (name := name_of(text)) is not None}


def replaced(value: Any, lookup: Callable[[str], str]) -> Any:
    """A copy of a value with what ``lookup`` knows by name in place of each reference."""
    if isinstance(value, str):
        name = name_of(value)
        return value if name is None else lookup(name)
    if isinstance(value, dict):
        return {key: replaced(item, lookup) for key, item in value.items()}
    return [replaced(item, lookup) for item in value] if isinstance(value, list) else value
