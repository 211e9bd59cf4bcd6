"""Notices at once what changes in the modules path, and has discovery catch up.

    the operating system (watchfiles), or a look every so often ──news──▶ catch_up ──▶ next news, or when it said

Always holds: a burst of changes is one scan; what changed while a scan ran is news for the next one; a modules path
that is missing, renamed or replaced is noticed soon.  Folders are watched one by one, because a recursive
watch would follow symbolic links out of the modules path.  Where the operating system does not tell (network folders,
a limit of watches), looks take its place.  Run by `controlplane.app` on the leader.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Final, Protocol

import structlog
import watchfiles

from controlplane.discovery import looking
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.discovery.watching")

STEP_MS: Final = 100
"""Changes that follow each other within this are one burst."""
BURST_MS: Final = 1_000
"""Longest burst."""
TICK_MS: Final = 5_000
"""How often it is checked that the watched folder still is the modules path."""
SETTLED: Final = 0.3
"""Seconds after which a new watch is sure to have begun."""
RETURN: Final = 1.0
"""Seconds between two looks for a modules path that is not there."""
POLL: Final = 2.0
"""Seconds between two looks where the operating system does not tell."""
_SHARE: Final = 4
"""How many times as long as a scan took nothing follows it, for `_REST` seconds at most: a busy folder costs little."""
_REST: Final = 1.0


class Discoverer(Protocol):
    """Who scans; see `discovering.ModuleDiscovery`."""

    @property
    def folders(self) -> Mapping[str, tuple[int, int]]:
        """The folders that the last scan saw."""
        ...

    stirred: Callable[[], None]
    """Called when there is more to do than it said."""

    async def begin(self) -> None:
        """Scan everything."""
        ...

    def rest(self) -> None:
        """Nothing more is asked."""
        ...

    async def catch_up(self) -> float:
        """Scan what moved; in how many seconds another look is due."""
        ...


class Watching:
    """Watches the modules path; ``poll``: seconds between looks instead, 0: be told."""

    def __init__(self, discovery: Discoverer, modules_path: Path, clock: Clock, *, poll: float = 0.0) -> None:
        self._discovery = discovery
        self._modules_path = modules_path
        self._clock = clock
        self._poll = poll
        self._news = asyncio.Event()
        logging.getLogger("watchfiles").setLevel(logging.WARNING)

    async def run(self) -> None:
        """Scan everything, then keep up until cancelled."""
        self._discovery.stirred = self._news.set
        try:
            await self._discovery.begin()
            await self._follow()
        finally:
            self._discovery.rest()

    async def _follow(self) -> None:
        while True:
            folders = self._discovery.folders
            listening = asyncio.create_task(self._listen(folders), name="modules path")
            try:
                due = SETTLED  # what changed before somebody listened was told to nobody
                while self._discovery.folders == folders:
                    await self._news_within(due)
                    due = await self._catch_up()
            finally:
                listening.cancel()
                await asyncio.wait({listening})

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _catch_up(self) -> float:
        started = self._clock.monotonic()
        due = await self._discovery.catch_up()
        await self._clock.sleep(min((self._clock.monotonic() - started) * _SHARE, _REST))
        return due

    async def _listen(self, folders: Mapping[str, tuple[int, int]]) -> None:
        """Make news of what changes in ``folders``; without any, look for the modules path."""
        if folders and not self._poll:
            try:
                await self._hear(folders)
            except FileNotFoundError:
                logger.debug("a folder went before it was watched", path=str(self._modules_path))
            except (OSError, RuntimeError) as error:
                logger.warning(
                    "the modules path is looked at instead of watched; perhaps fs.inotify.max_user_watches is too low",
                    path=str(self._modules_path),
                    folders=len(folders),
                    error=str(error),
                    every_seconds=POLL,
                )
        while True:
            self._news.set()
            await self._clock.sleep(self._poll or (POLL if folders else RETURN))

    async def _hear(self, folders: Mapping[str, tuple[int, int]]) -> None:
        """Be told, in a thread of its own: to begin takes some 10 ms for a thousand folders."""
        loop, ended = asyncio.get_running_loop(), threading.Event()

        def hear() -> None:
            told = watchfiles.watch(
                *(self._modules_path / folder for folder in folders),
                watch_filter=_counts,
                debounce=BURST_MS,
                step=STEP_MS,
                stop_event=ended,
                rust_timeout=TICK_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                force_polling=False,
                recursive=False,
                ignore_permission_denied=True,
            )
            for changes in told:
                if changes or looking.identity(self._modules_path) != folders[""]:
                    loop.call_soon_threadsafe(self._news.set)

        pool = futures.ThreadPoolExecutor(1, "modules-path")
        try:
            await loop.run_in_executor(pool, hear)
        finally:
            ended.set()
            pool.shutdown(wait=False)


def _counts(change: watchfiles.Change, path: str) -> bool:
    """Whether a change is of something that an author ships."""
    return not looking.is_left_out(path.rpartition("/")[2])
