"""The file of the audit trail: records of all chains in the order in which they came, and what is signed of each chain.

A batch is stored whole, in one transaction that is flushed to the disk, with the checkpoint that covers it; one that
was stored before is nothing new; one that contradicts what is stored is refused (`Forked`).  What is missing in a chain
is stored as a break in what is signed, so a verification knows it.  The oldest records go when the file is too large or
they are too old; where a chain begins since then is signed too.

Always: records are only ever added at the end or taken from the front; hashes are worked out here, never believed.
Blocking, from any thread, one at a time; called by `controlplane.audit.archives`.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from controlplane import errors
from controlplane.audit.sealing import Sealed, Sealer
from schemas.kits import chains
from schemas.kits.chains import Batch, Break, Head, Statement
from schemas.kits.walks import Row

FORMAT: Final = 1
_BUSY_SECONDS: Final = 10.0
_BREAKS_MAX: Final = 1_000
PRUNED: Final = 5_000
"""Records that go at a time."""

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS chains (
    id INTEGER PRIMARY KEY, writer TEXT NOT NULL, boot TEXT NOT NULL, said TEXT NOT NULL, kid TEXT NOT NULL,
    sig TEXT NOT NULL, seq INTEGER NOT NULL, copied INTEGER NOT NULL DEFAULT -1, UNIQUE (writer, boot)
) STRICT;
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chain INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    body TEXT NOT NULL, at TEXT GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN body ->> '$.at' END) VIRTUAL,
    UNIQUE (chain, seq)
) STRICT;
CREATE INDEX IF NOT EXISTS records_at ON records (at);
PRAGMA user_version = {FORMAT};
"""


Lookup: TypeAlias = Callable[[int], bytes | None]
"""The stored hash of a number, None if it is not kept."""


