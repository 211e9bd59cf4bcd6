"""Locks that die with their holder: they prove a dead leader at once, where a lease alone must run out.

What always holds: a lock only speeds up succession; that two never write is the epoch's work, which every write
checks.  `FileLock` (flock beside the SQLite file) and `AdvisoryLock` (a PostgreSQL session's) are given up by the
operating system or the server when the process dies, however it dies.

Called by `controlplane.reconcile.leadership`; `beside` chooses by the database's URL.
"""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

import psycopg
import structlog
from sqlalchemy.engine import make_url

logger = structlog.get_logger("controlplane.reconcile.locks")

_KEY = 0x6D6F646C65616472
"""Which advisory lock is ours: ``modleadr`` in ASCII; another than the one that orders the store's writes."""
_CONNECT_SECONDS = 3
_STATEMENT_MILLISECONDS = 2000


class LeaderLock(Protocol):
    """A lock that at most one living process has."""

    async def acquire(self) -> bool:
        """Try to take it, without waiting; True also when it is ours already."""
        ...

    async def release(self) -> None:
        """Give it up."""
        ...


class NoLock:
    """For databases that nobody else can reach: nothing is ever proven."""

    async def acquire(self) -> bool:
        """Nobody has it."""
        return False

    async def release(self) -> None:
        """Nothing to give up."""


class FileLock:
    """``flock`` on a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    async def acquire(self) -> bool:
        """Try to take it; a file that cannot be made counts as taken."""
        if self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            logger.warning("leader lock unusable", path=str(self._path), error=str(problem))
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    async def release(self) -> None:
        """Give it up; the file stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class AdvisoryLock:
    """A PostgreSQL advisory lock of a session of its own, which lives in a thread's call at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: psycopg.Connection[tuple[object, ...]] | None = None
        self._held = False

    async def acquire(self) -> bool:
        """Try to take it; a session that broke has lost it."""
        return await asyncio.to_thread(self._try)

    async def release(self) -> None:
        """Give it up with its session."""
        await asyncio.to_thread(self._close)

    def _try(self) -> bool:
        try:
            if self._session is None:
                self._held = False
                self._session = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=_CONNECT_SECONDS,
                    options=f"-c statement_timeout={_STATEMENT_MILLISECONDS}",
                    application_name="modplane leader",
                )
            question = "SELECT true" if self._held else f"SELECT pg_try_advisory_lock({_KEY})"
            row = self._session.execute(question.encode()).fetchone()
        except psycopg.Error as problem:
            logger.warning("leader lock unusable", error=str(problem).strip())
            self._close()
            return False
        self._held = bool(row and row[0])
        return self._held

    def _close(self) -> None:
        session, self._session, self._held = self._session, None, False
        if session is not None:
            with contextlib.suppress(psycopg.Error):
                session.close()


def beside(database_url: str) -> LeaderLock:
    """The lock that fits a database: none for SQLite in memory, a file beside SQLite, PostgreSQL's own."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return AdvisoryLock(url.set(drivername="postgresql").render_as_string(hide_password=False))
    if not url.database or url.database == ":memory:":
        return NoLock()
    return FileLock(Path(f"{url.database}.leader"))
