"""Opening a database: what can be wrong with it, and what the message says."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import psycopg
import pytest

from controlplane import errors
from controlplane.store import migrating, stores
from schemas.kits.clocks import SystemClock
from tests.doubles import records
from tests.doubles.databases import opened, sqlite_url


async def refused(url: str, match: str, data_dir: Path | None = None) -> None:
    with pytest.raises(errors.StoreUnusable, match=match):
        await stores.open_store(url, clock=SystemClock(), data_dir=data_dir)


async def test_a_new_store_makes_its_folder_and_a_private_file(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path / 'deep' / 'er' / 'm.db'}") as store:
        assert len(store.id) == 36
        assert store.revision == 0
        assert store.url.endswith("/deep/er/m.db")
        await store.write(lambda tx: tx.put(records.module()))
        for file in (tmp_path / "deep" / "er").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_a_store_keeps_its_id_and_what_it_holds(empty_database_url: str) -> None:
    async with opened(empty_database_url) as store:
        first = store.id
        await store.write(lambda tx: tx.put(records.module()))
    async with opened(empty_database_url) as again:
        assert (again.id, again.revision) == (first, 1)
        assert await again.read(lambda reading: reading.count("Module")) == 1


async def test_two_stores_that_open_at_once_make_one_database(empty_database_url: str) -> None:
    one, two = await asyncio.gather(*(stores.open_store(empty_database_url, clock=SystemClock()) for _ in range(2)))
    assert one.id == two.id
    await one.close()
    await two.close()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite://", "has to be a file"),
        ("sqlite:///:memory:", "has to be a file"),
        ("mysql://host/db", "'mysql' are not supported"),
        ("nonsense", "not a database URL"),
    ],
)
async def test_an_unknown_database_is_refused(url: str, match: str) -> None:
    await refused(url, match)


async def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    await refused(f"sqlite:///{tmp_path}/file/m.db", "cannot make the folder .*choose another place")
    await refused(sqlite_url(tmp_path), "cannot make the folder", data_dir=tmp_path / "file" / "data")
    (tmp_path / "folder.db").mkdir()
    await refused(f"sqlite:///{tmp_path}/folder.db", "for writing: Is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_rights_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    await refused(sqlite_url(folder), "give this user the right")


async def test_a_folder_that_only_reads_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.store.opening.os.access", lambda path, mode: False)
    await refused(sqlite_url(tmp_path), "SQLite keeps its journal there")


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "modplane.db").write_text("my shopping list")
    await refused(sqlite_url(tmp_path), "is not an SQLite database; move it away")
    assert (tmp_path / "modplane.db").read_text() == "my shopping list"


async def test_another_programs_tables_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "modplane.db") as connection:
        connection.execute("CREATE TABLE changes (a)")
    connection.close()
    await refused(sqlite_url(tmp_path), "tables of another program .*'changes'")


async def test_a_damaged_file_is_not_used(tmp_path: Path) -> None:
    async with opened(sqlite_url(tmp_path)) as store:
        await store.write(lambda tx: [tx.put(records.module(f"m-{number}")) for number in range(200)] and None)
    path = tmp_path / "modplane.db"
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(content)
    await refused(sqlite_url(tmp_path), "is damaged .*Keep a copy of it, then restore a backup")


async def test_a_damaged_header_is_not_used(tmp_path: Path) -> None:
    async with opened(sqlite_url(tmp_path)):
        pass
    path = tmp_path / "modplane.db"
    content = bytearray(path.read_bytes())
    content[16:100] = b"\xff" * 84
    path.write_bytes(content)
    await refused(sqlite_url(tmp_path), "is damaged")


async def test_a_newer_schema_is_not_touched(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(lambda tx: tx.put_inspection("k", {}))
    set_version(database_url, "9999")
    await refused(database_url, r"written by a newer modplane \(schema 9999")
    set_version(database_url, migrating.HEAD)
    async with opened(database_url) as store:
        assert await store.read(lambda reading: reading.inspection("k")) == {}


async def test_a_held_file_says_who_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.store.engines.BUSY_SECONDS", 0)
    monkeypatch.setattr("controlplane.store.engines._PRAGMAS", ("busy_timeout=20",))
    other = sqlite3.connect(tmp_path / "modplane.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    await refused(sqlite_url(tmp_path), "held by another process .*stop that process")
    other.close()


@pytest.mark.postgres
async def test_a_postgres_that_does_not_answer_says_so(tmp_path: Path) -> None:
    await refused(f"postgresql://nobody:secret@/db?host={tmp_path}", "check that the server runs")
    with pytest.raises(errors.StoreUnusable) as caught:
        await stores.open_store(f"postgresql://nobody:secret@/db?host={tmp_path}", clock=SystemClock())
    assert "secret" not in str(caught.value)


def set_version(url: str, version: str) -> None:
    statement = f"UPDATE modplane_schema SET version_num = '{version}'"
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(url) as server:
            server.execute(statement)
