"""A row is a manifest: plain SQL applies, changes and deletes modules."""

import json

import pytest

from tests.doubles.platform import Platform, module_source, wait_for

pytestmark = pytest.mark.processes


def test_insert_update_and_delete_by_sql_become_a_module_change_and_go(platform: Platform) -> None:
    (platform.modules / "by_row.py").write_text(module_source("by_row"))
    database = platform.database()
    database.execute(
        "INSERT INTO analytics_modules (id, name, module_type, entry_point)"
        " VALUES ('by_row', 'By Row', 'core', 'by_row:ByRowModule')"
    )
    platform.wait_state("by-row", "ACTIVE")
    assert platform.call("v1/by-row/hello").status_code == 200
    stored = platform.object("modules", "by-row")
    assert stored is not None
    assert stored["spec"]["displayName"] == "By Row"
    assert "sql" in {field["manager"] for field in stored["metadata"]["managedFields"]}

    database.execute("UPDATE analytics_modules SET description = 'told by a row' WHERE id = 'by_row'")
    wait_for(
        lambda: (platform.object("modules", "by-row") or {})["spec"].get("description") == "told by a row", timeout=5
    )

    database.execute("UPDATE analytics_modules SET module_type = 'nonsense' WHERE id = 'by_row'")
    platform.wait_state("by-row", "ERROR")
    assert platform.call("v1/by-row/hello").status_code == 200
    (error,) = database.execute("SELECT sync_error FROM analytics_modules WHERE id = 'by_row'").fetchone()
    assert "nonsense" in error
    assert platform.state("my-module") == "ACTIVE"

    database.execute("UPDATE analytics_modules SET module_type = 'analytics' WHERE id = 'by_row'")
    platform.wait_state("by-row", "ACTIVE")

    database.execute("DELETE FROM analytics_modules WHERE id = 'by_row'")
    platform.wait_state("by-row", None)
    assert platform.call("v1/by-row/hello").status_code == 404
    database.close()

    def recorded() -> list[tuple[str, str, str]]:
        said = platform.cli("audit", "-o", "json").splitlines()
        kept = [record for record in map(json.loads, said) if record.get("resource") == "Module/by-row"]
        return [(record["manager"], record["verb"], record["reason"]) for record in kept]

    written = [("sql", verb, "Done") for verb in ("created", "configured", "configured", "deleted")]
    wait_for(lambda: recorded() == [*written[:2], ("sql", "refused", "RowRejected"), *written[2:]], what=recorded)


def test_what_the_api_writes_stands_in_the_row(platform: Platform) -> None:
    database = platform.database()
    row = database.execute(
        "SELECT name, module_type, entry_point, version FROM analytics_modules WHERE id = 'my_module'"
    ).fetchone()
    stored = platform.object("modules", "my-module")
    assert stored is not None
    assert row[1:] == (stored["spec"]["type"], stored["spec"]["entryPoint"], stored["spec"]["version"])
    database.close()


def test_an_access_row_is_a_module_access(platform: Platform) -> None:
    database = platform.database()
    database.execute(
        "INSERT INTO organisation_modules (id, organisation_id, module_id, is_enabled)"
        " VALUES ('acme-mine', 'acme', 'my_module', 1)"
    )
    found = wait_for(lambda: platform.object("moduleaccesses", "acme-mine"), timeout=30)
    assert (found["spec"]["organisation"], found["spec"]["enabled"]) == ("acme", True)
    database.execute("DELETE FROM organisation_modules WHERE id = 'acme-mine'")
    wait_for(lambda: platform.object("moduleaccesses", "acme-mine") is None, timeout=30)
    database.close()
