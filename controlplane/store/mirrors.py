"""A row is a manifest: how a Module or ModuleAccess stands in its mirror row, and what a row says as a manifest.

Pure.  `controlplane.store.mirroring` writes the rows; `controlplane.discovery.rows` turns people's edits (records
of `controlplane.store.records.RowEdit`) into ordinary writes with `module_manifest` and `module_patch`.  A row of a
trigger has its JSON columns as text; text that is not JSON is an errors.Invalid with the column's name.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from controlplane import errors
from controlplane.store.records import Record
from schemas import names
from schemas.kits import strictjson
from schemas.meta import Json
from schemas.problems import Violation

Row = Mapping[str, Any]

COLUMN_MAX: Final = 64 * 1024
"""Characters of a column: a whole document may have so many bytes."""
_MODULE_TEXTS: Final = {
    "name": "displayName",
    "description": "description",
    "version": "version",
    "module_type": "type",
    "status": "stage",
    "entry_point": "entryPoint",
}
_MODULE_JSON: Final = {
    "config_schema": ("configSchema", dict),
    "default_config": ("config", dict),
    "dependencies": ("dependencies", list),
}
_MODULE_DEFAULTS: Final = {"version": "0.0.0", "stage": "development"}
_MODULE_OWN: Final = {**{field: column for column, field in _MODULE_TEXTS.items()}} | {
    field: column for column, (field, _) in _MODULE_JSON.items()
}
_ACCESS_OWN: Final = {
    "organisation": "organisation_id",
    "module": "module_id",
    "enabled": "is_enabled",
    "configuration": "configuration",
}


def module_row(record: Record) -> dict[str, Any]:
    """The mirror row of a Module, without the columns that keep the row's own life."""
    spec = record.spec
    return {
        "id": names.module_id(record.name),
        "name": _clean(spec.get("displayName") or record.name),
        "description": _clean(spec.get("description", "")),
        "version": _clean(spec.get("version", "0.0.0")),
        "module_type": _clean(spec.get("type", "core")),
        "status": _clean(spec.get("stage", "development")),
        "entry_point": _clean(spec.get("entryPoint", "")),
        "config_schema": _text(spec.get("configSchema", {})),
        "default_config": _text(spec.get("config", {})),
        "dependencies": _text(spec.get("dependencies", [])),
        "api_endpoints": _text(record.status.get("routes", [])),
        "spec": _text({key: value for key, value in spec.items() if key not in _MODULE_OWN}),
    }


def module_manifest(row: Row) -> Json:
    """The manifest that a module row is; columns left at their defaults say nothing.  errors.Invalid: broken JSON."""
    spec = {
        field: value for field, value in _module_spec(row).items() if value and value != _MODULE_DEFAULTS.get(field)
    }
    return _manifest("Module", row, spec)


def module_patch(old: Row, new: Row) -> Json:
    """The merge patch (RFC 7386) of a Module that makes of ``old`` what ``new`` says.

    ``old`` is the edit's old row, or `module_row` of the object as it is now.  errors.Invalid: ``new`` is broken.
    """
    return _patch(_module_spec, old, new)


def access_row(record: Record) -> dict[str, Any]:
    """The mirror row of a ModuleAccess, without counters and the columns that keep the row's own life."""
    spec = record.spec
    return {
        "id": record.name,
        "organisation_id": _clean(spec.get("organisation", "")),
        "module_id": _clean(names.module_id(spec.get("module", ""))),
        "is_enabled": bool(spec.get("enabled", True)),
        "configuration": _text(spec.get("configuration", {})),
        "spec": _text({key: value for key, value in spec.items() if key not in _ACCESS_OWN}),
    }


def access_manifest(row: Row) -> Json:
    """The manifest that an access row is.  errors.Invalid: broken JSON."""
    spec = {field: value for field, value in _access_spec(row).items() if value not in ({}, None)}
    return _manifest("ModuleAccess", row, spec)


def access_patch(old: Row, new: Row) -> Json:
    """The merge patch (RFC 7386) of a ModuleAccess that makes of ``old`` what ``new`` says."""
    return _patch(_access_spec, old, new)


def row_name(row: Row) -> str:
    """The object name of a row."""
    return names.object_name(str(row.get("id", "")))


def created_by(record: Record) -> str:
    """Who made an object, as far as its managers tell."""
    return _clean(record.managed_fields[0].get("manager", "")) if record.managed_fields else ""


def _manifest(kind: str, row: Row, spec: Json) -> Json:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": row_name(row)}, "spec": spec}


def _module_spec(row: Row) -> Json:
    problems: list[Violation] = []
    spec: Json = {field: row[column] for column, field in _MODULE_TEXTS.items() if row.get(column) is not None}
    for column, (field, shape) in _MODULE_JSON.items():
        spec[field] = _json(row, column, field, shape, problems)
    spec["dependencies"] = [{"name": item} if isinstance(item, str) else item for item in spec["dependencies"]]
    return _whole(row, spec, _MODULE_OWN, problems)


def _access_spec(row: Row) -> Json:
    problems: list[Violation] = []
    enabled = row.get("is_enabled", True)
    spec: Json = {
        "organisation": row.get("organisation_id"),
        "module": names.object_name(str(row.get("module_id", ""))),
        "enabled": bool(enabled) if enabled in (0, 1) else enabled,
        "configuration": _json(row, "configuration", "configuration", dict, problems),
    }
    return _whole(row, spec, _ACCESS_OWN, problems)


def _whole(row: Row, spec: Json, own: Mapping[str, str], problems: list[Violation]) -> Json:
    rest = _json(row, "spec", "", dict, problems)
    problems += [
        Violation(pointer=f"/spec/{field}", message=f"write this in the column {own[field]}, not in the column spec")
        for field in rest
        if field in own
    ]
    if problems:
        raise errors.Invalid(problems)
    return {**spec, **rest}


def _json(row: Row, column: str, field: str, shape: type, problems: list[Violation]) -> Any:
    value = row.get(column)
    pointer = f"/spec/{field}" if field else "/spec"
    if isinstance(value, str):
        if len(value) > COLUMN_MAX:
            message = f"column {column} has {len(value):,} characters, but {COLUMN_MAX:,} are allowed"
            problems.append(Violation(pointer=pointer, message=message, reason="DocumentTooLarge"))
            return shape()
        try:
            value = strictjson.decode(value)
        except ValueError as error:
            problems.append(Violation(pointer=pointer, message=f"column {column} is not JSON: {error}"))
            return shape()
    if value is None:
        return shape()
    if not isinstance(value, shape):
        wanted = "a JSON object" if shape is dict else "a JSON list"
        problems.append(Violation(pointer=pointer, message=f"column {column} has to hold {wanted}"))
        return shape()
    return value


def _patch(read: Callable[[Row], Json], old: Row, new: Row) -> Json:
    wanted = read(new)
    try:
        held = read(old)
    except errors.Invalid:
        held = {}
    spec = _difference(held, wanted)
    return {"spec": spec} if spec else {}


def _difference(old: Json, new: Json) -> Json:
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if deeper := _difference(old[key], value):
                patch[key] = deeper
        elif value != old[key] or type(value) is not type(old[key]):
            patch[key] = value
    return patch


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).encode


def _text(value: Any) -> str:
    if not value:  # half of all columns
        if isinstance(value, dict):
            return "{}"
        if isinstance(value, list):
            return "[]"
    return _clean(_encode(value))


def _clean(value: Any) -> str:
    """Text that every database takes: no NUL, no lone surrogates."""
    text = str(value)
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
