"""One OpenAPI document of everything that is live, merged from what each module's application says of itself.

Each module's part is made once per instance; the merged bytes once per snapshot; both in a thread, when somebody asks.
Paths get the module's prefix, operation ids and component names the module's name, so that nothing collides; guarded
operations say that they need a token.  Pure but for asking FastAPI; called by `dataplane.gateway.pages`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dataplane.gateway.serving import Served
from dataplane.gateway.snapshots import Snapshot
from schemas.meta import Json

_COMPONENTS: Final = "#/components/"
_SECURITY: Final = {"modplaneBearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


def merged(snapshot: Snapshot, version: str) -> tuple[bytes, str]:
    """The document's bytes and its ETag."""
    paths: Json = {}
    components: dict[str, Json] = {}
    tags: list[Json] = []
    for name in sorted(snapshot.modules):
        served = snapshot.modules[name]
        if served.instance is None:
            continue
        part = fragment(served)
        for path, operations in part["paths"].items():
            paths.setdefault(path, {}).update(operations)
        for kind, entries in part["components"].items():
            components.setdefault(kind, {}).update(entries)
        tags.append({"name": name, "description": served.desired.display_name or name})
    components.setdefault("securitySchemes", {}).update(_SECURITY)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "modplane: live module routes", "version": version},
        "paths": paths,
        "components": components,
        "tags": tags,
    }
    body = json.dumps(document, ensure_ascii=False).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def fragment(served: Served) -> Json:
    """One module's part; kept on ``served``."""
    if served.fragment is None:
        served.fragment = _fragment(served)
    return served.fragment


def _fragment(served: Served) -> Json:
    assert served.app is not None, "only a module that serves has a fragment"
    own = served.app.openapi()
    guarded = {
        (method.lower(), _documented(route.path))
        for route in served.routes
        if route.target.guarded
        for method in route.methods
    }
    paths: Json = {}
    for path, item in _renamed(own.get("paths", {}), served.name).items():
        operations = dict(item)
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                operations[method] = _operation(operation, served, (method, path) in guarded)
        paths[served.prefix + path] = operations
    components = {
        kind: {_name(served.name, key): _renamed(value, served.name) for key, value in entries.items()}
        for kind, entries in own.get("components", {}).items()
    }
    return {"paths": paths, "components": components}


def _operation(operation: Json, served: Served, guarded: bool) -> Json:
    changed = operation | {"tags": [served.name, *operation.get("tags", [])]}
    if "operationId" in operation:
        changed["operationId"] = f"{served.name}__{operation['operationId']}"
    if guarded:
        changed["security"] = [{"modplaneBearer": []}]
        changed["responses"] = {"401": {"description": "No valid token"}} | operation["responses"]
    return changed


def _documented(template: str) -> str:
    """A Starlette template as OpenAPI writes it: without converters."""
    return "/".join(
        part.split(":", 1)[0] + "}" if part.startswith("{") and ":" in part else part for part in template.split("/")
    )


def _name(module: str, component: str) -> str:
    return f"{module}.{component}"


def _renamed(value: Any, module: str) -> Any:
    """``value`` with every reference into the components, and every security scheme's name, made the module's own."""
    if isinstance(value, Mapping):
        return {key: _reference(key, each, module) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, module) for each in value]
    return value


def _reference(key: str, value: Any, module: str) -> Any:
    if key == "$ref" and isinstance(value, str) and value.startswith(_COMPONENTS):
        kind, _, component = value.removeprefix(_COMPONENTS).partition("/")
        return f"{_COMPONENTS}{kind}/{_name(module, component)}"
    if key == "mapping" and isinstance(value, Mapping):
        return {name: _reference("$ref", target, module) for name, target in value.items()}
    if key == "security" and isinstance(value, list):
        return [{_name(module, scheme): scopes for scheme, scopes in _pairs(each)} for each in value]
    return _renamed(value, module)


def _pairs(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, Mapping) else ()
