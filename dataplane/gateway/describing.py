"""What one module contributes to the OpenAPI document of everything that is live, and how contributions are joined.

A fragment is made from what the module's FastAPI application says of itself, as bytes: joining thousands of them
costs no second encoding.  Operation ids and component names get the module's name in front, so that nothing collides;
each operation carries its module, generation and policy; guarded ones say that they need a token, and how the gateway
refuses.

Always: a valid OpenAPI 3.1 document, whatever a module's models do; one that cannot be described is listed plainly.
Pure but for asking FastAPI; called in a thread by `dataplane.gateway.merging`.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dataplane.gateway.serving import Served, Target
from schemas.meta import Json
from schemas.problems import PROBLEM_JSON, Problem

logger = structlog.get_logger("dataplane.gateway.describing")

CHUNK_BYTES: Final = 256 * 1024
"""A document is handed over in pieces of about this size."""

_COMPONENTS: Final = "#/components/"
_BEARER: Final = "modplaneBearer"
_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_GATEWAY: Final = {
    "400": {"$ref": f"{_COMPONENTS}responses/NotCanonical"},
    "5XX": {"$ref": f"{_COMPONENTS}responses/Unavailable"},
}
"""What the gateway answers on any route instead of the module; the module's own words go first."""
_TOO_LARGE: Final = {"413": {"$ref": f"{_COMPONENTS}responses/TooLarge"}}
"""The same for routes that take a body."""
_SEGMENT: Final = r"^(?!\.{1,2}(;|$))[^%/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+$"
"""What a text in a path may be, so that nobody can read the path in two ways (`paths`; a percent sign may stand there
unless a second decoding would find one)."""
_REFUSALS: Final = {
    "401": {"$ref": f"{_COMPONENTS}responses/Unauthorized"},
    "403": {"$ref": f"{_COMPONENTS}responses/Forbidden"},
}
"""What the gateway answers on guarded routes before the module hears of it; the module's own words go first."""
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_CONVERTED: Final = re.compile(r"\{(\w+)(:\w+)?\}")
_VALUES: Final = frozenset({"example", "examples", "default", "const", "enum"})
"""Keys whose content is data, in which nothing is a reference."""
_FREE: Final = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
"""Keys whose content has names of the author's."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """One module's part of the document, encoded."""

    paths: Mapping[bytes, Mapping[bytes, bytes]]
    """Path → method → operation."""
    components: Mapping[bytes, bytes]
    """Kind → the members of its object, which no other module has."""
    tag: bytes
    mark: bytes
    """Digest of all this."""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document, in pieces, and its ETag: the digest of what it was joined from."""

    chunks: tuple[bytes, ...]
    tag: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.chunks))


def fragment(served: Served) -> Fragment:
    """What ``served`` contributes."""
    try:
        assert served.app is not None, "only a module that serves is described"
        own = served.app.openapi()
        served.app.openapi_schema = None  # FastAPI would keep it, and ours is kept already
        return _encoded(served, _operations(own, served), _components(own, served))
    except Exception as error:  # noqa: BLE001 - an author's model may raise anything, and only its module's part suffers
        logger.warning("module cannot be described", module=served.name, error=f"{type(error).__name__}: {error}")
        return plain(served, f"its OpenAPI document could not be made: {type(error).__name__}")


def plain(served: Served, why: str) -> Fragment:
    """The module's routes without anything that its code would have to tell."""
    found: dict[str, Json] = {}
    for route in served.routes:
        path = documented(route.path)
        for method in (each.lower() for each in route.methods if each.lower() in _METHODS):
            names = [match.group(1) for match in _PARAMETER.finditer(route.path)]
            operation: Json = {
                "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"),
                "description": f"Not described: {why}.",
                "parameters": [{"name": each, "in": "path", "required": True, "schema": {}} for each in names],
                "responses": {"default": {"description": "Not described"}},
            }
            found.setdefault(path, {})[method] = operation
    return _encoded(served, _operations({"paths": found}, served), {})


def joined(fragments: Iterable[Fragment], version: str) -> Document:
    """The document of several modules; later fragments win where two have the same operation."""
    paths: dict[bytes, Mapping[bytes, bytes]] = {}
    components = {kind: [members] for kind, members in _OWN.items()}
    tags: list[bytes] = []
    mark = hashlib.sha256(version.encode())
    for part in fragments:
        for path, operations in part.paths.items():
            # two modules on one path are rare: only then is there anything to put together
            paths[path] = {**paths[path], **operations} if path in paths else operations
        for kind, members in part.components.items():
            components.setdefault(kind, []).append(members)
        tags.append(part.tag)
        mark.update(part.mark)
    pieces = _pieces(version, paths, components, tags)
    return Document(tuple(_chunked(pieces)), f'"{mark.hexdigest()[:32]}"')


def documented(template: str) -> str:
    """A Starlette template as OpenAPI writes it: without converters."""
    return _PARAMETER.sub(r"{\1}", template)


def _operations(own: Json, served: Served) -> dict[str, Json]:
    """Those operations of the module's own document that the gateway lets through."""
    routed = {
        (method.lower(), documented(route.path)): route.target for route in served.routes for method in route.methods
    }
    paths: dict[str, Json] = {}
    for path, item in own.get("paths", {}).items():
        for method, operation in item.items():
            target = routed.get((method, path))
            if target is not None:
                found = _operation(_renamed(operation, served.name), served, target)
                paths.setdefault(served.prefix + path, {})[method] = found
    return paths


