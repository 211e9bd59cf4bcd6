"""Opens a database so that it can be trusted, or says what to do.

In order: the folder can be written, the file is SQLite and ours, it is whole, its schema is no newer than this
program, and then migrated.  Synchronous; called by `controlplane.store.stores` on a thread.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from controlplane import errors
from controlplane.store import engines, migrating, tables

_MAGIC: Final = b"SQLite format 3\x00"
_SHOWN: Final = 3
_ELSEWHERE: Final = "choose another place with --data-dir or MODPLANE_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Opened:
    """A database that can be used."""

    doors: engines.Engines
    store_id: str
    revision: int


def open_database(url: str, data_dir: Path | None = None) -> Opened:
    """Open, check and migrate.  errors.StoreUnusable: with what to do about it."""
    parsed = engines.parse(url)
    if data_dir is not None:
        _make_folder(data_dir)
    sqlite = parsed.get_backend_name() == "sqlite"
    place = str(parsed.database) if sqlite else parsed.render_as_string(hide_password=True)
    if sqlite:
        _prepare_file(Path(place))
    doors = engines.make(parsed)
    try:
        if sqlite:
            _check_whole(doors.reader, place)
        with doors.writer.begin() as connection:
            _check_ours(connection, place)
            migrating.upgrade(connection, place)
            store_id, revision = connection.execute(
                tables.META.select().with_only_columns(tables.META.c.store_id, tables.META.c.revision)
            ).one()
    except SQLAlchemyError as error:
        doors.dispose()
        away = not sqlite and isinstance(error, OperationalError)
        raise errors.StoreUnusable(_unusable(place, error, sqlite=sqlite), retryable=away) from error
    except errors.StoreUnusable:
        doors.dispose()
        raise
    return Opened(doors, store_id, revision)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise errors.StoreUnusable(f"cannot make the folder {folder}: {reason}; {_ELSEWHERE}") from error


def _prepare_file(path: Path) -> None:
    _make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = error.strerror or str(error)
        raise errors.StoreUnusable(
            f"cannot open the database {path} for writing: {reason};"
            f" give this user the right to write the file and its folder, or {_ELSEWHERE}"
        ) from error
    try:
        start = os.read(descriptor, len(_MAGIC))
    finally:
        os.close(descriptor)
    if start not in (b"", _MAGIC):
        raise errors.StoreUnusable(f"{path} is not an SQLite database; move it away, or {_ELSEWHERE}")
    if not os.access(path.parent, os.W_OK):
        raise errors.StoreUnusable(
            f"the folder {path.parent} cannot be written, and SQLite keeps its journal there;"
            f" give this user the right to write it, or {_ELSEWHERE}"
        )


def _check_whole(engine: Engine, place: str) -> None:
    with engine.connect() as connection:
        found = [row[0] for row in connection.execute(text("PRAGMA integrity_check")).all()]
    if found != ["ok"]:
        raise errors.StoreUnusable(_damaged(place, "; ".join(str(line) for line in found[:_SHOWN])))


def _check_ours(connection: Connection, place: str) -> None:
    present = set(inspect(connection).get_table_names())
    taken = sorted(present & set(tables.metadata.tables))
    if taken and migrating.VERSION_TABLE not in present:
        raise errors.StoreUnusable(
            f"{place} holds tables of another program (such as {taken[0]!r}); {_ELSEWHERE} that is empty"
        )


def _unusable(place: str, error: SQLAlchemyError, *, sqlite: bool) -> str:
    cause = str(getattr(error, "orig", None) or error).strip()
    lowered = cause.lower()
    if any(word in lowered for word in ("malformed", "not a database", "corrupt")):
        return _damaged(place, cause)
    if "locked" in lowered:
        return f"the database {place} is held by another process ({cause}); stop that process, then start again"
    if sqlite:
        return f"cannot use the database {place}: {cause}; check the disk and its rights, or {_ELSEWHERE}"
    return (
        f"cannot use the database {place}: {cause};"
        " check that the server runs and that MODPLANE_DATABASE_URL names a user who may create tables there"
    )


def _damaged(place: str, cause: str) -> str:
    return (
        f"the database {place} is damaged ({cause}); nothing was changed. Keep a copy of it, then restore a backup,"
        f" or try `sqlite3 {place} .recover`, or move it away to start empty and apply the manifests again"
    )
