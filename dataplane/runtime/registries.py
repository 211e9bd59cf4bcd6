"""What libraries keep once per process, given to each version of a module's code as its own.

Two libraries refuse what a second version defines under the same name: SQLModel ("Table 'thing' is already defined for
this MetaData instance") and prometheus_client ("Duplicated timeseries").  Code of a module that imports them gets a
view of the library in which `SQLModel` has a registry and metadata of this version, and metrics go to a registry of
this version; everything else is the library itself.  Plain SQLAlchemy bases are the author's own objects already.

Used by the ``__import__`` of a version (`dataplane.runtime.importing`); neither library is loaded unless a module is
the one who imports it.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from types import ModuleType
from typing import Any, Final

Replacements = dict[int, tuple[Any, Any]]
"""By identity: the library's object (held, so that its identity stays its own) and this version's."""

_METRICS: Final = ("Counter", "Gauge", "Summary", "Histogram", "Info", "Enum")


class Own:
    """One version's views of the libraries."""

    def __init__(self) -> None:
        self._replaced: dict[str, Replacements] = {}
        self._views: dict[str, ModuleType] = {}
        self._metrics: Any = None
        self._making = threading.RLock()

    def view(self, module: ModuleType) -> ModuleType:
        """What an import of ``module`` gives to this version's code: a view of it, or itself."""
        name = module.__name__
        package = name.partition(".")[0]
        make = _MAKERS.get(package)
        if make is None:
            return module
        with self._making:
            if name not in self._views:
                if package not in self._replaced:
                    self._replaced[package] = make(self, sys.modules[package])
                self._views[name] = _View(module, self._replaced[package], self)
            return self._views[name]

    def renew(self) -> None:
        """Another instance of this code is about to be made: what it defines again takes the older one's place."""
        if self._metrics is not None:
            self._metrics.renew()

    def sqlmodel(self, library: ModuleType) -> Replacements:
        """`SQLModel` with metadata and class registry of this version."""
        from sqlalchemy.orm import registry  # only where a module brings SQLModel in

        real: Any = library.SQLModel
        words = {"__module__": real.__module__, "__qualname__": real.__qualname__, "__doc__": real.__doc__}
        own = type(real)(real.__name__, (real,), words, registry=registry())
        return _paired([(real, own)])

    def prometheus(self, library: ModuleType) -> Replacements:
        """Metrics, registry and exposition of this version."""
        shared = library.REGISTRY
        self._metrics = own = _renewable(library)
        metrics = [getattr(library, name) for name in _METRICS]
        functions = [each for each in vars(library).values() if inspect.isfunction(each) and _default(each) is shared]
        return _paired(
            [
                (shared, own),
                *((metric, _registering(metric, own)) for metric in metrics),
                *((function, _defaulting(function, own)) for function in functions),
            ]
        )


_MAKERS: Final[dict[str, Callable[[Own, ModuleType], Replacements]]] = {
    "sqlmodel": Own.sqlmodel,
    "prometheus_client": Own.prometheus,
}


class _View(ModuleType):
    """A library's module, a few of its objects exchanged; what the library gets later is seen here, too."""

    def __init__(self, module: ModuleType, replaced: Replacements, own: Own) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__["__modplane_view__"] = (module, own)
        for name, value in vars(module).items():
            if not isinstance(value, ModuleType):
                self.__dict__[name] = replaced[id(value)][1] if id(value) in replaced else value

    def __getattr__(self, name: str) -> Any:
        module, own = self.__dict__["__modplane_view__"]
        value = getattr(module, name)
        return own.view(value) if isinstance(value, ModuleType) else value


def _paired(pairs: Iterable[tuple[Any, Any]]) -> Replacements:
    return {id(real): (real, own) for real, own in pairs}


def _renewable(library: ModuleType) -> Any:
    base: Any = library.CollectorRegistry

    class Registry(base):  # type: ignore[misc]  # a class of the library that the module brought
        """A registry in which a later instance of the same code may define its metrics again."""

        def __init__(self) -> None:
            super().__init__()
            self._held: list[Any] = []
            self._old: list[Any] = []

        def renew(self) -> None:
            """From now on, what is registered already gives way to metrics of its name."""
            self._old = list(self._held)

        def register(self, collector: Any) -> None:
            """As the library; two metrics of one name from one instance are still an error."""
            if self._old:
                names = _names(collector)
                for old in [old for old in self._old if names & _names(old)]:
                    self._old.remove(old)
                    self.unregister(old)
            super().register(collector)
            self._held.append(collector)

        def unregister(self, collector: Any) -> None:
            """As the library."""
            super().unregister(collector)
            self._held.remove(collector)

    return Registry()


def _names(collector: Any) -> set[str]:
    describe = getattr(collector, "describe", None)
    return {metric.name for metric in describe()} if describe is not None else set()


def _registering(metric: Any, registry: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - the method it stands for
        if len(args) <= _position(metric):
            kwargs.setdefault("registry", registry)
        metric.__init__(self, *args, **kwargs)

    words = {"__init__": __init__, "__module__": metric.__module__, "__qualname__": metric.__qualname__}
    return type(metric)(metric.__name__, (metric,), words | {"__doc__": metric.__doc__})


def _position(metric: Any) -> int:
    """Where ``registry`` stands among positional arguments."""
    return list(inspect.signature(metric).parameters).index("registry")


def _default(function: Any) -> Any:
    found = inspect.signature(function).parameters.get("registry")
    return None if found is None else found.default


def _defaulting(function: Any, registry: Any) -> Any:
    position = list(inspect.signature(function).parameters).index("registry")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) <= position:
            kwargs.setdefault("registry", registry)
        return function(*args, **kwargs)

    return call
