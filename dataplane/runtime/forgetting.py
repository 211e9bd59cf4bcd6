"""What Python and the frameworks remember of a module's code: told in time, and forgotten when the code is gone.

Found by unloading 400 modules and asking who refers to their classes: FastAPI classifies callables in caches of 4,096
entries each, `typing` keeps the last 128 subscriptions of each kind, and FastAPI's notes of where an endpoint stands
go by ``id()``, which the next function at that address would inherit.  By name go loggers, overloads and source lines.

Called by `dataplane.runtime.building` when an instance is made, is unloaded, and when its code is; any
thread.  All that is forgotten is found again when somebody asks: clearing costs microseconds, never an answer.
"""

import functools
import inspect
import linecache
import logging
import sys
import typing
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final

from fastapi import routing

from dataplane.runtime.importing import Code

_KEEPERS: Final = ("fastapi", "starlette", "pydantic")


def remember_calls(endpoints: Iterable[object]) -> None:
    """Tell FastAPI where the endpoints stand; else each first request reads and parses the source."""
    _clearers()  # looks through every module once, which the first unloading is not to do on the serving loop
    places: dict[int, Any] = getattr(routing, "_endpoint_context_cache", {})
    for endpoint in endpoints:
        if inspect.isfunction(endpoint) and not hasattr(endpoint, "__wrapped__"):
            code = endpoint.__code__
            place = {"file": code.co_filename, "line": code.co_firstlineno, "function": endpoint.__name__}
            places[id(endpoint)] = place


def forget_calls(endpoints: Iterable[object]) -> None:
    """Empty the frameworks' caches of functions and types, and drop what is known by the endpoints' addresses."""
    places: dict[int, Any] = getattr(routing, "_endpoint_context_cache", {})
    for endpoint in endpoints:
        places.pop(id(endpoint), None)
    for clear in _clearers():
        clear()


def forget_code(code: Code) -> None:
    """Drop what is kept under the names and below the folder of ``code``."""
    top = code.mangled
    inner = f"{top}."

    def named(key: str) -> bool:
        return key == top or key.startswith(inner)

    below = f"{code.folder}/"
    _drop(linecache.cache, lambda key: key.startswith(below))
    _drop(sys.path_importer_cache, lambda key: f"{key}/".startswith(below))
    _drop(getattr(typing, "_overload_registry", {}), named)
    _forget_loggers(named)


@functools.cache
def _clearers() -> tuple[Callable[[], object], ...]:
    caches = [
        value.cache_clear
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in _KEEPERS
        for value in list(vars(module).values())
        if isinstance(value, functools._lru_cache_wrapper)  # noqa: SLF001 - its only name
    ]
    return (*caches, *getattr(typing, "_cleanups", ()))


def _drop(kept: MutableMapping[str, Any], gone: Callable[[str], bool]) -> None:
    for key in [key for key in list(kept) if gone(key)]:
        kept.pop(key, None)


def _forget_loggers(gone: Callable[[str], bool]) -> None:
    """Of the author's ``logging.getLogger(__name__)``; a parent that is a place-holder keeps its children too."""
    known = logging.Logger.manager.loggerDict
    dropped = {id(logger): name for name, logger in list(known.items()) if gone(name)}
    if not dropped:
        return
    for logger in list(known.values()):
        if isinstance(logger, logging.PlaceHolder):
            for child in [child for child in list(logger.loggerMap) if id(child) in dropped]:
                logger.loggerMap.pop(child, None)
    _drop(known, gone)
