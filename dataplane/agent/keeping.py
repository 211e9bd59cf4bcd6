"""The last good state on disk: one SQLite file per worker slot, believed only as a whole.

A row per key and place: the newest accepted document, and beside it the document that serves while the newest does
not.  Every row has a checksum; one more row proves the rest: format, store, worker, head, count and an additive
hash over all checksums.  One changed bit anywhere, a missing row, a document that nobody trusted signed, another format
or another worker's file refuses the whole file: it is set aside as ``<name>.refused`` and never served.

A save is one transaction with ``synchronous=FULL`` and a rollback journal, so that the file is the old state or the
new one, whatever dies.  Only what changed is written, unless the file is not what this object wrote or read last;
then all of it.  Blocking; called by `dataplane.agent.saving`, in one thread at a time.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from dataplane.agent import holding
from dataplane.agent.holding import Proof, Understood, Wanted
from dataplane.errors import DocumentRefused, LastGoodRefused, SaveFailed
from schemas import documents
from schemas.documents import DesiredDocument
from schemas.kits.signatures import TrustedKeys
from schemas.meta import Model

logger = structlog.get_logger("dataplane.agent.keeping")

FORMAT: Final = 1
"""Of the file; any other is refused, since an older program cannot know what a newer one meant, nor the reverse."""
_APPLICATION: Final = 0x4D504C47
_BUSY_SECONDS: Final = 2.0
_HELD_BY_OTHERS: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_TABLES: Final = (
    """CREATE TABLE documents (
        key TEXT NOT NULL, place TEXT NOT NULL, epoch INTEGER NOT NULL, revision INTEGER NOT NULL,
        document BLOB NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY (key, place)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), document BLOB NOT NULL, checksum BLOB NOT NULL) STRICT",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)


class Place(StrEnum):
    """What a document is to its key."""

    NEWEST = "newest"
    SERVING = "serving"
    """An older one that serves, since the newest does not yet or cannot."""


