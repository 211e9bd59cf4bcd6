"""The mirror tables as people meet them: through plain SQL."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from controlplane import errors
from controlplane.store import engines, mirrors, readings, stores, transactions
from controlplane.store.records import Record, RowEdit
from tests.doubles import records

INSERT = "INSERT INTO analytics_modules (id, name, module_type, entry_point) VALUES ('my_mod', 'My', 'core', 'm:M')"


class Person:
    """Somebody with an SQL prompt."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def run(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    def rows(self, table: str = "analytics_modules") -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            return all_rows(connection, table)


def all_rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id")).mappings()]


@pytest.fixture
def person(database_url: str, store: stores.Store) -> Iterator[Person]:
    engine = create_engine(engines.parse(database_url))
    yield Person(engine)
    engine.dispose()


async def edits(store: stores.Store) -> list[RowEdit]:
    return await store.read(lambda reading: reading.row_edits(100))


async def put(store: stores.Store, record: Record) -> Record:
    return await store.write(lambda tx: tx.put(record))


def settled(edit: RowEdit, error: str | None) -> Callable[[transactions.Transaction], None]:
    return lambda tx: tx.settle_row_edit(edit, error)


async def test_our_own_writes_queue_nothing(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module(config={"a": 1}))
    record = await put(store, records.changed(record, version="2.0.0"))
    access = await put(store, records.access())
    (row,) = person.rows()
    assert (row["id"], row["version"], row["synced_revision"]) == ("analytics_core", "2.0.0", 2)
    (grant,) = person.rows("organisation_modules")
    assert (grant["id"], grant["organisation_id"], grant["access_count"]) == ("acme--analytics-core", "acme", 0)
    await store.write(lambda tx: [tx.remove(record), tx.remove(access)])
    assert person.rows() == person.rows("organisation_modules") == []
    assert await edits(store) == []


async def test_an_inserted_row_is_an_edit_with_every_default(store: stores.Store, person: Person) -> None:
    person.run(INSERT)
    (edit,) = await edits(store)
    assert (edit.table, edit.operation, edit.row_id, edit.old) == ("analytics_modules", "INSERT", "my_mod", None)
    assert edit.new is not None
    assert edit.new["version"] == "0.0.0"
    assert mirrors.module_manifest(edit.new)["spec"] == {"displayName": "My", "type": "core", "entryPoint": "m:M"}


async def test_an_updated_row_is_an_edit_with_both_sides(store: stores.Store, person: Person) -> None:
    await put(store, records.module(config={"a": 1}))
    person.run("UPDATE analytics_modules SET default_config = '{\"a\": 2}' WHERE id = 'analytics_core'")
    (edit,) = await edits(store)
    assert edit.operation == "UPDATE"
    assert edit.old is not None
    assert edit.new is not None
    assert mirrors.module_patch(edit.old, edit.new) == {"spec": {"config": {"a": 2}}}


async def test_a_deleted_row_is_an_edit_and_the_object_stays(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module())
    person.run("DELETE FROM analytics_modules")
    (edit,) = await edits(store)
    assert (edit.operation, edit.row_id, edit.new) == ("DELETE", "analytics_core", None)
    assert await store.read(lambda reading: reading.get("Module", record.name)) == record


async def test_edits_come_in_order_until_they_are_settled(store: stores.Store, person: Person) -> None:
    person.run(INSERT)
    person.run("UPDATE analytics_modules SET description = 'x'")
    person.run("DELETE FROM analytics_modules")
    listed = await edits(store)
    assert [edit.operation for edit in listed] == ["INSERT", "UPDATE", "DELETE"]
    await store.write(lambda tx: tx.settle_row_edit(listed[0], None))
    assert await edits(store) == listed[1:]
    assert await store.read(lambda reading: reading.row_edits(1)) == listed[1:2]


async def test_a_refusal_stands_beside_the_row_and_queues_nothing(store: stores.Store, person: Person) -> None:
    person.run(INSERT)
    for _ in range(2):
        (edit,) = await edits(store)
        await store.write(settled(edit, "entryPoint: no such module"))
        assert person.rows()[0]["sync_error"] == "entryPoint: no such module"
        assert await store.read(lambda reading: reading.row_error("my-mod")) == "entryPoint: no such module"
        assert await edits(store) == []
        person.run("UPDATE analytics_modules SET description = description || '!'")
    (edit,) = await edits(store)
    await store.write(lambda tx: tx.settle_row_edit(edit, None))
    assert person.rows()[0]["sync_error"] is None
    assert await store.read(lambda reading: reading.row_error("my-mod")) is None
    assert await store.read(lambda reading: reading.row_error("nobody")) is None


