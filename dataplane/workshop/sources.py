"""What lies at a path: sources of modules and the manifests that speak of them, found as discovery finds them.

A path is one file, one module's folder (it has ``__init__.py`` or a manifest), or a folder of such.  `pack` copies a
source into a code store under its digest, so that an edit never changes code that is loaded.  Blocking.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataplane.errors import LoadFailed
from schemas import digests

MANIFESTS: Final = ("module.yaml", "module.yml", "module.json")
"""Inside a module's own folder."""
TESTS: Final = "tests"
"""A folder at the top of a module's folder that is no part of its code."""

_OURS: Final = b"modplane.dev/"
"""Tells a manifest from the other files of a folder that is not one of modules."""

_SUFFIXES: Final = (".yaml", ".yml")
_NO_MODULES: Final = frozenset({"conftest.py", "setup.py"})
_SKIPPED_FOLDERS: Final = frozenset({"__pycache__", "node_modules"})
_SKIPPED_SUFFIXES: Final = (".pyc", ".pyo")

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, size and mtime in ns of each file."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source."""

    place: Path
    """``x.py`` or the folder ``x/``."""

    @property
    def top(self) -> str:
        """Its name for Python."""
        return self.place.stem if self.place.suffix == ".py" else self.place.name


@dataclass(frozen=True, slots=True)
class Findings:
    """What lies at a path now."""

    sources: dict[str, Source]
    """By top name."""
    manifests: tuple[Path, ...]
    fingerprint: Fingerprint


def watched(path: Path) -> tuple[Path, bool]:
    """The folder to watch for ``path``, and whether with all below it."""
    return (path, True) if path.is_dir() else (path.parent, False)


def find(path: Path) -> Findings:
    """Everything at ``path``; LoadFailed (``SourceMissing``) if that is nothing."""
    path = path.absolute()
    if path.is_file() and path.suffix == ".py":
        sources, manifests = [Source(path)], [file for file in _beside(path.parent) if _OURS in file.read_bytes()]
    elif path.is_dir():
        sources, manifests = _in_folder(path)
    else:
        raise LoadFailed("SourceMissing", f"{path}: neither a Python file nor a folder; name the module's own")
    if not sources:
        raise LoadFailed("SourceMissing", f"{path}: no module in this folder; make one with `modplane new module NAME`")
    files = [file for source in sources for file, _ in _files(source)] + list(manifests)
    return Findings({source.top: source for source in sources}, tuple(manifests), _fingerprint(files))


def pack(source: Source, code_root: Path) -> str:
    """Copy a source into the code store; its digest."""
    contents = [(name, file.read_bytes()) for file, name in _files(source)]
    digest = digests.source_digest(contents)
    folder = code_root / digests.folder_name(digest)
    if not folder.is_dir():
        code_root.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".packing-", dir=code_root))
        for name, content in contents:
            target = building / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        building.rename(folder)
    return digest


def drop(code_root: Path, digest: str) -> None:
    """Take packed code that nothing uses any more off the disk."""
    shutil.rmtree(code_root / digests.folder_name(digest), ignore_errors=True)


def _in_folder(path: Path) -> tuple[list[Source], list[Path]]:
    if (path / "__init__.py").is_file() or any((path / name).is_file() for name in MANIFESTS):
        return [Source(path)], _inside(path)
    sources: list[Source] = []
    manifests = _beside(path)
    for entry in sorted(path.iterdir()):
        if entry.name.startswith((".", "_")) or not entry.stem.isidentifier():
            continue
        if entry.is_dir() and (any(entry.glob("*.py")) or any(entry.glob("*/*.py"))):
            sources.append(Source(entry))
            manifests += _inside(entry)
        elif entry.suffix == ".py" and entry.name not in _NO_MODULES:
            sources.append(Source(entry))
    return sources, manifests


def _beside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _inside(folder: Path) -> list[Path]:
    return [folder / name for name in MANIFESTS if (folder / name).is_file()]


def _files(source: Source) -> list[tuple[Path, str]]:
    """Each file of a source with its name in the packed code."""
    if source.place.is_file():
        return [(source.place, source.place.name)]
    return [
        (file, f"{source.place.name}/{file.relative_to(source.place).as_posix()}")
        for file in sorted(_below(source.place, source.place))
    ]


def _below(folder: Path, root: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            at_top = folder == root
            if entry.name.startswith(".") or entry.name.endswith(_SKIPPED_SUFFIXES):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED_FOLDERS and not (at_top and entry.name == TESTS):
                    yield from _below(Path(entry.path), root)
            elif entry.is_file(follow_symlinks=False) and not (at_top and entry.name in MANIFESTS):
                yield Path(entry.path)


def _fingerprint(files: list[Path]) -> Fingerprint:
    found = []
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:  # gone since it was listed: the next look will tell
            continue
        found.append((str(file), status.st_size, status.st_mtime_ns))
    return tuple(found)
