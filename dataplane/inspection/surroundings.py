"""What code finds around it in a process, and whether it left that as it was.

Two sorts of things.  What all modules of a worker run on (`Host`: functions and classes of Python, FastAPI and our own,
and of `State` what `State.harm` names): code that exchanges it would hurt the others, so it is refused.  What only the
next inspection in the same process would find (the rest of `State`): the process is not used again.

The host's part is taken once, before any code of an author runs, and is looked through after each inspection in half
a millisecond; it finds mistakes and monkeypatches, not somebody who hides (that would need an interpreter of its own).
Used by `dataplane.inspection.children`.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows the public module only
import _thread
import builtins
import itertools
import os
import resource
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from operator import is_, itemgetter
from typing import Any, Final, TypeAlias

_WHOLE: Final = frozenset(
    {"builtins", "json", "os", "os.path", "sys", "time", "threading", "signal", "socket", "ssl", "hmac", "hashlib"}
)
"""Modules of which every function and class counts, wherever it was defined."""
_OWN: Final = frozenset({"dataplane", "schemas", "fastapi", "starlette", "pydantic", "json", "importlib", "asyncio"})
"""Packages of which each module's own functions and classes count."""
_INSIDE: Final = frozenset({"dataplane", "schemas", "fastapi", "starlette"})
"""Packages of which the methods of classes count, too."""
_BASES: Final = ("pydantic.main:BaseModel", "pydantic.type_adapter:TypeAdapter", "json.encoder:JSONEncoder")
"""Classes of other packages whose methods count."""
_CODE: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
    property,
    type,
)

_Take: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, ...]]
_all, _map, _len = all, map, len  # as they are before an author's code exchanges them
_chain = itertools.chain.from_iterable


class Host:
    """The functions and classes that every module of a process shares, as they are now."""

    def __init__(self) -> None:
        self._modules = dict(sys.modules)
        self._parts = [(name, namespace, kept) for name, namespace, kept in _parts(self._modules) if kept]
        self._takes = [(_taker(tuple(kept)), namespace) for _, namespace, kept in self._parts]
        self._values = tuple(_chain(take(namespace) for take, namespace in self._takes))

    def changed(self) -> list[str]:
        """The names of what was exchanged or taken away since, such as ``json.loads``."""
        loaded, known = sys.modules, self._modules
        found = [
            f"sys.modules[{name!r}]" for name, module in loaded.items() if name not in known and _impostor(name, module)
        ]
        if not _all(_map(is_, _map(loaded.get, known), known.values())):
            found += [f"sys.modules[{name!r}]" for name, module in known.items() if loaded.get(name) is not module]
        if not self._stands():
            for name, namespace, kept in self._parts:
                found += [f"{name}.{key}" for key, value in kept.items() if namespace.get(key) is not value]
        return found

    def _stands(self) -> bool:
        """Whether nothing at all was exchanged, in one sweep: a look at each name by itself costs thrice as much."""
        try:
            return _all(_map(is_, _chain([take(namespace) for take, namespace in self._takes]), self._values))
        except KeyError:
            return False


def _taker(keys: tuple[str, ...]) -> _Take:
    """Takes ``keys`` out of a namespace in one step, which costs half of looking each up.

    The first of them comes once more at the end, since of one alone `itemgetter` makes no tuple.
    """
    return itemgetter(*keys, keys[0])


def _parts(modules: Mapping[str, types.ModuleType]) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    for name, module in modules.items():
        package = name.partition(".")[0]
        if name in _WHOLE or package in _OWN:
            kept = {key: value for key, value in vars(module).items() if isinstance(value, _CODE)}
            if name not in _WHOLE:
                kept = {key: value for key, value in kept.items() if getattr(value, "__module__", "") == name}
            yield name, vars(module), kept
            if package in _INSIDE:
                for kind in [value for value in kept.values() if isinstance(value, type)]:
                    yield _methods(name, kind)
    for place in _BASES:
        name, _, word = place.partition(":")
        if name in modules:
            yield _methods(name, getattr(modules[name], word))


def _methods(name: str, kind: type) -> tuple[str, Mapping[str, Any], dict[str, Any]]:
    kept = {key: value for key, value in vars(kind).items() if isinstance(value, _CODE)}
    return f"{name}.{kind.__qualname__}", vars(kind), kept


def _impostor(name: str, module: object) -> bool:
    """Whether something else stands under the name of a module of Python itself."""
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    spec = getattr(module, "__spec__", None)
    file = str(getattr(module, "__file__", None))
    return getattr(spec, "name", None) not in {name, f"_{name}"} and not file.startswith(_LIBRARY)


_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep


class State:
    """What belongs to the process as a whole, as it is now."""

    __slots__ = ("rest", "shared")
    shared: dict[str, object]
    """What all modules of a worker would feel, by name."""
    rest: tuple[object, ...]
    """What only the next inspection in this process would find."""

    def __init__(self) -> None:
        mask = os.umask(0o077)
        os.umask(mask)
        self.shared = {
            "the working directory": _folder(),
            "the umask": mask,
            "signal handlers": [_signal.getsignal(number) for number in _SIGNALS],
            "the process's limits": [resource.getrlimit(number) for number in _LIMITS],
            "standard input and output": [_identity(number) for number in range(3)],
        }
        self.rest = (
            dict(os.environ),
            list(sys.path),
            [*map(id, sys.meta_path), *map(id, sys.path_hooks)],
            _thread._count(),  # noqa: SLF001 - the only count that knows threads without a Thread object
            os.listdir("/proc/self/fd"),
            _len(vars(builtins)),
            (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.getrecursionlimit()),
        )

    def harm(self, before: "State") -> list[str]:
        """What differs that all modules of a worker would feel."""
        return [name for name, now in self.shared.items() if now != before.shared[name]]

    def same(self, before: "State") -> bool:
        """Whether the next inspection would find everything as this one did."""
        return self.shared == before.shared and self.rest == before.rest


_SIGNALS: Final = sorted(map(int, signal.valid_signals()))
"""Numbers, for `_signal`: the public module makes an enumeration of each answer."""
_LIMITS: Final = sorted(
    getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_CPU"
)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _identity(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def has_children() -> bool:
    """Whether this process, who is the reaper of its descendants, has any."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
