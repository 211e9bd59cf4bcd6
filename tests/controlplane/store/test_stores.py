"""What the store does beside its writes: SQLite's log is brought into the database file by nobody's commit."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from controlplane.store import stores
from controlplane.store.records import Record
from controlplane.store.transactions import Transaction
from tests.doubles import records
from tests.doubles.databases import sqlite_store
from tests.doubles.polling import until


async def test_what_was_committed_reaches_the_database_file_soon_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "CHECKPOINT", 0.01)
    async with sqlite_store(tmp_path) as store:
        for name in ("first", "second"):
            await store.write(partial(put, record=records.module(name)))
            await until(partial(is_in_the_file, tmp_path / "modplane.db", name))


async def test_commits_leave_that_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "CHECKPOINT", 3_600.0)
    async with sqlite_store(tmp_path) as store:
        for number in range(80):  # more pages than SQLite's own threshold
            await store.write(partial(put, record=records.module(f"m-{number}", description="x" * 8_000)))
        assert not is_in_the_file(tmp_path / "modplane.db", "m-0")


def put(tx: Transaction, record: Record) -> Record:
    return tx.put(record)


def is_in_the_file(path: Path, name: str) -> bool:
    """Whether the file holds the object by itself, without its log."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as database:
        try:
            return bool(database.execute("SELECT 1 FROM objects WHERE name = ?", (name,)).fetchall())
        except sqlite3.DatabaseError:  # it is being written just now
            return False
