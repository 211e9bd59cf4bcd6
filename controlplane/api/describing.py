"""The resource API in OpenAPI v3, as `kubectl` reads it to validate and to explain.

Pure, built once.  `kubectl` needs the group, version and kind on schemas and on the ``patch`` operation, and that
operation's ``fieldValidation`` parameter; only then does it leave validation to the server.  Schemas come from the
models of `schemas`, turned from JSON Schema 2020-12 into the OpenAPI 3.0 dialect.
"""

import functools
import hashlib
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from controlplane.api import answering
from schemas import kinds, names
from schemas.meta import Json

PREFIX: Final = "dev.modplane.v1."
_REFERENCE: Final = "#/components/schemas/" + PREFIX
_ROOT: Final = f"apis/{names.API_VERSION}"

_QUERY: Final = {
    "fieldManager": "Who writes; owners are kept per group of fields.",
    "fieldValidation": "Accepted for clients that send it; unknown fields are always refused (Strict).",
    "dryRun": "All: go the same way, write nothing, answer with the object as it would be.",
    "force": "With an apply: take the field groups that others own. With a delete: also what others require.",
}


def index() -> Json:
    """``/openapi/v3``: which documents there are, under a hash that moves with the content."""
    digest = hashlib.sha256(answering.encode(document())).hexdigest().upper()
    return {"paths": {_ROOT: {"serverRelativeURL": f"/openapi/v3/{_ROOT}?hash={digest}"}}}


@functools.cache
def document() -> Json:
    """``/openapi/v3/apis/modplane.dev/v1``."""
    paths: Json = {}
    for kind in kinds.KINDS:
        base = f"{names.API_PREFIX}/{kind.plural}"
        paths[base] = _collection(kind)
        paths[f"{base}/{{name}}"] = _single(kind)
    return {
        "openapi": "3.0.0",
        "info": {"title": "modplane", "version": names.VERSION},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _collection(kind: kinds.Kind) -> Json:
    operations: Json = {"get": _operation(kind, "list", f"List or watch {kind.plural}.")}
    if kind.writable:
        operations["post"] = _operation(kind, "post", f"Create a {kind.name}.", body=("application/json",), code="201")
    return operations


def _single(kind: kinds.Kind) -> Json:
    operations: Json = {
        "get": _operation(kind, "get", f"Read a {kind.name}."),
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
    }
    if kind.writable:
        patches = ("application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json")
        operations["put"] = _operation(kind, "put", f"Replace a {kind.name}.", body=("application/json",))
        operations["patch"] = _operation(kind, "patch", f"Patch or apply a {kind.name}.", body=patches)
        operations["delete"] = _operation(kind, "delete", f"Delete a {kind.name}.")
    return operations


def _operation(
    kind: kinds.Kind, action: str, description: str, *, body: tuple[str, ...] = (), code: str = "200"
) -> Json:
    schema = {"$ref": _REFERENCE + kind.name}
    operation: Json = {
        "description": description,
        "operationId": f"{action}{kind.name}",
        "responses": {code: {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _group_version_kind(kind.name),
    }
    if body:
        operation["parameters"] = [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in _QUERY.items()
        ]
        operation["requestBody"] = {"required": True, "content": {media: {"schema": schema} for media in body}}
    return operation


def _schemas() -> Json:
    _, found = models_json_schema([(kind.model, "validation") for kind in kinds.KINDS], by_alias=True)
    schemas = {PREFIX + name: _dialect(schema) for name, schema in found["$defs"].items()}
    for kind in kinds.KINDS:
        schemas[PREFIX + kind.name]["x-kubernetes-group-version-kind"] = [_group_version_kind(kind.name)]
    return schemas


def _group_version_kind(kind: str) -> Json:
    return {"group": names.GROUP, "version": names.VERSION, "kind": kind}


def _dialect(schema: Any) -> Any:
    """A JSON Schema 2020-12 node in the words of OpenAPI 3.0."""
    if isinstance(schema, list):
        return [_dialect(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    node = {key: _dialect(value) for key, value in schema.items() if key not in ("title", "$ref", "const", "anyOf")}
    if isinstance(schema.get("properties"), dict):
        node["properties"] = {key: _dialect(value) for key, value in schema["properties"].items()}
    if "const" in schema:
        node["enum"] = [schema["const"]]
    for bound, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(node.get(bound), int | float) and not isinstance(node[bound], bool):
            node |= {plain: node[bound], bound: True}
    if "anyOf" in schema:
        node |= _alternatives(schema["anyOf"])
    if "$ref" in schema:
        node["allOf"] = [{"$ref": schema["$ref"].replace("#/$defs/", _REFERENCE)}]
    return node


def _alternatives(choices: list[Json]) -> Json:
    """``anyOf`` with null becomes ``nullable``."""
    real = [choice for choice in choices if choice.get("type") != "null"]
    merged = _dialect(real[0]) if len(real) == 1 else {"anyOf": [_dialect(choice) for choice in real]}
    return {**merged, "nullable": True} if len(real) < len(choices) else dict(merged)
