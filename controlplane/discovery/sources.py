"""Which code lies where: from a source path to the digest of its packed files.

The `SourceResolver` of the write path, and what a scan asks about many paths at once.  A source whose files were not
touched is not read again; one that cannot be packed says why.  Called on the control plane's loop; disk is read in
threads.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from controlplane import errors
from controlplane.discovery import packing

logger = structlog.get_logger("controlplane.discovery.sources")

_MANY: Final = 8
"""From how many sources on that were packed at once one line tells of them all: lines for each cost a third as much as
the packing."""

_QUIET_NS: Final = 100_000_000
"""A file touched less than this before it was read may change again within one tick of the disk's clock."""


@dataclass(frozen=True, slots=True)
class _Known:
    fingerprint: packing.Fingerprint
    digest: str
    quiet: bool
    """Whether the files had been left alone for a while when they were read: only then the fingerprint tells all."""


@dataclass(frozen=True, slots=True)
class _Packed:
    path: str
    digest: str
    files: int


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at a source path."""

    digest: str | None = None
    """Of the packed code; None: there is none, or it cannot be packed."""
    problem: str = ""
    """Why it cannot be packed."""
    busy: bool = False
    """Whether it is being written, so that another look may say something else."""
    unkept: bool = False
    """Whether the problem is our own disk's: nothing of the source will tell that another look is worth it."""


class Sources:
    """The modules path, and the code store below the data folder."""

    def __init__(self, modules_path: Path, data_dir: Path) -> None:
        self.modules_path = modules_path.absolute()
        self.code_root = data_dir.absolute() / "code"
        self._known: dict[str, _Known] = {}
        self._whole: set[str] = set()
        self._found: dict[str, Found] = {}

    async def resolve_all(self, paths: Collection[str]) -> dict[str, str | errors.SourceInvalid | None]:
        """The digest of the packed source at each of ``paths`` below the modules path, packed anew if it changed.

        None: nothing is there; an error: it cannot be packed.
        """
        return {
            path: errors.SourceInvalid(found.problem, retryable=found.busy) if found.problem else found.digest
            for path, found in (await self.find(paths)).items()
        }

    async def find(self, paths: Iterable[str], same: Callable[[str], bool] = lambda path: False) -> dict[str, Found]:
        """What lies at each of ``paths``; where ``same`` says that nothing moved, what was found there the last time.

        All in one thread, so that a thousand sources are one hop.
        """
        packed: list[_Packed] = []

        def answer(path: str) -> Found:
            kept = self._found.get(path)
            return kept if kept is not None and not kept.unkept and same(path) else self._look(path, packed)

        def answers() -> dict[str, Found]:
            try:
                return {path: answer(path) for path in paths}
            finally:
                _tell(packed)

        return await asyncio.to_thread(answers)

    def _look(self, path: str, packed: list[_Packed]) -> Found:
        try:
            found = Found(self._resolve(path, packed))
        except errors.SourceInvalid as error:
            unkept = isinstance(error, packing.NotKept)
            found = Found(problem=error.message, busy=error.retryable, unkept=unkept)
            if self._found.get(path) != found:
                logger.warning("source refused", path=path, error=error.message)
        if found == Found():
            self._found.pop(path, None)
        else:
            self._found[path] = found
        return found

    def _resolve(self, path: str, packed: list[_Packed]) -> str | None:
        try:
            place = packing.locate(self.modules_path, path)
            if place is None:
                self._known.pop(path, None)
                return None
            return self._digest(path, place, packed)
        except OSError as error:
            where = error.filename or self.modules_path / path
            raise errors.SourceInvalid(f"{where}: cannot be read: {error.strerror}; check its permissions") from error

    def _digest(self, path: str, place: Path, packed: list[_Packed]) -> str:
        known = self._known.get(path)
        if known is not None and known.quiet and self._untouched(known, place):
            return known.digest
        started = time.time_ns()
        digest, found, contents = packing.read(place)
        if not self._held(digest):
            packing.keep(self.code_root, digest, contents)
            self._whole.add(digest)
        self._known[path] = _Known(found.fingerprint, digest, started - found.newest > _QUIET_NS)
        if known is None or known.digest != digest:
            packed.append(_Packed(path, digest, len(found.fingerprint)))
        return digest

    def _untouched(self, known: _Known, place: Path) -> bool:
        return packing.listing(place).fingerprint == known.fingerprint and self._held(known.digest)

    def _held(self, digest: str) -> bool:
        """Whether the store holds the code: its bytes are checked once per process, its folder each time."""
        if digest in self._whole:
            return (self.code_root / digest.removeprefix("sha256:")).is_dir()
        if packing.kept(self.code_root, digest):
            self._whole.add(digest)
            return True
        return False


def _tell(packed: list[_Packed]) -> None:
    if len(packed) >= _MANY:
        logger.info("sources packed", sources=len(packed), files=sum(each.files for each in packed))
        return
    for each in packed:
        logger.info("source packed", path=each.path, digest=each.digest, files=each.files)
