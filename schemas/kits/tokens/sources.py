"""Whose keys verify: a file that is watched, or a secret; the set at an address is in `schemas.kits.tokens.fetching`.

Always: a set is swapped whole; one that cannot be read or believed leaves the last good one in force, and is told.
"""

import asyncio
import math
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from schemas.kits.clocks import Clock
from schemas.kits.tokens import keys
from schemas.kits.tokens.keys import Algorithm, KeySet, VerifyingKey

logger = structlog.get_logger("schemas.kits.tokens.sources")

LOOK_SECONDS: Final = 2.0
"""How soon a changed file is noticed."""


class KeySource(Protocol):
    """The keys of one issuer, as they are now."""

    revision: int
    """Changes when the keys change."""

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
        self._path = path
        self._algorithm = algorithm
        self._clock = clock
        self._development = development
        self._seen = self._state()
        self._trouble = ""
        self._keys = self._read()
        self.revision = 0

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of that id."""
        return self._keys.find(kid)

    async def seek(self, kid: str | None) -> VerifyingKey | None:
        """The file is looked at often enough."""
        return None

    async def run(self) -> None:
        """Look at the file from time to time."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take what the file holds now, if it changed and is good."""
        try:
            state = await asyncio.to_thread(self._state)
            if state == self._seen:
                return
            found = await asyncio.to_thread(self._read)
            self._seen = state
        except (OSError, keys.KeysRefused) as error:
            if str(error) != self._trouble:
                logger.warning("keys not taken", path=str(self._path), error=str(error))
            self._trouble = str(error)
            return
        self._trouble = ""
        if not found.same(self._keys):
            self._keys = found
            self.revision += 1
            logger.info("keys changed", path=str(self._path), keys=len(found.keys), left_out=list(found.left_out))

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        return {"kind": "file", "path": str(self._path), "keys": len(self._keys.keys), "trouble": self._trouble}

    def _state(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> KeySet:
        with self._path.open("rb") as file:
            raw = file.read(keys.SET_BYTES + 1)
        return keys.read_set(raw, self._algorithm, development=self._development)
