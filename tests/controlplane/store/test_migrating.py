"""The migrations build what the tables say."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from controlplane.store import engines, migrating, neighbouring, tables
from schemas import paths
from tests.doubles import records
from tests.doubles.databases import opened, sqlite_url


def test_the_newest_script_is_the_schema_that_the_code_works_on() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.SCRIPTS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrating.HEAD]


def schema(connection: Connection) -> Any:
    """Everything that a schema is made of, but triggers and the version table."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index')"))
        return {name: normal(sql) for name, sql in rows if name != migrating.VERSION_TABLE and sql}
    columns = connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
    )
    indexes = connection.execute(
        text("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    )
    found = {tuple(row) for row in columns} | {tuple(row) for row in indexes}
    return {row for row in found if row[0] != migrating.VERSION_TABLE}


def normal(sql: str) -> list[str]:
    return sorted(filter(None, (part.strip().rstrip(",") for line in sql.splitlines() for part in line.split(", "))))


@pytest.fixture
def twin_url(request: pytest.FixtureRequest, empty_database_url: str, tmp_path: Any) -> str:
    if empty_database_url.startswith("sqlite"):
        (tmp_path / "twin").mkdir()
        return sqlite_url(tmp_path / "twin")
    return str(request.getfixturevalue("postgres_server").empty())


async def test_models_and_migrations_are_one_schema(empty_database_url: str, twin_url: str) -> None:
    async with opened(empty_database_url):
        pass
    migrated, made = engines.make(engines.parse(empty_database_url)), engines.make(engines.parse(twin_url))
    with made.writer.begin() as connection:
        tables.metadata.create_all(connection)
    with migrated.reader.begin() as left, made.reader.begin() as right:
        assert schema(left) == schema(right)
    migrated.dispose()
    made.dispose()


async def test_accesses_from_before_are_found_by_their_organisation(database_url: str) -> None:
    async with opened(database_url) as store:
        await store.write(lambda tx: tx.put(records.access()))
    older = engines.make(engines.parse(database_url))
    with older.writer.begin() as connection:
        connection.execute(text("UPDATE objects SET about = NULL"))
        for table in ("access_counts", "contests", "traces", "trace_steps"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE desired DROP COLUMN traceparent"))
        connection.execute(text(f"UPDATE {migrating.VERSION_TABLE} SET version_num = '0001'"))
    older.dispose()
    async with opened(database_url) as store:
        await store.write(lambda tx: tx.put(records.access(module="pricing")))
        row = await store.read(lambda reading: reading.desired_row("organisation.acme"))
    assert row is not None
    assert list(json.loads(row.payload)["accesses"]) == ["analytics-core", "pricing"]


async def test_an_up_to_date_database_does_not_load_alembic(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database_url):
        pass
    for name in [name for name in sys.modules if name.split(".")[0] == "alembic"]:
        monkeypatch.setitem(sys.modules, name, None)
    async with opened(database_url) as store:
        assert store.revision == 0


def stand_at(url: str, revision: str) -> None:
    """Bring an empty database to an older schema."""
    doors = engines.make(engines.parse(url))
    with doors.writer.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrating.SCRIPTS))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, revision)
    doors.dispose()


async def test_claims_of_the_first_schema_keep_their_holders_and_their_age(empty_database_url: str) -> None:
    stand_at(empty_database_url, "0001")
    doors = engines.make(engines.parse(empty_database_url))
    with doors.writer.begin() as connection:
        for path, module, revision in (("/users/{id}", "old", 3), ("/users", "young", 7)):
            values = f"'v1', 'shop', 'GET', '{paths.path_shape(path)}', '{path}', 'u-{module}', '{module}', {revision}"
            connection.execute(
                text(
                    "INSERT INTO claims (api_version, namespace, method, shape, path, uid, module, revision)"
                    f" VALUES ({values})".replace(":", r"\:")
                )
            )
    doors.dispose()
    before = datetime.now(UTC)
    async with opened(empty_database_url) as store:
        claims = await store.read(lambda reading: reading.claims())
        near = await store.read(lambda reading: neighbouring.claims_near(reading.ask, "v1", "shop", "x", ["/users/me"]))
    assert [(claim.module, claim.path, claim.revision) for claim in claims] == [
        ("old", "/users/{id}", 3),
        ("young", "/users", 7),
    ]
    assert all(claim.at >= before for claim in claims)
    assert [claim.module for claim in near] == ["old"]
