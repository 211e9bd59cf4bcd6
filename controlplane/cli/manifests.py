"""Manifests as files: which ones a path means, what they hold, and where in them a problem is.

Reads files; what is right or wrong is decided by `controlplane.admission`, the same code as the server's.  Many at once
are read and checked by several processes (`sharing`), which changes nothing but the time.
Called by apply, delete, diff and validate.
"""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from controlplane.admission import composing, cutting, validating
from controlplane.cli import exits, printing, sharing
from schemas.meta import Json
from schemas.problems import Violation

SUFFIXES: Final = (".yaml", ".yml", ".json")
BESIDE_CODE: Final = ("module.yaml", "module.yml", "module.json")
"""A manifest inside a module's own folder."""


SHARED_BYTES: Final = 256 * 1024
"""Text of this size, some thousand manifests, takes longer to read and check than to share out."""
_PIECE_BYTES: Final = 64 * 1024

Verdict: TypeAlias = tuple[tuple[str, str], tuple[str, ...]]
"""(kind and name of the object that is meant, nothing), or empty ones and all that is wrong, as lines for people."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document of one file."""

    file: str
    document: composing.Document
    verdict: Verdict | None = None
    """Known already, of one that was read together with many."""

    @property
    def value(self) -> Json:
        """The document as written."""
        return self.document.value

    def problem(self, violation: Violation) -> str:
        """``file:line:col: /pointer: message``."""
        line, column = self.document.locate(violation)
        where = f"{violation.pointer}: " if violation.pointer else ""
        return f"{self.file}:{line}:{column}: {where}{violation.message}"

    def examined(self) -> Verdict:
        """What is to be said of it alone; problems in reading order."""
        if self.verdict is not None:
            return self.verdict
        problems = list(self.document.problems)
        if not problems:
            normal, violations = validating.validate(self.value)
            if normal is not None:
                return (normal["kind"], normal["metadata"]["name"]), ()
            problems = sorted(violations, key=self.document.locate)
        return ("", ""), tuple(self.problem(violation) for violation in problems)


@dataclass(frozen=True, slots=True)
class _File:
    """What was read of one file, or of standard input."""

    shown: str
    data: bytes
    named: bool
    """Whether somebody named it, not only its folder."""

    def read(self) -> list[Manifest]:
        return [Manifest(self.shown, document) for document in composing.compose(self.data)]

    def read_piece(self, piece: cutting.Piece) -> tuple[cutting.Batch, list[Verdict]]:
        """The documents of a piece of it, and what is to be said of each."""
        batch = cutting.read(piece)
        return batch, [Manifest(self.shown, document).examined() for document in batch.documents]

    def joined(self, made: list[tuple[cutting.Batch, list[Verdict]]]) -> list[Manifest]:
        """All of it, from what `read_piece` made of each of its pieces."""
        documents = cutting.join(batch for batch, _ in made)
        if documents is None:
            return self.read()
        verdicts = itertools.chain.from_iterable(verdicts for _, verdicts in made)
        return [Manifest(self.shown, *found) for found in zip(documents, verdicts, strict=True)]


def read(filenames: Iterable[str], *, recursive: bool = False) -> list[Manifest]:
    """Every document of the given files, folders and standard input, in order.

    Raises `exits.Exit`: code 2 if nothing was named, 1 if a file is not there or holds nothing.
    """
    named = list(filenames)
    if not named:
        raise exits.usage("name manifests with -f FILE, -f DIR or -f - (standard input)")
    files = [
        _File("<stdin>" if file == "-" else file, _bytes(file), file == name)
        for name in named
        for file in _files(name, recursive=recursive)
    ]
    found = [
        manifest
        for file, manifests in zip(files, _manifests(files, sharing.processes()), strict=True)
        for manifest in manifests
        if file.named or not _is_data(manifest)
    ]
    if not found:
        raise exits.no(f"no manifest in {', '.join(named)}")
    return found


def checked(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, list[str]]]:
    """Each manifest with everything that is wrong with it, as lines for people; a name given twice is wrong, too."""
    first: dict[tuple[str, str], Manifest] = {}
    for manifest in manifests:
        key, lines = manifest.examined()
        if not lines and (earlier := first.setdefault(key, manifest)) is not manifest:
            lines = (manifest.problem(_double(earlier)),)
        yield manifest, list(lines)


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
        listed = [str(file) for file in path.rglob("*") if _has_suffix(file.name) and file.is_file()]
    else:
        listed = list(_inside(path))
        listed += [str(file) for pattern in BESIDE_CODE for file in path.glob(f"*/{pattern}") if file.is_file()]
    if not listed:
        hint = "" if recursive else "Read the folders below it too with -R."
        raise exits.no(f"{name}: no .yaml, .yml or .json file in this folder", hint=hint)
    return sorted(listed, key=lambda file: file.split("/"))


def _inside(folder: Path) -> Iterator[str]:
    """The manifests right in a folder, named as `Path` would; they may be thousands, so each costs one look."""
    prefix = str(folder / "_").removesuffix("_")
    with os.scandir(folder) as entries:
        for entry in entries:
            if _has_suffix(entry.name) and (entry.is_file(follow_symlinks=False) or Path(entry.path).is_file()):
                yield prefix + entry.name


def _has_suffix(name: str) -> bool:
    return name.endswith(SUFFIXES) and name not in SUFFIXES


def _is_data(manifest: Manifest) -> bool:
    """Whether a JSON document that nobody named is a module's data; discovery sees it the same way."""
    if "apiVersion" in manifest.value:
        return False
    path = Path(manifest.file)
    return path.suffix == ".json" and path.name not in BESIDE_CODE


def _bytes(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        with open(file, "rb", buffering=0) as opened:
            return opened.read()
    except OSError as error:
        raise exits.no(f"{file}: cannot be read: {error.strerror}") from error


def _manifests(files: list[_File], count: int) -> list[list[Manifest]]:
    """The manifests of each file; with ``count`` processes and examined already, if they are many."""
    if count == 1 or sum(len(file.data) for file in files) < SHARED_BYTES:
        return [file.read() for file in files]
    cut = [cutting.cut(file.data, _PIECE_BYTES) for file in files]
    pieces = [(file, piece) for file, parts in zip(files, cut, strict=True) for piece in parts]
    made = iter(sharing.share(lambda pair: pair[0].read_piece(pair[1]), pieces, count))
    return [file.joined(list(itertools.islice(made, len(parts)))) for file, parts in zip(files, cut, strict=True)]
