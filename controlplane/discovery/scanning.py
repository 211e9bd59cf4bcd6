"""What lies in the modules path: sources, and manifests beside them.

``x.py`` and folders with Python files are sources; ``*.yaml``, ``*.yml`` and ``*.json`` at the top, and
``module.yaml`` (``.yml``, ``.json``) inside a source's folder, are manifests.  Blocking; called in a thread by
`controlplane.discovery.discovering`.  One unreadable thing is told and holds up no other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.admission import composing
from controlplane.discovery import packing
from schemas.meta import Json
from schemas.problems import Violation

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
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


def scan(modules_path: Path) -> Scan:
    """Look at the modules path; a path that is not there is a failure, not an empty folder."""
    found = Scan()
    try:
        entries = sorted(modules_path.iterdir())
    except OSError as error:
        why = error.strerror or str(error)
        found.failures.append(
            Failure(str(modules_path), f"the modules path cannot be read: {why}; make it or set MODPLANE_MODULES_PATH")
        )
        return found
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        try:
            _take(found, entry, modules_path)
        except OSError as error:
            found.failures.append(Failure(entry.name, f"cannot be read: {error.strerror}; check its permissions"))
    return found


def _take(found: Scan, entry: Path, modules_path: Path) -> None:
    if entry.is_dir():
        _take_folder(found, entry, modules_path)
    elif entry.suffix in _SUFFIXES:
        _take_manifest(found, entry, modules_path)
    elif entry.suffix == ".py" and entry.name not in _NO_MODULES:
        _take_source(found, entry.stem, entry.name)


def _take_folder(found: Scan, folder: Path, modules_path: Path) -> None:
    manifests = sorted(folder / name for name in packing.MANIFESTS if (folder / name).is_file())
    if any(folder.glob("*.py")) or any(folder.glob("*/*.py")):
        _take_source(found, folder.name, f"{folder.name}/")
    elif manifests:
        found.failures.append(
            Failure(f"{folder.name}/", "there is a manifest but no Python file beside it; put the module's code there")
        )
    for manifest in manifests:
        found.covered.add(folder.name)
        _take_manifest(found, manifest, modules_path)


def _take_source(found: Scan, top: str, shown: str) -> None:
    if top.isidentifier():
        found.sources.append(top)
        return
    proposal = "".join(character if character.isalnum() else "_" for character in top)
    found.failures.append(
        Failure(shown, f"{top!r} cannot be imported by Python; rename it, for instance to {proposal!r}")
    )


def _take_manifest(found: Scan, file: Path, modules_path: Path) -> None:
    path = file.relative_to(modules_path).as_posix()
    syntax: composing.Syntax = "json" if file.suffix == ".json" else "yaml"
    for document in composing.compose(file.read_bytes(), syntax=syntax):
        if not document.problems and not _is_manifest(document.value, file):
            continue
        found.failures.extend(places(path, document, document.problems))
        if not document.problems:
            beside = Beside(path, document)
            found.manifests.append(beside)
            if (source := beside.source()) is not None:
                found.covered.add(source)


def places(path: str, document: composing.Document, problems: Iterable[Violation]) -> Iterator[Failure]:
    """Each problem of a document as a failure at its line and column."""
    for problem in problems:
        line, column = document.locate(problem)
        where = f"{problem.pointer}: " if problem.pointer else ""
        yield Failure(f"{path}:{line}:{column}", f"{where}{problem.message}")


def _is_manifest(value: Json, file: Path) -> bool:
    """JSON at the top may be a module's data; YAML, or anything with our words, is meant as a manifest."""
    return file.suffix != ".json" or file.name in packing.MANIFESTS or "apiVersion" in value
