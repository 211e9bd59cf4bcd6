"""Two SQLAlchemy engines for one database: one that writes, one at a time, and one that only reads.

What always holds, on every connection (SQLite's pragmas are per connection): SQLite in WAL with
``synchronous=FULL``; a write transaction is ``BEGIN IMMEDIATE`` or begins with the advisory lock, so that what it
reads stays true and revisions are in commit order; a read transaction is a snapshot that the database itself
keeps from writing.  Used by `controlplane.store.opening`, `writers` and `stores`; failures leave as
`controlplane.errors.StoreError` by way of `translated`.
"""

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from controlplane import errors

logger = structlog.get_logger("controlplane.store.engines")

READERS: Final = 4
"""How many reads run at once."""

BUSY_SECONDS: Final = 5
"""How long a write waits for another process that holds the SQLite file."""

_PAUSE: Final = 0.02

_LOCK: Final = 0x6D6F64706C616E65
"""The advisory lock that every write transaction on PostgreSQL takes: ``modplane`` in ASCII."""

_BACKLOG: Final = 4_096
"""At how many pages (16 MiB) of its log a commit checkpoints by itself, because nobody else got round to it."""

_PRAGMAS: Final = (
    "journal_mode=WAL",
    f"wal_autocheckpoint={_BACKLOG}",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"busy_timeout={BUSY_SECONDS * 1000}",
    "journal_size_limit=67108864",
)

_SESSION: Final = (
    "-c timezone=UTC -c lock_timeout=15s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s"
)


@dataclass(frozen=True, slots=True)
class Engines:
    """The two doors to one database."""

    url: URL
    writer: Engine
    reader: Engine

    @property
    def sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    def checkpoint(self) -> None:
        """Bring what was committed from SQLite's log into the database file, as far as no reader needs the log.

        Beside whoever writes; a commit of ours would have to wait for it every few dozen times otherwise.
        """
        if not self.sqlite:
            return
        with contextlib.closing(self.reader.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.writer.dispose()
        self.reader.dispose()


def parse(url: str) -> URL:
    """A database URL with the driver that we use.  errors.StoreUnusable: a database that we do not know."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise errors.StoreUnusable(f"MODPLANE_DATABASE_URL is not a database URL: {_HINT}") from error
    backend = parsed.drivername.split("+", 1)[0]
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise errors.StoreUnusable(f"the SQLite database has to be a file: {_HINT}")
        return parsed.set(drivername="sqlite", database=str(Path(parsed.database).absolute()))
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise errors.StoreUnusable(f"databases of type {backend!r} are not supported: {_HINT}")


_HINT: Final = "write sqlite:////path/to/modplane.db or postgresql://user:password@host/database"


def make(url: URL) -> Engines:
    """The engines of a database; nothing is connected yet."""
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgres(url)


def translated(error: SQLAlchemyError, url: URL) -> errors.StoreError:
    """What a database failure means to the rest of the plane."""
    place = url.render_as_string(hide_password=True)
    cause = str(getattr(error, "orig", None) or error).strip()
    passing = (
        "locked",
        "busy",
        "full",
        "disk i/o",
        "lock timeout",
        "deadlock",
        "could not serialize",
        "statement timeout",
    )
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return errors.StoreBusy(f"lost the database {place}: {cause}; the last write may or may not have happened")
    if any(word in cause.lower() for word in passing) or type(error).__name__ == "OperationalError":
        return errors.StoreBusy(f"the database {place} refused for now: {cause}")
    return errors.StoreError(f"the database {place} refused: {cause}")


def _sqlite(url: URL) -> Engines:
    arguments = {"check_same_thread": False, "isolation_level": None, "timeout": BUSY_SECONDS}
    writer = create_engine(url, connect_args=arguments, pool_size=1, max_overflow=0)
    reader = create_engine(url, connect_args=arguments, pool_size=READERS, max_overflow=1, pool_timeout=10)
    _prepare(writer, _PRAGMAS, "BEGIN IMMEDIATE")
    _prepare(reader, (*_PRAGMAS, "query_only=ON"), "BEGIN")
    return Engines(url, writer, reader)


def _prepare(engine: Engine, pragmas: tuple[str, ...], begin: str) -> None:
    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _: Any) -> None:
        cursor = dbapi.cursor()
        for pragma in pragmas:
            _set(cursor, pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _set(cursor: sqlite3.Cursor, pragma: str) -> None:
    """Set a pragma; the switch to WAL does not wait for another process by itself, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _postgres(url: URL) -> Engines:
    options = " ".join(filter(None, (_SESSION, str(url.query.get("options", "")))))
    arguments = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    writer = create_engine(
        url, connect_args={**arguments, "options": f"{options} -c synchronous_commit=on"}, pool_size=1, max_overflow=0
    )
    reader = create_engine(
        url,
        connect_args={**arguments, "options": f"{options} -c default_transaction_read_only=on"},
        isolation_level="REPEATABLE READ",
        pool_size=READERS,
        max_overflow=1,
        pool_timeout=10,
        pool_pre_ping=True,
    )

    @event.listens_for(writer, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    return Engines(url, writer, reader)
