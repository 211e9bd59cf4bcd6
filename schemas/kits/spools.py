"""A spool: one boot's chain of records on disk, until somebody else has them.

Two files in a folder, for one boot of one writer: ``BOOT.db`` (SQLite, every batch of records in one transaction that
is flushed to the disk) and ``BOOT.count``, which is locked while the boot lives and in which it counts what it is given
before anything is written.  So whoever finds a spool that nobody holds knows how many records its end cost, and closes
the chain with a record that says so.

Always: a record leaves the spool only when it is told to (`drop`); the spool never grows beyond its limit, but for the
few records that say what is missing.  Blocking; used from threads, by `schemas.kits.recorders` and whoever sends on.
"""

import contextlib
import fcntl
import mmap
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from schemas.kits import chains
from schemas.kits.chains import Batch, Chain, Head, Json
from schemas.kits.forms import Filled

RECORDS: Final = 500
"""Most records of one batch."""
BYTES: Final = 192 * 1024
"""A batch that has so many bytes is full."""
START: Final = "start"
END: Final = "end"
GAP: Final = "gap"
CRASHED: Final = "Crashed"

Record = Json | Filled
"""One without its place in the chain."""

_NUMBER: Final = struct.Struct("=Q")
_BUSY_SECONDS: Final = 10.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS batches (first INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS state (
    id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL,
    accounted INTEGER NOT NULL, closed INTEGER NOT NULL
) STRICT;
"""


class SpoolError(Exception):
    """A spool cannot be read or written; the message says which and why."""


class Counter:
    """How many records a boot was given, in a file that outlives the process, whatever ends it."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._map = mmap.mmap(file, _NUMBER.size)
        self.cell = memoryview(self._map).cast("Q")
        """The number itself, to be written where each call counts: ``cell[0] = 7``."""

    @classmethod
    def made(cls, path: Path) -> "Counter":
        """A new one, held by this process; OSError."""
        fresh = path.with_suffix(".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(file, _NUMBER.pack(0))
            os.fsync(file)
            fresh.rename(path)
            return cls(path, file)
        except BaseException:
            os.close(file)
            raise

    @classmethod
    def left(cls, path: Path) -> "Counter | None":
        """One whose process is gone, held from now on; None while somebody holds it, or it is no counter."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_size != _NUMBER.size or not path.exists():
                raise ValueError("no counter")
            return cls(path, file)
        except (OSError, ValueError):
            os.close(file)
            return None

    @property
    def count(self) -> int:
        """What was counted."""
        return int(self.cell[0])

    def close(self) -> None:
        """Let go of it."""
        self.cell.release()
        self._map.close()
        os.close(self._file)


class Spool:
    """The records of one chain that are still here."""

    def __init__(self, folder: Path, chain: Chain, counter: Counter) -> None:
        """SpoolError when its database cannot be opened."""
        self.chain = chain
        self.counter = counter
        self.path = folder / f"{chain.boot}.db"
        self.bytes = 0
        """Of the batches that are here."""
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise SpoolError(f"{self.path}: {error}") from error
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 1048576"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_TABLES)
            found = self._database.execute("SELECT seq, hash, accounted, closed FROM state").fetchone()
            (self.bytes,) = self._database.execute("SELECT coalesce(sum(length(body)), 0) FROM batches").fetchone()
        except sqlite3.Error as error:
            self._database.close()
            raise SpoolError(f"{self.path}: {error}") from error
        begin = chains.genesis(chain)
        self.head = begin if found is None else Head(int(found[0]), bytes(found[1]))
        self.accounted = 0 if found is None else int(found[2])
        """What of the count is told in records, or in a gap."""
        self.closed = bool(found and found[3])

    def append(self, records: Sequence[Record], accounted: int, *, closed: bool = False) -> None:
        """Put records behind the chain, flushed to the disk when this returns; SpoolError, then nothing was put."""
        with self._lock:
            head, batches = self._chained(records)
            try:
                with self._transaction():
                    self._database.executemany("INSERT INTO batches VALUES (?, ?)", batches)
                    self._database.execute(
                        "REPLACE INTO state VALUES (1, ?, ?, ?, ?)", (head.seq, head.hash, accounted, closed)
                    )
            except sqlite3.Error as error:
                raise SpoolError(f"{self.path}: {error}") from error
            self.head, self.accounted, self.closed = head, accounted, closed
            self.bytes += sum(len(body) for _, body in batches)

    def oldest(self) -> tuple[Batch, bytes] | None:
        """The batch that has to go first, and its bytes; SpoolError."""
        with self._lock:
            try:
                found = self._database.execute("SELECT body FROM batches ORDER BY first LIMIT 1").fetchone()
                return None if found is None else (chains.decode(found[0]), bytes(found[0]))
            except (sqlite3.Error, chains.UnreadableError) as error:
                raise SpoolError(f"{self.path}: {error}") from error

    def drop(self, batch: Batch) -> None:
        """Somebody else has it now; SpoolError."""
        with self._lock:
            try:
                with self._transaction():
                    (gone,) = self._database.execute(
                        "SELECT length(body) FROM batches WHERE first = ?", (batch.first,)
                    ).fetchone() or (0,)
                    self._database.execute("DELETE FROM batches WHERE first = ?", (batch.first,))
            except sqlite3.Error as error:
                raise SpoolError(f"{self.path}: {error}") from error
            self.bytes -= gone

    def close(self) -> None:
        """Let go of the files; those of a chain that is closed and wholly sent are removed."""
        with self._lock:
            done = self.closed and not self.bytes
            self._database.close()
            if done:
                for suffix in (".db", ".db-wal", ".db-shm"):
                    self.path.with_suffix(suffix).unlink(missing_ok=True)
                self.counter.path.unlink(missing_ok=True)
            self.counter.close()

    def _chained(self, records: Sequence[Record]) -> tuple[Head, list[tuple[int, bytes]]]:
        """Where the chain stands after the records, and their batches: first number and bytes."""
        before, part, size, batches = self.head, list[bytes](), 0, list[tuple[int, bytes]]()
        seq, digest = before
        for record in records:
            seq += 1
            body = self._spelled(record, seq)
            digest = chains.link(digest, body)
            part.append(body)
            size += len(body)
            if len(part) == RECORDS or size >= BYTES:
                batches.append((before.seq + 1, Batch(self.chain, before, part).encode()))
                before, part, size = Head(seq, digest), [], 0
        if part:
            batches.append((before.seq + 1, Batch(self.chain, before, part).encode()))
        return Head(seq, digest), batches

    def _spelled(self, record: Record, seq: int) -> bytes:
        if isinstance(record, Filled):
            return record.form.spell(self.chain, seq, record.values)
        return chains.canonical({**record, **self.chain._asdict(), "seq": seq})

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise


def make(folder: Path, chain: Chain) -> Spool:
    """A new spool, held by this process; SpoolError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        counter = Counter.made(folder / f"{chain.boot}.count")
    except OSError as error:
        raise SpoolError(f"{folder}: {error.strerror or error}") from error
    return Spool(folder, chain, counter)


def left_behind(folder: Path, writer: str, at: str) -> tuple[list[Spool], list[str]]:
    """The spools of earlier boots that nobody holds, each chain closed with what is missing; and those that are broken.

    ``at``: the present moment, for the records that close them.
    """
    spools, broken = [], []
    for path in sorted(folder.glob("*.count")):
        counter = Counter.left(path)
        if counter is None:
            continue
        try:
            spool = Spool(folder, Chain(writer, path.stem), counter)
            if not spool.closed:
                _close(spool, at)
        except SpoolError as error:
            counter.close()
            path.rename(path.with_suffix(".refused"))
            broken.append(str(error))
        else:
            spools.append(spool)
    return spools, broken


def _close(spool: Spool, at: str) -> None:
    """Say how many records the end of the boot cost, and that it ended."""
    lost = max(spool.counter.count - spool.accounted, 0)
    gap = {"kind": GAP, "at": at, "reason": CRASHED, "count": lost}
    end = {"kind": END, "at": at, "reason": CRASHED}
    spool.append([gap, end], spool.accounted + lost, closed=True)