class Forked(Exception):  # noqa: N818 - named for what happened, as in `errors`
    """A batch tells another story than the one that is stored, or is none."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    records: int
    """How many of it were new."""
    lost: int
    """How many its chain lacks before it."""


class Trail:
    """One file."""

    def __init__(self, path: Path, sealer: Sealer) -> None:
        """StoreUnusable when it cannot be opened."""
        self.path = path
        self._sealer = sealer
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise errors.StoreUnusable(
                f"the audit trail {path} cannot be opened ({error}); give its folder room and the right to write, or "
                "move the file away: a new one is begun"
            ) from error

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in {0, FORMAT}:
            raise errors.StoreUnusable(
                f"{self.path} has format {version}, and this program knows {FORMAT}; start the newer program, or move "
                "the file away: a new one is begun"
            )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 4194304"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def add(self, batch: Batch) -> Stored:
        """Store a batch; Forked if it cannot be believed, StoreBusy if it cannot be stored now."""
        with self._lock, self._written():
            known = self._database.execute(
                "SELECT id, said, kid, sig FROM chains WHERE writer = ? AND boot = ?", batch.chain
            ).fetchone()
            sealed = None if known is None else Sealed(*known[1:])
            before = _begun(batch) if sealed is None else self._sealer.opened(sealed)
            if before is None:  # somebody touched the checkpoint: what it covered stays unsigned from now on
                before = Statement(batch.chain, batch.before, batch.before, closed=False)
            return self._follow(batch, before, None if known is None else int(known[0]))

    def _follow(self, batch: Batch, stated: Statement, chain: int | None) -> Stored:
        head, fresh = _fresh(batch, stated.head, self._stored(chain))
        if not fresh:
            return Stored(0, 0)
        lost = max(batch.before.seq - stated.head.seq, 0)
        if lost:
            if len(stated.breaks) >= _BREAKS_MAX:
                raise Forked(
                    f"the chain of batch {batch.id} has more than {_BREAKS_MAX} breaks: its writer is not sane"
                )
            stated = replace(stated, breaks=(*stated.breaks, Break(stated.head.seq, batch.before)))
        closed = stated.closed or b'"kind":"end"' in fresh[-1].body
        stated = replace(stated, head=head, closed=closed)
        chain = self._seal(stated, chain)
        try:
            self._database.executemany(
                "INSERT INTO records (chain, seq, hash, body) VALUES (?, ?, ?, ?)",
                ((chain, row.seq, row.hash, row.body.decode()) for row in fresh),
            )
        except sqlite3.IntegrityError as error:
            raise Forked(f"batch {batch.id} has records that are stored, behind what is signed of its chain") from error
        return Stored(len(fresh), lost)

    def _stored(self, chain: int | None) -> Lookup:
        def look(seq: int) -> bytes | None:
            found = self._database.execute(
                "SELECT hash FROM records WHERE chain = ? AND seq = ?", (chain, seq)
            ).fetchone()
            return None if found is None else bytes(found[0])

        return look

    def _seal(self, stated: Statement, chain: int | None) -> int:
        sealed = self._sealer.seal(stated)
        row = (sealed.said, sealed.kid, sealed.sig, stated.head.seq)
        if chain is not None:
            self._database.execute("UPDATE chains SET said = ?, kid = ?, sig = ?, seq = ? WHERE id = ?", (*row, chain))
            return chain
        made = self._database.execute(
            "INSERT INTO chains (writer, boot, said, kid, sig, seq) VALUES (?, ?, ?, ?, ?, ?)", (*stated.chain, *row)
        )
        assert made.lastrowid is not None, "a row was put in"
        return made.lastrowid

    def prune(self, *, most_bytes: int, oldest: str) -> int:
        """Let some of the oldest records go if the file is too large or they are from before ``oldest`` (RFC 3339)."""
        with self._lock, self._written():
            first = self._database.execute("SELECT id, at FROM records ORDER BY id LIMIT ?", (PRUNED,)).fetchall()
            if self._bytes() <= most_bytes:
                first = first[
                    : next((place for place, (_, at) in enumerate(first) if (at or "") >= oldest), len(first))
                ]
            if not first:
                return 0
            last = int(first[-1][0])
            going = self._database.execute(
                "SELECT chain, max(seq) FROM records WHERE id <= ? GROUP BY chain", (last,)
            ).fetchall()
            for chain, seq in going:
                self._move_base(int(chain), int(seq))
            self._database.execute("DELETE FROM records WHERE id <= ?", (last,))
            return len(first)

    def _move_base(self, chain: int, seq: int) -> None:
        known = self._database.execute("SELECT said, kid, sig FROM chains WHERE id = ?", (chain,)).fetchone()
        stated = None if known is None else self._sealer.opened(Sealed(*known))
        (digest,) = self._database.execute(
            "SELECT hash FROM records WHERE chain = ? AND seq = ?", (chain, seq)
        ).fetchone()
        if stated is not None:
            breaks = tuple(each for each in stated.breaks if each.after >= seq)
            self._seal(replace(stated, base=Head(seq, bytes(digest)), breaks=breaks), chain)

    def uncopied(self, least: int = 1) -> list[Sealed]:
        """Checkpoints that moved on by ``least`` records or more since they were last copied."""
        with self._lock, self._asked():
            found = self._database.execute(
                "SELECT said, kid, sig FROM chains WHERE seq - copied >= ? ORDER BY id", (least,)
            ).fetchall()
        return [Sealed(*row) for row in found]

    def copied(self, sealed: Iterable[Sealed]) -> None:
        """These are in the second place now."""
        said = [chains.statement(each.said) for each in sealed]
        with self._lock, self._written():
            self._database.executemany(
                "UPDATE chains SET copied = ? WHERE writer = ? AND boot = ?", [(s.head.seq, *s.chain) for s in said]
            )

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own that sees one moment; StoreBusy."""
        with self._asked(), contextlib.closing(self._connect()) as database:
            database.execute("PRAGMA query_only = ON")
            database.execute("BEGIN")
            yield database

    def _bytes(self) -> int:
        size, count, free = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(size * (count - free))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        with self._asked():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise errors.StoreBusy(f"the audit trail {self.path} cannot be used now: {error}") from error


def _begun(batch: Batch) -> Statement:
    begin = chains.genesis(batch.chain)
    return Statement(batch.chain, begin, begin, closed=False)


def _fresh(batch: Batch, head: Head, stored: Lookup) -> tuple[Head, list[Row]]:
    """Where the chain stands after a batch, and what of it is new; Forked."""
    at, fresh = batch.before, list[Row]()
    if at.seq == head.seq and at.hash != head.hash:
        raise Forked(f"batch {batch.id} follows on another record {head.seq} than the one that is stored")
    for body in batch.records:
        at = chains.follow(at, body)
        if at.seq <= head.seq:
            kept = head.hash if at.seq == head.seq else stored(at.seq)
            if kept not in {None, at.hash}:
                raise Forked(f"batch {batch.id} has another record {at.seq} than the one that is stored")
        elif chains.belongs(body, batch.chain, at.seq) is None:
            raise Forked(f"batch {batch.id} has a record that does not say that it is its number {at.seq}")
        else:
            fresh.append(Row(0, batch.chain, at.seq, at.hash, body))
    return (at if fresh else head), fresh
