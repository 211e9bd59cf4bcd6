"""Manifests as files: which ones a path means, what they hold, and where in them a problem is.

Reads files; what is right or wrong is decided by `controlplane.admission`, the same code as the server's.
Called by apply, delete and validate.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane.admission import composing, validating
from controlplane.cli import exits, printing
from schemas.meta import Json
from schemas.problems import Violation

SUFFIXES: Final = (".yaml", ".yml", ".json")
BESIDE_CODE: Final = ("module.yaml", "module.yml", "module.json")
"""A manifest inside a module's own folder."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document of one file."""

    file: str
    document: composing.Document

    @property
    def value(self) -> Json:
        """The document as written."""
        return self.document.value

    def problem(self, violation: Violation) -> str:
        """``file:line:col: /pointer: message``."""
        line, column = self.document.locate(violation)
        where = f"{violation.pointer}: " if violation.pointer else ""
        return f"{self.file}:{line}:{column}: {where}{violation.message}"

    def examined(self) -> tuple[tuple[str, str], list[Violation]]:
        """(kind and name of the object that it means, nothing), or everything that is wrong with it, in reading order.

        Kind and name are empty if something is wrong.
        """
        if self.document.problems:
            return ("", ""), list(self.document.problems)
        normal, violations = validating.validate(self.value)
        if normal is None:
            return ("", ""), sorted(violations, key=self.document.locate)
        return (normal["kind"], normal["metadata"]["name"]), []


def read(filenames: Iterable[str], *, recursive: bool = False) -> list[Manifest]:
    """Every document of the given files, folders and standard input, in order.

    Raises `exits.Exit`: code 2 if nothing was named, 1 if a file is not there or holds nothing.
    """
    named = list(filenames)
    if not named:
        raise exits.usage("name manifests with -f FILE, -f DIR or -f - (standard input)")
    found = [
        manifest
        for name in named
        for file in _files(name, recursive=recursive)
        for manifest in _documents(file)
        if file == name or not _is_data(manifest)
    ]
    if not found:
        raise exits.no(f"no manifest in {', '.join(named)}")
    return found


def checked(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, list[str]]]:
    """Each manifest with everything that is wrong with it, as lines for people; a name given twice is wrong, too."""
    first: dict[tuple[str, str], Manifest] = {}
    for manifest in manifests:
        key, problems = manifest.examined()
        if not problems and (earlier := first.setdefault(key, manifest)) is not manifest:
            problems = [_double(earlier)]
        yield manifest, [manifest.problem(violation) for violation in problems]


def check(manifests: Iterable[Manifest]) -> list[str]:
    """Every problem of every manifest, as lines for people."""
    return [line for _, lines in checked(manifests) for line in lines]


def sort_out(manifests: Iterable[Manifest]) -> tuple[list[Manifest], list[str]]:
    """The manifests that have no problem, and every problem of the others, as lines for people."""
    good: list[Manifest] = []
    problems: list[str] = []
    for manifest, lines in checked(manifests):
        problems += lines
        if not lines:
            good.append(manifest)
    return good, problems


def _double(earlier: Manifest) -> Violation:
    line, column = earlier.document.mark("/metadata/name")
    message = f"{identity(earlier.value)} stands at {earlier.file}:{line}:{column} already; keep one of the two."
    return Violation(pointer="/metadata/name", message=message)


def identity(item: Json) -> str:
    """``module/analytics-core``, also for a document that is not valid."""
    metadata = item.get("metadata")
    return printing.name_of({**item, "metadata": metadata if isinstance(metadata, dict) else {}})


def _files(name: str, *, recursive: bool) -> list[str]:
    if name == "-":
        return [name]
    path = Path(name)
    if path.is_file():
        return [name]
    if not path.is_dir():
        raise exits.no(f"{name}: no such file or folder")
    if recursive:
        listed = [file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file()]
    else:
        listed = [file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file()]
        listed += [file for pattern in BESIDE_CODE for file in path.glob(f"*/{pattern}") if file.is_file()]
    if not listed:
        hint = "" if recursive else "Read the folders below it too with -R."
        raise exits.no(f"{name}: no .yaml, .yml or .json file in this folder", hint=hint)
    return [str(file) for file in sorted(listed)]


def _is_data(manifest: Manifest) -> bool:
    """Whether a JSON document that nobody named is a module's data; discovery sees it the same way."""
    path = Path(manifest.file)
    return path.suffix == ".json" and path.name not in BESIDE_CODE and "apiVersion" not in manifest.value


def _documents(file: str) -> list[Manifest]:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise exits.no(f"{file}: cannot be read: {error.strerror}") from error
    shown = "<stdin>" if file == "-" else file
    return [Manifest(shown, document) for document in composing.compose(data)]