def _operation(operation: Json, served: Served, target: Target) -> Json:
    changed = operation | {
        "tags": [served.name, *operation.get("tags", [])],
        "x-module": served.name,
        "x-generation": served.generation,
        "x-auth": _policy(target),
    }
    body = _TOO_LARGE if "requestBody" in operation else {}
    changed["responses"] = _GATEWAY | body | operation["responses"]
    if "parameters" in operation:
        converted = {name for name, kind in _CONVERTED.findall(target.template) if kind}
        changed["parameters"] = [_narrowed(each, converted) for each in operation["parameters"]]
    if target.guarded:
        changed["security"] = [{_BEARER: [], **each} for each in operation.get("security") or [{}]]
        changed["responses"] = _REFUSALS | changed["responses"]
    return changed


def _narrowed(parameter: Json, converted: Collection[str]) -> Json:
    """A parameter as the gateway lets it through: a text in the path is one segment, unless a converter says more."""
    schema = parameter.get("schema", {})
    free = schema.get("type") == "string" and not {"pattern", "format", "enum", "const"} & schema.keys()
    if parameter.get("in") != "path" or parameter.get("name") in converted or not free:
        return parameter
    return parameter | {"schema": schema | {"pattern": _SEGMENT}}


def _policy(target: Target) -> Json:
    words = target.policy.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude={"authenticated", "admin"}
    )
    return {"level": target.policy.level.value, **words}


def _components(own: Json, served: Served) -> dict[str, Json]:
    return {
        kind: {_name(served.name, key): _renamed(value, served.name) for key, value in entries.items()}
        for kind, entries in own.get("components", {}).items()
    }


def _encoded(served: Served, paths: Mapping[str, Json], components: Mapping[str, Json]) -> Fragment:
    title = served.desired.display_name
    tag = _encode({"name": served.name, **({"description": title} if title else {})})
    path_members = {
        _encode(path): {_encode(method): _encode(operation) for method, operation in operations.items()}
        for path, operations in paths.items()
    }
    members = {_encode(kind): _members(entries) for kind, entries in components.items() if entries}
    mark = hashlib.sha256(tag)
    for path, operations in path_members.items():
        mark.update(path + b"".join(method + operation for method, operation in operations.items()))
    for kind, each in members.items():
        mark.update(kind + each)
    return Fragment(path_members, members, tag, mark.digest())


def _members(entries: Json) -> bytes:
    return b",".join(_encode(key) + b":" + _encode(value) for key, value in entries.items())


def _pieces(
    version: str,
    paths: Mapping[bytes, Mapping[bytes, bytes]],
    components: Mapping[bytes, Iterable[bytes]],
    tags: Iterable[bytes],
) -> Iterator[bytes]:
    info = {"title": "modplane: live module routes", "version": version}
    yield b'{"openapi":"3.1.0","info":' + _encode(info) + b',"paths":{'
    before = b""
    for path, operations in paths.items():
        yield before + path + b":{" + b",".join([name + b":" + each for name, each in operations.items()]) + b"}"
        before = b","
    before = b'},"components":{'
    for kind, members in components.items():
        yield before + kind + b":{" + b",".join(members) + b"}"
        before = b","
    yield b'},"tags":[' + b",".join(tags) + b"]}"


def _chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _name(module: str, component: str) -> str:
    return f"{module}.{component}"


def _renamed(value: Any, module: str, *, free: bool = False) -> Any:
    """``value`` with every operation id, component reference and security scheme made the module's own.

    ``free``: the keys of ``value`` are names that the author chose, whatever they look like.
    """
    if isinstance(value, Mapping):
        return {key: _renamed(each, module) if free else _keyed(key, each, module) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, module) for each in value]
    return value


def _keyed(key: str, value: Any, module: str) -> Any:
    if key in _VALUES:
        return value
    if key == "$ref" and isinstance(value, str):
        return _reference(value, module)
    if key == "operationId" and isinstance(value, str):
        return f"{module}__{value}"
    if key == "mapping" and isinstance(value, Mapping):
        return {name: _reference(target, module) for name, target in value.items()}
    if key == "security" and isinstance(value, list):
        return [{_name(module, scheme): scopes for scheme, scopes in each.items()} for each in value]
    return _renamed(value, module, free=key in _FREE)


def _reference(target: str, module: str) -> str:
    if not target.startswith(_COMPONENTS):
        return target
    kind, _, component = target.removeprefix(_COMPONENTS).partition("/")
    return f"{_COMPONENTS}{kind}/{_name(module, component)}"


def _own_components() -> dict[bytes, bytes]:
    """What the gateway itself adds; a module's names have a dot in them, these have none."""
    problem = Problem.model_json_schema(by_alias=True, ref_template=f"{_COMPONENTS}schemas/{{model}}")
    content = {PROBLEM_JSON: {"schema": {"$ref": f"{_COMPONENTS}schemas/Problem"}}}
    challenge = {
        "WWW-Authenticate": {
            "description": "What to prove who one is with (RFC 6750)",
            "schema": {"type": "string"},
        }
    }
    why = {
        "Unauthorized": "No token, or one that is not valid here",
        "Forbidden": "This caller may not call this route",
    }
    plainly: Json = {"application/json": {"schema": {}}}
    instead: dict[str, tuple[str, Json]] = {
        "NotCanonical": ("The path could be read in two ways; or the module cannot read the body", plainly),
        "TooLarge": ("The body is larger than this module takes", {}),
        "Unavailable": ("The module failed (500, 502), cannot be called now (503), or was too slow (504)", {}),
    }
    own: dict[str, Json] = {
        "schemas": {**problem.pop("$defs", {}), "Problem": problem},
        "responses": {
            **{name: {"description": text, "headers": challenge, "content": content} for name, text in why.items()},
            **{name: {"description": text, "content": content | more} for name, (text, more) in instead.items()},
        },
        "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    }
    return {_encode(kind): _members(entries) for kind, entries in own.items()}


_OWN: Final[Mapping[bytes, bytes]] = _own_components()
