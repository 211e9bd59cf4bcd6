"""What lies in the modules path: sources, and manifests beside them.

``x.py`` and folders with Python files are sources; ``*.yaml``, ``*.yml`` and ``*.json`` at the top, and
``module.yaml`` (``.yml``, ``.json``) inside a source's folder, are manifests.  A file that did not change is not read
again.  Blocking; called in a thread by `controlplane.discovery.discovering` with what `looking` saw.  One unreadable
thing is told and holds up no other.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.admission import composing
from controlplane.discovery import looking, packing
from schemas.meta import Json
from schemas.problems import Violation

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_NO_MODULES: Final = frozenset({"conftest.py", "setup.py"})


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be taken."""

    path: str
    """Below the modules path, with ``:line:column`` where there is one."""
    message: str


@dataclass(frozen=True, slots=True)
class Beside:
    """One manifest that lies beside the code."""

    path: str
    """Of its file, below the modules path."""
    document: composing.Document

    @property
    def value(self) -> Json:
        """The manifest."""
        return self.document.value

    def source(self) -> str | None:
        """The source path of a Module's manifest; None for other kinds and what is broken."""
        spec = self.value.get("spec")
        if self.value.get("kind") != "Module" or not isinstance(spec, dict):
            return None
        source = spec.get("source")
        path = source.get("path") if isinstance(source, dict) else None
        entry_point = spec.get("entryPoint")
        if isinstance(path, str) and path:
            return path
        return entry_point.partition(":")[0].partition(".")[0] if isinstance(entry_point, str) else None


@dataclass(slots=True)
class Scan:
    """Everything found, in path order."""

    sources: list[str] = field(default_factory=list)
    """Source paths."""
    manifests: list[Beside] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    """Sources that a manifest speaks of, be it broken: nothing is derived for them."""
    waiting: list[str] = field(default_factory=list)
    """Manifests that are being written: until they are read, nobody knows which sources they speak of."""

    @property
    def named(self) -> set[str]:
        """Every source path that lies there, or that a manifest speaks of."""
        named = {source for beside in self.manifests if (source := beside.source()) is not None}
        return named.union(self.sources)


@dataclass(slots=True)
class _Entry:
    """What lies at the top of the modules path under one name."""

    is_folder: bool = False
    has_code: bool = False
    manifests: list[str] = field(default_factory=list)


class Scanner:
    """Scans one modules path; remembers the manifests that it read."""

    def __init__(self, modules_path: Path) -> None:
        self._modules_path = modules_path
        self._read: dict[str, tuple[looking.Stamp, list[composing.Document]]] = {}

    def scan(self, tree: looking.Tree, busy: Collection[str] = ()) -> Scan:
        """What ``tree`` holds; manifests in ``busy`` are being written and are left for later."""
        found = Scan()
        if tree.why:
            message = f"the modules path cannot be read: {tree.why}; make it or set MODPLANE_MODULES_PATH"
            found.failures.append(Failure(str(self._modules_path), message))
            return found
        for path, why in sorted(tree.unreadable.items()):
            found.failures.append(Failure(path, f"cannot be read: {why}; check its permissions"))
        for name, entry in sorted(_entries(tree).items()):
            self._take(found, name, entry, tree, busy)
        self._read = {path: kept for path, kept in self._read.items() if path in tree.files}
        return found

    def _take(self, found: Scan, name: str, entry: _Entry, tree: looking.Tree, busy: Collection[str]) -> None:
        if entry.has_code:
            _take_source(found, name.removesuffix(".py"), f"{name}/" if entry.is_folder else name)
        elif entry.is_folder and entry.manifests:
            message = "there is a manifest but no Python file beside it; put the module's code there"
            found.failures.append(Failure(f"{name}/", message))
        elif not entry.is_folder and tree.is_link(name):
            message = "a symbolic link is not followed; put the files themselves into the modules path"
            found.failures.append(Failure(name, message))
            return
        for path in sorted(entry.manifests):
            if entry.is_folder:
                found.covered.add(name)
            if path in busy:
                found.waiting.append(path)
            else:
                self._take_manifest(found, path, tree.files[path])

    def _take_manifest(self, found: Scan, path: str, stamp: looking.Stamp) -> None:
        try:
            documents = self._documents(path, stamp)
        except OSError as error:
            found.failures.append(Failure(path, f"cannot be read: {error.strerror}; check its permissions"))
            return
        for document in documents:
            if not document.problems and not _is_manifest(document.value, path):
                continue
            found.failures.extend(places(path, document, document.problems))
            if not document.problems:
                beside = Beside(path, document)
                found.manifests.append(beside)
                if (source := beside.source()) is not None:
                    found.covered.add(source)

    def _documents(self, path: str, stamp: looking.Stamp) -> list[composing.Document]:
        kept = self._read.get(path)
        if kept is None or kept[0] != stamp:
            syntax: composing.Syntax = "json" if path.endswith(".json") else "yaml"
            data = (self._modules_path / path).read_bytes()
            kept = self._read[path] = (stamp, list(composing.compose(data, syntax=syntax)))
        return kept[1]


def _entries(tree: looking.Tree) -> dict[str, _Entry]:
    """What may be a source or a manifest at the top of the modules path, by name."""
    found: dict[str, _Entry] = {}
    for path in tree.files:
        top, *inside = path.split("/")
        if top.startswith("_"):
            continue
        entry = found.setdefault(top, _Entry(is_folder=bool(inside)))
        if not inside:
            entry.has_code = top.endswith(".py") and top not in _NO_MODULES
            entry.manifests += [path] if top.endswith(_SUFFIXES) else []
        else:
            entry.has_code |= len(inside) <= 2 and path.endswith(".py")
            entry.manifests += [path] if len(inside) == 1 and inside[0] in packing.MANIFESTS else []
    return found


def _take_source(found: Scan, top: str, shown: str) -> None:
    if top.isidentifier():
        found.sources.append(top)
        return
    proposal = "".join(character if character.isalnum() else "_" for character in top)
    found.failures.append(
        Failure(shown, f"{top!r} cannot be imported by Python; rename it, for instance to {proposal!r}")
    )


def places(path: str, document: composing.Document, problems: Iterable[Violation]) -> Iterator[Failure]:
    """Each problem of a document as a failure at its line and column."""
    for problem in problems:
        line, column = document.locate(problem)
        where = f"{problem.pointer}: " if problem.pointer else ""
        yield Failure(f"{path}:{line}:{column}", f"{where}{problem.message}")


def _is_manifest(value: Json, path: str) -> bool:
    """JSON at the top may be a module's data; YAML, or anything with our words, is meant as a manifest."""
    return not path.endswith(".json") or path.rpartition("/")[2] in packing.MANIFESTS or "apiVersion" in value
