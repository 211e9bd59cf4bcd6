"""People's SQL, on the database file itself, through connections that are not ours."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane import errors, intaking, writing
from controlplane.admission import owning
from controlplane.discovery import rows
from controlplane.store import transactions
from controlplane.store.records import Lease, RowEdit
from schemas import names
from schemas.kits.clocks import SystemClock
from tests.controlplane.discovery.conftest import World
from tests.doubles import sources
from tests.doubles.polling import until


@contextlib.contextmanager
def database(world: World) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(world.folder / "modplane.db", isolation_level=None, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def sql(world: World, statement: str) -> list[tuple[object, ...]]:
    with database(world) as connection:
        return connection.execute(statement).fetchall()


INSERT = (
    "INSERT INTO analytics_modules (id, name, module_type, entry_point)"
    " VALUES ('small', 'Small', 'core', 'small:Small')"
)


async def test_an_inserted_row_is_a_module_applied_by_sql(world: World) -> None:
    sources.write(world.modules, {"small.py": sources.SMALL})
    sql(world, INSERT)
    assert await world.rows.sweep() == 1
    record = await world.module("small")
    assert (record.spec["displayName"], record.spec["entryPoint"]) == ("Small", "small:Small")
    assert owning.owners_of(record.managed_fields, "spec.entryPoint") == [names.MANAGER_SQL]
    assert record.spec["source"]["digest"].startswith("sha256:")
    assert record.finalizers == (names.FINALIZER,)
    assert world.woken == ["small"]
    assert await world.rows.sweep() == 0


async def test_an_update_changes_what_the_person_changed_and_nothing_else(world: World) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "UPDATE analytics_modules SET description = 'told by a row', default_config = '{\"n\": 2}'")
    await world.rows.sweep()
    record = await world.module("small")
    assert (record.spec["description"], record.spec["config"], record.generation) == ("told by a row", {"n": 2}, 2)


async def test_a_deleted_row_is_a_deletion_with_finalizers(world: World) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "DELETE FROM analytics_modules")
    await world.rows.sweep()
    assert (await world.module("small")).deleting
    assert sql(world, "SELECT error FROM row_edits WHERE error IS NOT NULL") == []


async def test_a_row_inserted_again_waits_until_the_old_object_is_gone(world: World) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    before = await world.module("small")
    sql(world, "DELETE FROM analytics_modules")
    sql(world, INSERT.replace("'Small'", "'Second'"))
    sql(world, "UPDATE analytics_modules SET description = 'second'")
    sql(world, INSERT.replace("small", "other"))
    assert await world.rows.sweep() == 2
    assert not await world.absent("other")
    assert (await world.module("small")).uid == before.uid
    leaving = await world.module("small")
    await world.store.write(lambda tx: tx.remove(leaving))
    assert await world.rows.sweep() == 2
    after = await world.module("small")
    assert after.uid != before.uid
    assert (after.spec["displayName"], after.spec["description"]) == ("Second", "second")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("module_type", "'nonsense'", "nonsense"),
        ("default_config", "'{broken'", "column default_config is not JSON"),
        ("entry_point", "'os:system'", "module of Python itself"),
        ("version", "'one'", "semantic version"),
        ("spec", "'{\"nosuch\": 1}'", "nosuch"),
        ("description", "CAST(zeroblob(100000) AS TEXT)", ""),
    ],
)
async def test_nonsense_in_a_row_fails_that_row_alone_and_is_told_in_it(
    world: World, column: str, value: str, message: str
) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, f"UPDATE analytics_modules SET {column} = {value}")
    sql(world, INSERT.replace("small", "other"))
    await world.rows.sweep()
    assert (await world.module("small")).generation == 1
    assert not await world.absent("other")
    ((told,),) = sql(world, "SELECT sync_error FROM analytics_modules WHERE id = 'small'")
    if message:
        assert message in str(told)
        sql(
            world,
            f"UPDATE analytics_modules SET {column} = DEFAULT" if False else INSERT.replace("INSERT", "REPLACE", 1),
        )
        await world.rows.sweep()
        ((told,),) = sql(world, "SELECT sync_error FROM analytics_modules WHERE id = 'small'")
        assert told is None


async def test_correcting_a_row_takes_the_whole_row(world: World) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "UPDATE analytics_modules SET module_type = 'nonsense', description = 'new'")
    await world.rows.sweep()
    sql(world, "UPDATE analytics_modules SET module_type = 'analytics'")
    await world.rows.sweep()
    record = await world.module("small")
    assert (record.spec["type"], record.spec["description"]) == ("analytics", "new")
    assert sql(world, "SELECT sync_error FROM analytics_modules") == [(None,)]


async def test_a_row_that_was_nonsense_from_the_start_can_be_corrected_or_deleted(world: World) -> None:
    sql(world, INSERT.replace("'core'", "'nonsense'"))
    sql(world, INSERT.replace("small", "other").replace("'core'", "'nonsense'"))
    await world.rows.sweep()
    assert await world.absent("small")
    sql(world, "UPDATE analytics_modules SET module_type = 'core' WHERE id = 'small'")
    sql(world, "DELETE FROM analytics_modules WHERE id = 'other'")
    await world.rows.sweep()
    assert (await world.module("small")).spec["type"] == "core"
    assert await world.absent("other")


async def test_a_renamed_row_is_one_module_gone_and_another_come(world: World) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "UPDATE analytics_modules SET id = 'renamed'")
    await world.rows.sweep()
    assert (await world.module("small")).deleting
    assert (await world.module("renamed")).spec["entryPoint"] == "small:Small"


async def test_access_rows_are_module_accesses(world: World) -> None:
    sql(
        world,
        "INSERT INTO organisation_modules (id, organisation_id, module_id) VALUES ('acme-small', 'acme', 'small')",
    )
    await world.rows.sweep()
    record = await world.module("acme-small", "ModuleAccess")
    assert (record.spec["organisation"], record.spec["module"], record.spec["enabled"]) == ("acme", "small", True)
    sql(world, "UPDATE organisation_modules SET is_enabled = 0, configuration = '{\"a\": 1}'")
    await world.rows.sweep()
    record = await world.module("acme-small", "ModuleAccess")
    assert (record.spec["enabled"], record.spec["configuration"]) == (False, {"a": 1})
    revision = world.store.revision
    sql(world, "UPDATE organisation_modules SET access_count = access_count + 1")
    assert await world.rows.sweep() == 0
    assert world.store.revision == revision
    sql(world, "DELETE FROM organisation_modules")
    await world.rows.sweep()
    assert await world.absent("acme-small", "ModuleAccess")


async def test_what_we_write_ourselves_is_nobodys_edit(world: World) -> None:
    document = {
        "apiVersion": names.API_VERSION,
        "kind": "Module",
        "metadata": {"name": "small"},
        "spec": {"entryPoint": "small:Small"},
    }
    await world.writer.apply([document], manager="ann")
    await world.writer.delete("Module", "small")
    assert await world.rows.sweep() == 0


async def test_another_process_is_heard_within_two_seconds(world: World) -> None:
    running = asyncio.create_task(world.rows.run())
    script = (
        f"import sqlite3; c = sqlite3.connect({str(world.folder / 'modplane.db')!r}); c.execute({INSERT!r}); c.commit()"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=True)
    started = time.monotonic()

    await until(lambda: bool(world.woken), timeout=30)
    assert not await world.absent("small")
    assert time.monotonic() - started < 2
    running.cancel()


async def test_a_thousand_rows_are_taken_in_one_sweep(world: World) -> None:
    with database(world) as connection:
        connection.execute("BEGIN")
        for number in range(1_000):
            connection.execute(INSERT.replace("small", f"small_{number}"))
        connection.execute("COMMIT")
    started = time.monotonic()
    assert await world.rows.sweep() == 1_000
    assert time.monotonic() - started < 10
    assert await world.store.read(lambda reading: reading.count("Module")) == 1_000


async def test_a_leader_of_the_past_settles_nothing(world: World) -> None:

    await world.store.write(lambda tx: tx.put_lease(Lease("b", 2, 1)))
    writer = writing.Writer(world.store, SystemClock(), world.discovery, epoch=lambda: 1)
    past = rows.RowEdits(world.store, writer, SystemClock())
    sql(world, INSERT)
    with pytest.raises(errors.Fenced):
        await past.sweep()
    assert await world.rows.sweep() == 1


async def test_a_fault_of_ours_fails_that_edit_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write = world.writer.write

    async def faulty(writes: list[intaking.Write], **more: Any) -> Any:
        if any(each.name == "small" for each in writes):
            raise RuntimeError("a bug")
        return await write(writes, **more)

    monkeypatch.setattr(world.writer, "write", faulty)
    sql(world, INSERT)
    sql(world, INSERT.replace("small", "other"))
    assert await world.rows.sweep() == 2
    assert not await world.absent("other")
    ((told,),) = sql(world, "SELECT sync_error FROM analytics_modules WHERE id = 'small'")
    assert "RuntimeError: a bug" in str(told)


async def test_a_store_in_trouble_is_nobodys_nonsense(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "DELETE FROM analytics_modules")

    async def busy(*_: Any, **__: Any) -> Any:
        raise errors.StoreBusy("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(world.writer, "write", busy)
        with pytest.raises(errors.StoreBusy):
            await world.rows.sweep()
    assert await world.rows.sweep() == 1
    assert (await world.module("small")).deleting


async def test_an_edit_and_its_settling_are_one_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(world, INSERT)
    await world.rows.sweep()
    sql(world, "DELETE FROM analytics_modules")
    before = world.store.revision
    settle = transactions.Transaction.settle_row_edit

    def interrupted(self: transactions.Transaction, edit: RowEdit, error: str | None) -> None:
        settle(self, edit, error)
        raise errors.StoreBusy("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(transactions.Transaction, "settle_row_edit", interrupted)
        with pytest.raises(errors.StoreBusy):
            await world.rows.sweep()
    assert not (await world.module("small")).deleting
    assert world.store.revision == before
    assert await world.rows.sweep() == 1
    leaving = await world.module("small")
    assert leaving.deleting
    await world.store.write(lambda tx: tx.remove(leaving))
    sql(world, INSERT)
    assert await world.rows.sweep() == 1
    assert await world.rows.sweep() == 0
    assert not (await world.module("small")).deleting


def test_groups_keep_the_order_of_each_row() -> None:

    def edit(number: int, operation: str, row: str) -> RowEdit:
        return RowEdit(number, "analytics_modules", operation, row, None, None)

    edits = [
        edit(1, "INSERT", "a"),
        edit(2, "INSERT", "b"),
        edit(3, "INSERT", "a"),
        edit(4, "UPDATE", "a"),
        edit(5, "INSERT", "c"),
        edit(6, "DELETE", "c"),
    ]
    groups = [[found.id for found in group] for group in rows._groups(edits)]
    assert groups == [[1, 2], [3], [4], [5], [6]]


NONSENSE = {
    "[" * 30_000: "nested too deep",
    '{"a": ' + "[" * 40 + "]" * 40 + "}": "deeper than 32 levels",
    '{"a": ' + "7" * 5_000 + "}": "more than 60 characters",
    '{"a": NaN}': "NaN is no JSON number",
    '{"a": 1, "a": 2}': "'a' stands twice",
    '{"a": "' + "x" * 70_000 + '"}': "has 70,009 characters",
    '{"a": "\\u0000"}': "U+0000",
    '{"a": "secret://No Name"}': "/spec/config/a",
    "[1]": "has to hold a JSON object",
    "{": "is not JSON",
}


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: str(text)[:20])
async def test_nonsense_in_a_column_fails_that_row_alone_with_the_limits_of_a_manifest(world: World, text: str) -> None:
    with database(world) as connection:
        for name, config in (("good", "{}"), ("bad", text), ("also-good", "{}")):
            connection.execute(
                "INSERT INTO analytics_modules (id, name, module_type, entry_point, default_config)"
                " VALUES (?, 'x', 'core', 'small:Small', ?)",
                (name, config),
            )
    assert await world.rows.sweep() == 3
    error = await world.store.read(lambda reading: reading.row_error("bad"))
    assert error is not None
    assert NONSENSE[text] in error
    assert (await world.module("good")).spec["config"] == {}
    assert (await world.module("also-good")).spec["config"] == {}
    assert await world.store.read(lambda reading: reading.get("Module", "bad")) is None