Slot = tuple[str, Place]


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole state, read and verified."""

    proof: Proof
    entries: Mapping[str, tuple[DesiredDocument, Understood]]
    """The newest documents by key."""
    serving: Mapping[str, Wanted]
    """Older modules that served in place of the newest, by name."""
    saved_at: datetime


class _Meta(Model):
    """The row that proves the others."""

    format: int = FORMAT
    worker: str
    boot: str
    """Who wrote it."""
    pid: int = 0
    replaces: str = ""
    """The boot whose successor the writer is: that one writes no more while the writer lives."""
    writes: int
    """How often this boot has written."""
    store: str
    epoch: int
    revision: int
    set_hash: str
    count: int
    """Of rows."""
    total: str
    """The additive hash over their checksums."""
    saved_at: datetime


class File:
    """One worker slot's file."""

    def __init__(self, path: Path, trusted: TrustedKeys, *, worker: str, boot: str, replaces: str = "") -> None:
        self.path = path
        self._trusted = trusted
        self._worker = worker
        self._boot = boot
        self._replaces = replaces
        self._writes = 0
        self._known: tuple[str, int] | None = None
        """Boot and count of the write that the file is known to hold."""
        self._proof = Proof()
        self._rows: dict[Slot, DesiredDocument] = {}
        """What the file is to hold."""
        self._sums: dict[Slot, int] = {}
        """What it does hold: a share of the hash for each row."""
        self._dirty: set[Slot] = set()
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @property
    def refused_path(self) -> Path:
        """Where a file goes that cannot be believed."""
        return self.path.with_name(self.path.name + ".refused")

    def load(self) -> Kept | None:
        """What the file holds, None if there is no file; LastGoodRefused when it cannot be believed."""
        if not self.path.exists():
            return None
        try:
            with contextlib.closing(self._connect()) as database:
                return self._read(database)
        except LastGoodRefused as error:
            raise LastGoodRefused(error.reason, f"{self.path}: {error.message}; {self._set_aside()}") from error
        except sqlite3.OperationalError as error:
            if _code(error) in _HELD_BY_OTHERS:
                words = f"{self.path}: another process holds it; is worker {self._worker} started twice?"
                raise LastGoodRefused("InUse", words) from error
            raise LastGoodRefused("Damaged", f"{self.path}: {error}; {self._set_aside()}") from error
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise LastGoodRefused("Damaged", f"{self.path}: {error}; {self._set_aside()}") from error

    def save(self, proof: Proof, changes: Mapping[Slot, DesiredDocument | None], now: datetime) -> None:
        """Make the file hold ``proof`` and these documents (None: no longer) beside what it holds; SaveFailed.

        What could not be saved is saved with the next call.
        """
        for slot, document in changes.items():
            if document is None:
                if self._rows.pop(slot, None) is None:
                    continue
            elif self._rows.get(slot) == document:
                continue
            else:
                self._rows[slot] = document
            self._dirty.add(slot)
        if not self._dirty and proof == self._proof:
            return
        try:
            self._commit(self._open(), proof, now)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise SaveFailed(f"the last good state cannot be written to {self.path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        database, self._db = self._db, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self.path.absolute().as_uri() + "?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA trusted_schema = OFF")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _read(self, database: sqlite3.Connection) -> Kept:
        database.execute("BEGIN")
        _check(database)
        meta = _meta(database)
        if meta.worker != self._worker:
            raise LastGoodRefused("OtherWorker", f"it belongs to worker {meta.worker}, not to {self._worker}")
        entries: dict[str, tuple[DesiredDocument, Understood]] = {}
        serving: dict[str, Wanted] = {}
        rows: dict[Slot, DesiredDocument] = {}
        sums: dict[Slot, int] = {}
        for key, place, epoch, revision, data, checksum in database.execute("SELECT * FROM documents"):
            if checksum != _checksum(key, place, epoch, revision, data):
                raise LastGoodRefused("Damaged", f"the row of {key} is not what was written")
            slot = (key, Place(place))
            document, understood = _understood(key, data, self._trusted)
            rows[slot], sums[slot] = document, _share(checksum)
            if slot[1] is Place.NEWEST:
                entries[key] = (document, understood)
            elif isinstance(understood, Wanted):
                serving[document.name] = understood
        if meta.count != len(rows) or meta.total != _total(sums):
            raise LastGoodRefused("Damaged", f"it should hold {meta.count} rows and holds {len(rows)}, or other ones")
        self._proof = Proof(meta.store, (meta.epoch, meta.revision), meta.set_hash)
        self._rows, self._sums, self._known = rows, sums, (meta.boot, meta.writes)
        return Kept(self._proof, entries, serving, meta.saved_at)

    def _commit(self, database: sqlite3.Connection, proof: Proof, now: datetime) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            last = _last(database)
            if last is not None and last.replaces == self._boot and _lives(last.pid):
                database.execute("ROLLBACK")  # the slot is our successor's, and so is the duty to save
                return
            anew = self._known is None or last is None or self._known != (last.boot, last.writes)
            sums, dirty = ({}, set(self._rows)) if anew else (dict(self._sums), self._dirty)
            if anew:
                database.execute("DELETE FROM documents")
            for slot in dirty:
                self._write(database, slot, sums)
            meta = _Meta(
                worker=self._worker, boot=self._boot, pid=os.getpid(), replaces=self._replaces,
                writes=self._writes + 1, store=proof.store, epoch=proof.order[0], revision=proof.order[1],
                set_hash=proof.set_hash, count=len(sums), total=_total(sums), saved_at=now,
            ).model_dump_json().encode()  # fmt: skip
            database.execute("REPLACE INTO meta VALUES (1, ?, ?)", (meta, hashlib.sha256(meta).digest()))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._writes += 1
        self._known = (self._boot, self._writes)
        self._proof, self._sums, self._dirty = proof, sums, set()

    def _write(self, database: sqlite3.Connection, slot: Slot, sums: dict[Slot, int]) -> None:
        document = self._rows.get(slot)
        if document is None:
            database.execute("DELETE FROM documents WHERE key = ? AND place = ?", slot)
            sums.pop(slot, None)
            return
        data = document.model_dump_json(by_alias=True).encode()
        checksum = _checksum(*slot, *document.order, data)
        database.execute("REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)", (*slot, *document.order, data, checksum))
        sums[slot] = _share(checksum)

    def _open(self) -> sqlite3.Connection:
        """The connection, to a file that is still the one under our name and is ours to write."""
        if self._db is not None and _inode(self.path) == self._inode:
            return self._db
        self.close()
        try:
            self._db = self._prepared()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            logger.warning("last good state set aside", path=str(self.path), error=str(error))
            self._set_aside()
            self._db = self._prepared()
        self._inode = _inode(self.path)
        return self._db

    def _prepared(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # configurations may hold secrets: for the owner's eyes only, from the first byte on
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = self._connect()
        try:
            if not _pragma(database, "schema_version"):
                database.execute("BEGIN IMMEDIATE")
                for statement in _TABLES:
                    database.execute(statement)
                database.execute("COMMIT")
            elif (_pragma(database, "application_id"), _pragma(database, "user_version")) != (_APPLICATION, FORMAT):
                raise sqlite3.DatabaseError("another program's file, or another format")
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self) -> str:
        """Move a file that cannot be believed out of the way; what was done about it, in words."""
        self.close()
        self._known = None
        try:
            self.path.replace(self.refused_path)
            self.path.with_name(self.path.name + "-journal").unlink(missing_ok=True)
        except OSError as error:
            return f"it could not be set aside ({error.strerror}); remove it"
        return f"set aside as {self.refused_path.name}, for you to look at or remove"


def _check(database: sqlite3.Connection) -> None:
    if _pragma(database, "application_id") != _APPLICATION:
        raise LastGoodRefused("Foreign", "it is no last good state of a worker")
    version = _pragma(database, "user_version")
    if version != FORMAT:
        raise LastGoodRefused("UnknownFormat", f"it has format {version}; this worker reads format {FORMAT}")
    found = [str(line) for (line,) in database.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        raise LastGoodRefused("Damaged", found[0] if found else "it cannot be checked")


def _meta(database: sqlite3.Connection) -> _Meta:
    row = database.execute("SELECT document, checksum FROM meta").fetchone()
    if row is None:
        raise LastGoodRefused("Damaged", "nothing in it proves the rest")
    if hashlib.sha256(row[0]).digest() != row[1]:
        raise LastGoodRefused("Damaged", "the row that proves the others is not what was written")
    return _Meta.model_validate_json(row[0])


def _last(database: sqlite3.Connection) -> _Meta | None:
    try:
        return _meta(database)
    except (LastGoodRefused, ValidationError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _understood(key: str, data: bytes, trusted: TrustedKeys) -> tuple[DesiredDocument, Understood]:
    document = DesiredDocument.model_validate_json(data)
    try:
        holding.check_signature(key, document, trusted)
        return document, holding.understood_of(key, document)
    except DocumentRefused as error:
        raise LastGoodRefused(error.reason, error.message) from error


def _checksum(key: str, place: str, epoch: int, revision: int, data: bytes) -> bytes:
    return hashlib.sha256(f"{key}\0{place}\0{epoch}\0{revision}\0".encode() + data).digest()


def _share(checksum: bytes) -> int:
    return int.from_bytes(checksum[:16], "big")


def _total(sums: Mapping[Slot, int]) -> str:
    return documents.hash_text(documents.add_members(0, sums.values()))


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
