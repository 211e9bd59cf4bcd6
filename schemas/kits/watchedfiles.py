"""A file that is looked at from time to time, such as keys: what it holds now, or held when it was last good.

What always holds: what a file holds is taken as a whole; a file that cannot be read or understood leaves the last
good content in force, and is told once.  Used by `schemas.kits.tokens.sources` and `dataplane.gateway.apikeys`.
"""

import asyncio
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from schemas.kits.clocks import Clock

logger = structlog.get_logger("schemas.kits.watchedfiles")

LOOK_SECONDS: Final = 2.0
"""How soon a changed file is noticed."""

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """One file; changed by replacing it."""

    def __init__(
        self,
        path: Path,
        read: Callable[[bytes], Content],
        clock: Clock,
        *,
        most: int,
        same: Callable[[Content, Content], bool] = operator.eq,
    ) -> None:
        """``read`` makes the content of at most ``most`` + 1 bytes, and raises ValueError when it is not good.

        Reads the file now: OSError or what ``read`` raises if there is nothing good in it.
        """
        self._same = same
        self.path = path
        self._read = read
        self._clock = clock
        self._most = most
        self._seen = self._state()
        self.content = self._content()
        self.revision = 0
        """Changes when the content does."""
        self.trouble = ""
        """Why the file as it is now is not taken; empty: it is."""

    async def run(self, changed: Callable[[Content], None]) -> None:
        """Look from time to time, until cancelled; ``changed`` is told of each other content."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if await self.look():
                changed(self.content)

    async def look(self) -> bool:
        """Take what the file holds now, if it changed and is good; whether the content is another."""
        try:
            state = await asyncio.to_thread(self._state)
            if state == self._seen:
                return False
            found = await asyncio.to_thread(self._content)
        except (OSError, ValueError) as error:
            if str(error) != self.trouble:
                logger.warning("file not taken, what it held before counts", path=str(self.path), error=str(error))
            self.trouble = str(error)
            return False
        self._seen, self.trouble = state, ""
        if self._same(found, self.content):
            return False
        self.content = found
        self.revision += 1
        return True

    def _state(self) -> tuple[int, int, int]:
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _content(self) -> Content:
        with self.path.open("rb") as file:
            return self._read(file.read(self._most + 1))
