"""A row is a manifest, and a manifest a row."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import errors
from controlplane.store import mirrors
from tests.doubles import records

FULL = {
    "displayName": "Analytics Core",
    "description": "d",
    "version": "1.2.3",
    "type": "analytics",
    "stage": "testing",
    "entryPoint": "analytics_core:Core",
    "configSchema": {"type": "object"},
    "config": {"a": {"b": 1}},
    "dependencies": [{"name": "core-users", "version": ">=1"}],
    "routing": {"apiVersion": "v2", "namespace": "x"},
    "suspend": True,
}
ROW = {"id": "my_mod", "name": "My", "module_type": "core", "entry_point": "my_mod:My"}


def module(**spec: Any) -> Any:
    return replace(records.module(), spec=spec)


def test_a_module_survives_the_way_into_a_row_and_back() -> None:
    record = replace(module(**FULL), status={"routes": [{"method": "GET", "path": "/a", "auth": "NONE"}]})
    row = mirrors.module_row(record)
    assert (row["id"], row["name"], row["status"]) == ("analytics_core", "Analytics Core", "testing")
    assert row["api_endpoints"] == '[{"method": "GET", "path": "/a", "auth": "NONE"}]'
    assert row["spec"] == '{"routing": {"apiVersion": "v2", "namespace": "x"}, "suspend": true}'
    manifest = mirrors.module_manifest(row)
    assert (manifest["kind"], manifest["metadata"]) == ("Module", {"name": "analytics-core"})
    assert manifest["spec"] == FULL


def test_the_four_columns_are_enough_for_a_manifest() -> None:
    assert mirrors.module_manifest(ROW) == {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": "my-mod"},
        "spec": {"displayName": "My", "type": "core", "entryPoint": "my_mod:My"},
    }


def test_columns_at_their_defaults_claim_nothing() -> None:
    row = {
        **ROW,
        "version": "0.0.0",
        "status": "development",
        "config_schema": "{}",
        "dependencies": "[]",
        "spec": "{}",
    }
    assert mirrors.module_manifest(row) == mirrors.module_manifest(ROW)


def test_dependencies_may_be_plain_names() -> None:
    manifest = mirrors.module_manifest({**ROW, "dependencies": '["core_users", {"name": "b", "version": "^1"}]'})
    assert manifest["spec"]["dependencies"] == [{"name": "core_users"}, {"name": "b", "version": "^1"}]


def test_every_broken_column_is_named_at_once() -> None:
    with pytest.raises(errors.Invalid) as caught:
        mirrors.module_manifest(
            {
                **ROW,
                "default_config": "{nonsense",
                "config_schema": "[]",
                "dependencies": "{}",
                "spec": '{"version": "1"}',
            }
        )
    assert [violation.pointer for violation in caught.value.violations] == [
        "/spec/configSchema",
        "/spec/config",
        "/spec/dependencies",
        "/spec/version",
    ]
    assert "column config_schema has to hold a JSON object" in str(caught.value)
    assert "write this in the column version" in str(caught.value)


def test_a_patch_says_only_what_changed() -> None:
    old = mirrors.module_row(module(**FULL))
    new = {**old, "description": "", "default_config": '{"a": {"c": 2}}', "spec": '{"suspend": false}'}
    assert mirrors.module_patch(old, new) == {
        "spec": {"description": "", "config": {"a": {"b": None, "c": 2}}, "routing": None, "suspend": False}
    }
    assert mirrors.module_patch(old, old) == {}


def test_a_patch_over_nonsense_is_the_whole_row() -> None:
    old = {**ROW, "default_config": "{nonsense"}
    assert mirrors.module_patch(old, ROW)["spec"]["entryPoint"] == "my_mod:My"
    with pytest.raises(errors.Invalid):
        mirrors.module_patch(ROW, old)


def test_an_access_survives_the_way_into_a_row_and_back() -> None:
    record = records.access("acme", "analytics-core", usersAllowed=["ann"], configuration={"k": 1}, enabled=False)
    row = mirrors.access_row(record)
    assert row == {
        "id": "acme--analytics-core",
        "organisation_id": "acme",
        "module_id": "analytics_core",
        "is_enabled": False,
        "configuration": '{"k": 1}',
        "spec": '{"usersAllowed": ["ann"]}',
    }
    assert mirrors.access_manifest(row)["spec"] == record.spec
    assert mirrors.access_patch(row, {**row, "is_enabled": 1}) == {"spec": {"enabled": True}}


def test_a_flag_that_is_no_flag_is_left_to_admission() -> None:
    row = {"id": "a", "organisation_id": "acme", "module_id": "m", "is_enabled": "maybe"}
    assert mirrors.access_manifest(row)["spec"]["enabled"] == "maybe"


def test_text_that_no_database_takes_is_made_harmless() -> None:
    row = mirrors.module_row(module(displayName="a\x00b\ud83d", config={"k": "\ud83d"}))
    for value in row.values():
        assert "\x00" not in value
        value.encode()


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CONFIG = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@given(old=CONFIG, new=CONFIG)
def test_a_patch_makes_the_new_row_of_the_old_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = (mirrors.module_row(module(entryPoint="a:B", config=config)) for config in (old, new))
    patch = mirrors.module_patch(before, after)
    assert merged({"config": old}, patch.get("spec", {})) == {"config": new}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
