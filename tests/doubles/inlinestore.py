"""The real store, its SQL and its SQLite file, without its threads: every call runs on the caller's loop.

So a virtual loop decides all order, and a seed repeats it.  Migrating a database takes longer than a simulation;
`template` does it once and the others are copies.
"""

import asyncio
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

from controlplane.store import opening, stores, writers
from controlplane.store.readings import Reading
from schemas.kits.clocks import Clock

T = TypeVar("T")


class _InlineWriter(writers.Writer):
    """The writer without its thread: a unit is committed when it is handed in."""

    def start(self) -> None:
        """There is no thread."""

    def stop(self) -> None:
        """There is no thread."""

    def submit(self, job: writers.Job) -> None:
        self._group([job])


class InlineStore(stores.Store):
    """A `Store` that computes on the event loop."""

    def __init__(self, opened: opening.Opened, clock: Clock) -> None:
        with mock.patch.object(writers, "Writer", _InlineWriter):
            super().__init__(opened, clock)

    async def read(self, query: Callable[[Reading], T]) -> T:
        await asyncio.sleep(0)
        return self._query(query)

    def shut(self) -> None:
        """Let the database go at once."""
        self._closed = True
        self._readers.shutdown(wait=False)
        self._doors.dispose()


@functools.cache
def template() -> Path:
    """A migrated, empty database file."""
    folder = Path(tempfile.mkdtemp(prefix="modplane-template-"))
    path = folder / "empty.db"
    opening.open_database(f"sqlite:///{path}", None).doors.dispose()
    return path


def open_inline(folder: Path, clock: Clock, name: str = "sim.db") -> InlineStore:
    """An inline store over a fresh copy of the empty database, or over the one that is there."""
    path = folder / name
    if not path.exists():
        shutil.copy(template(), path)
    return InlineStore(opening.open_database(f"sqlite:///{path}", None), clock)
