"""Whose keys verify: a file that is watched, or a secret; the set at an address is in `schemas.kits.tokens.fetching`.

Always: a set is swapped whole; one that cannot be read or believed leaves the last good one in force, and is told.
"""

import asyncio
import math
from pathlib import Path
from typing import Any, Protocol

import structlog

from schemas.kits import watchedfiles
from schemas.kits.clocks import Clock
from schemas.kits.tokens import keys
from schemas.kits.tokens.keys import Algorithm, KeySet, VerifyingKey

logger = structlog.get_logger("schemas.kits.tokens.sources")


class KeySource(Protocol):
    """The keys of one issuer, as they are now."""

    @property
    def revision(self) -> int:
        """Changes when the keys change."""
        ...

    @property
    def until(self) -> float:
        """Until when, by the monotonic clock, these keys are believed without being seen again."""
        ...

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of that id, if it is known and may still be believed."""
        ...

    async def seek(self, kid: str | None) -> VerifyingKey | None:
        """Look for an unknown key outside, seldom enough that nobody can be troubled with it."""
        ...

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        ...

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        ...


class FixedKeys:
    """Keys that never change, such as a secret."""

    until = math.inf
    revision = 0

    def __init__(self, found: KeySet) -> None:
        self._keys = found

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of that id."""
        return self._keys.find(kid)

    async def seek(self, kid: str | None) -> VerifyingKey | None:
        """There is nowhere to look."""
        return None

    async def run(self) -> None:
        """Nothing to do, for ever."""
        await asyncio.Event().wait()

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        return {"kind": "secret"}


class FileKeys:
    """A JWK Set in a file on this machine; changed by replacing the file."""

    until = math.inf

    def __init__(self, path: Path, algorithm: Algorithm, clock: Clock, *, development: bool = False) -> None:
        """Reads the file; KeysRefused or OSError if there is no good set in it now."""

        def read(raw: bytes) -> KeySet:
            return keys.read_set(raw, algorithm, development=development)

        self._file = watchedfiles.WatchedFile(path, read, clock, most=keys.SET_BYTES, same=KeySet.same)

    @property
    def revision(self) -> int:
        """Changes when the keys change."""
        return self._file.revision

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of that id."""
        return self._file.content.find(kid)

    async def seek(self, kid: str | None) -> VerifyingKey | None:
        """The file is looked at often enough."""
        return None

    async def run(self) -> None:
        """Look at the file from time to time."""
        await self._file.run(self._changed)

    async def look(self) -> None:
        """Look at the file now."""
        await self._file.look()

    def _changed(self, found: KeySet) -> None:
        logger.info("keys changed", path=str(self._file.path), keys=len(found.keys), left_out=[*found.left_out])

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        file = self._file
        return {"kind": "file", "path": str(file.path), "keys": len(file.content.keys), "trouble": file.trouble}
