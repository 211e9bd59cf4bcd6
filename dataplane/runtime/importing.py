"""Import a module's packed code under a name of its own, so that two versions live side by side.

Code of digest ``ab12…`` with top package ``pricing`` is imported as ``modplane_modules.pricing__ab12…``.  Each
version has an ``__import__`` of its own, so that the author's absolute self-imports (``import pricing.models``)
find the same version, and libraries with one registry per process give each version its own
(`dataplane.runtime.registries`).  Nothing leaks into `sys.modules` under the plain name, and the modules folder is
never on `sys.path`.  Code is compiled once for every process of this machine: its byte code lies beside it in the code
store, also where Python is told to write none (that is meant for people's own folders).  Called by
`dataplane.runtime.assembling`, in any thread; code goes when its last user releases it.
"""

import builtins
import contextlib
import importlib
import os.path
import py_compile
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import cache_from_source, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from dataplane.runtime import registries
from schemas import digests

ROOT: Final = "modplane_modules"
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Code:
    """Packed code on this machine: ``folder`` holds ``<top>.py`` or ``<top>/``."""

    top: str
    digest: str
    folder: Path

    @property
    def leaf(self) -> str:
        """The name below `ROOT`."""
        return f"{self.top}__{digests.folder_name(self.digest)[:_DIGITS]}"

    @property
    def mangled(self) -> str:
        """The name under which the top package is imported."""
        return f"{ROOT}.{self.leaf}"

    def exists(self) -> bool:
        """Whether the code is on this machine."""
        return (self.folder / self.top).is_dir() or (self.folder / f"{self.top}.py").is_file()

    def plain(self, name: str) -> str:
        """The author's own name of a mangled module name, or any text that has such names in it."""
        return name.replace(self.mangled, self.top).replace(self.leaf, self.top)

    def load(self, name: str) -> ModuleType:
        """Import the module that the author calls ``name`` (top package first); raises what its code raises."""
        return importlib.import_module(self.mangled + name[len(self.top) :])


class _Loader(SourceFileLoader):
    """Gives each module the builtins of its version before it runs (IMPORT_NAME looks ``__import__`` up there)."""

    def __init__(self, fullname: str, path: str, version_builtins: Mapping[str, Any]) -> None:
        super().__init__(fullname, path)
        self._builtins = version_builtins

    def get_code(self, fullname: str) -> CodeType | None:
        """The byte code that some process has left beside the source, or what is left there now."""
        if sys.dont_write_bytecode and not os.path.exists(cache_from_source(self.path)):
            with contextlib.suppress(OSError, py_compile.PyCompileError):  # what is wrong with the source is told below
                py_compile.compile(self.path, doraise=True)
        return super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)


def _own_builtins(top: str, mangled: str, own: registries.Own) -> dict[str, Any]:
    def own_import(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 – the signature of builtins.__import__
        locals: Mapping[str, object] | None = None,  # noqa: A002 – the same
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level or not (name == top or name.startswith(f"{top}.")):
            return own.view(builtins.__import__(name, globals, locals, fromlist or (), level))
        leaf = builtins.__import__(mangled + name[len(top) :], globals, locals, fromlist or ("__name__",), 0)
        return leaf if fromlist else sys.modules[mangled]

    return {**builtins.__dict__, "__import__": own_import}


class _Library(MetaPathFinder):
    """Every version that is in use, and how many use it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._versions: dict[str, tuple[Code, dict[str, Any], registries.Own]] = {}
        self._users: dict[str, int] = {}

    def acquire(self, code: Code) -> None:
        """Take one use of ``code``."""
        with self._lock:
            if code.leaf not in self._versions:
                own = registries.Own()
                self._versions[code.leaf] = (code, _own_builtins(code.top, code.mangled, own), own)
            self._users[code.leaf] = self._users.get(code.leaf, 0) + 1
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def release(self, code: Code) -> bool:
        """Give one use back; True if it was the last and the code is gone from the interpreter."""
        with self._lock:
            left = self._users.get(code.leaf, 0) - 1
            if left > 0:
                self._users[code.leaf] = left
                return False
            self._users.pop(code.leaf, None)
            self._versions.pop(code.leaf, None)
            top = code.mangled
            inner = f"{top}."
            for name in [name for name in sys.modules if name.startswith(top)]:
                if name == top or name.startswith(inner):
                    del sys.modules[name]
            root = sys.modules.get(ROOT)
            if root is not None:
                root.__dict__.pop(code.leaf, None)
            return True

    def renew(self, code: Code) -> None:
        """Another instance of ``code`` is about to be made."""
        known = self._versions.get(code.leaf)
        if known is not None:
            known[2].renew()

    def users(self, code: Code) -> int:
        """How many uses are open."""
        return self._users.get(code.leaf, 0)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Serve `ROOT` and everything below it; nothing else."""
        if fullname == ROOT:
            return ModuleSpec(ROOT, None, is_package=True)
        if not fullname.startswith(f"{ROOT}."):
            return None
        leaf, *inner = fullname[len(ROOT) + 1 :].split(".")
        known = self._versions.get(leaf)
        if known is None:
            return None
        code, version_builtins, _ = known
        spec = _spec(fullname, code.folder.joinpath(code.top, *inner), version_builtins)
        if spec is None and not all(Path(entry).is_relative_to(code.folder) for entry in path or ()):
            # the next finder looks below the package's __path__ for what we do not load, such as shared libraries
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: the package's __path__ leads out of its own source", name=fullname
            )
        return spec


def _spec(fullname: str, place: Path, version_builtins: Mapping[str, Any]) -> ModuleSpec | None:
    package = place / "__init__.py"
    if package.is_file():
        loader = _Loader(fullname, str(package), version_builtins)
        return spec_from_file_location(fullname, str(package), loader=loader, submodule_search_locations=[str(place)])
    single = place.with_name(f"{place.name}.py")
    if single.is_file():
        return spec_from_file_location(fullname, str(single), loader=_Loader(fullname, str(single), version_builtins))
    if place.is_dir():
        bare = ModuleSpec(fullname, None, is_package=True)
        bare.submodule_search_locations = [str(place)]
        return bare
    return None


library: Final = _Library()
"""The one library of this process, as `sys.modules` is one."""