async def test_the_object_takes_over_the_row_that_it_came_from(store: stores.Store, person: Person) -> None:
    person.run(INSERT.replace("my_mod", "my-mod_x"))
    (edit,) = await edits(store)
    await store.write(settled(edit, "refused"))
    await put(store, records.module("my-mod-x"))
    (row,) = person.rows()
    assert (row["id"], row["version"], row["sync_error"], row["synced_revision"]) == ("my-mod_x", "1.0.0", None, 1)
    assert await edits(store) == []


async def test_one_module_has_one_row_in_any_spelling(store: stores.Store, person: Person) -> None:
    person.run(INSERT)
    with pytest.raises(Exception, match=r"(?i)unique"):
        person.run(INSERT.replace("my_mod", "my-mod"))


async def test_a_row_that_was_made_anew_outlives_the_old_object(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module("my-mod"))
    person.run("DELETE FROM analytics_modules")
    person.run(INSERT)
    await store.write(lambda tx: tx.remove(record))
    assert [row["id"] for row in person.rows()] == ["my_mod"]
    assert [edit.operation for edit in await edits(store)] == ["DELETE", "INSERT"]


async def test_status_alone_leaves_the_row_alone(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module())
    person.run("UPDATE analytics_modules SET description = 'a refused edit'")
    await put(store, replace(record, status={"state": "ACTIVE"}))
    assert person.rows()[0]["description"] == "a refused edit"


async def test_routes_appear_in_the_row(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module())
    await put(store, replace(record, status={"routes": [{"method": "GET", "path": "/a", "auth": "NONE"}]}))
    assert person.rows()[0]["api_endpoints"] == '[{"method": "GET", "path": "/a", "auth": "NONE"}]'
    assert await edits(store) == []


async def test_an_object_that_is_being_deleted_does_not_bring_its_row_back(store: stores.Store, person: Person) -> None:
    record = await put(store, records.module())
    person.run("DELETE FROM analytics_modules")
    record = await put(store, replace(record, deleted_at=records.BORN))
    await put(store, replace(record, status={"routes": [{"method": "GET", "path": "/a", "auth": "NONE"}]}))
    assert person.rows() == []


async def test_counters_are_nobodys_manifest(store: stores.Store, person: Person) -> None:
    await put(store, records.access())
    person.run("UPDATE organisation_modules SET access_count = 5, last_accessed_at = CURRENT_TIMESTAMP")
    assert await edits(store) == []
    person.run("UPDATE organisation_modules SET is_enabled = false")
    (edit,) = await edits(store)
    assert edit.old is not None
    assert edit.new is not None
    assert mirrors.access_patch(edit.old, edit.new) == {"spec": {"enabled": False}}
    access = await store.read(lambda reading: reading.get("ModuleAccess", "acme--analytics-core"))
    assert access is not None
    await put(store, records.changed(access, configuration={"k": 1}))
    assert person.rows("organisation_modules")[0]["access_count"] == 5


async def test_an_organisation_has_one_access_to_a_module(store: stores.Store) -> None:
    await put(store, records.access())
    stands = store.revision
    with pytest.raises(errors.Invalid, match="ModuleAccess 'acme--analytics-core'"):
        await put(store, records.access(name="another"))
    assert store.revision == stands


async def test_what_no_table_mirrors_is_settled_too(store: stores.Store, person: Person) -> None:
    person.run(
        "INSERT INTO row_edits (table_name, operation, row_id, row_name) VALUES ('elsewhere', 'INSERT', 'a', 'a')"
    )
    (edit,) = await edits(store)
    await store.write(lambda tx: tx.settle_row_edit(edit, "unknown table"))
    assert await edits(store) == []


async def test_a_reading_cannot_write(store: stores.Store) -> None:
    def write(reading: readings.Reading) -> None:
        reading.ask(text("INSERT INTO inspections (key, report, at) VALUES ('a', '{}', '')"))  # type: ignore[arg-type]

    with pytest.raises(errors.StoreError, match=r"(?i)read.?only"):
        await store.read(write)
