"""Everything that another program may read about our formats, written to ``schemas/published`` from the models.

Always holds: the files are a function of the code; a test and ``python -m schemas.publishing --check`` compare
them.  Editors read the JSON Schemas (through the yaml-language-server modeline), subscribers the AsyncAPI
document, clients of either plane its OpenAPI document, which the plane itself prints: nothing here imports a plane.
Only `main` touches files, and only when run as a command.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from schemas import events, kinds, names
from schemas.meta import Json
from schemas.module import ModuleState

FOLDER: Final = Path(__file__).parent / "published"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BASE: Final = f"https://{names.GROUP}/schemas/{names.VERSION}"

EVENT_FILE: Final = "event.schema.json"
ASYNCAPI_FILE: Final = "asyncapi.json"

PLANES: Final = ("controlplane", "dataplane")

WORKER_EVENTS: Final = ("joined", "lost")

_SERVER_FIELDS: Final = frozenset(
    {"uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields"}
)
_WRITTEN_NAME: Final = r"^[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?$"


def schema_file(kind: kinds.Kind) -> str:
    """The file name of a kind's JSON Schema."""
    return f"{kind.singular}.schema.json"


def modeline(kind: kinds.Kind, base: str = BASE) -> str:
    """The comment by which editors find a manifest's schema; ``base`` is the URL or folder that has the files."""
    return f"# yaml-language-server: $schema={base}/{schema_file(kind)}"


def object_schema(kind: kinds.Kind) -> Json:
    """The JSON Schema of one kind, for editors: strict, wire names, the server's fields marked read-only."""
    schema = kind.model.model_json_schema(by_alias=True)
    for model in (schema, *schema.get("$defs", {}).values()):
        _close(model)
    properties = schema["properties"]
    if "status" in properties:
        properties["status"] |= {"readOnly": True, "description": "Written by the control plane."}
    metadata = schema["$defs"]["ObjectMeta"]
    metadata["required"] = ["name"]
    name = metadata["properties"]["name"]
    name |= {"pattern": _WRITTEN_NAME, "description": "A DNS label; underscores become hyphens."}
    del name["default"]
    for field in _SERVER_FIELDS:
        metadata["properties"][field]["readOnly"] = True
    required = schema.get("required", [])
    schema["required"] = ["apiVersion", "kind", "metadata", *(["spec"] if "spec" in required else [])]
    for field in ("metadata", "spec", "status"):
        properties.get(field, {}).pop("default", None)
    return {"$schema": DIALECT, "$id": f"{BASE}/{schema_file(kind)}", **_tidy(schema)}


def event_schema() -> Json:
    """The JSON Schema of one lifecycle event as a subscriber gets it; open, for readers outlive writers."""
    schema = events.CloudEvent.model_json_schema(by_alias=True)
    data = events.ModuleTransition.model_json_schema(by_alias=True)
    del data["properties"]["traceparent"]
    schema["properties"]["data"] = {"$ref": "#/$defs/ModuleTransition"}
    schema["properties"]["type"]["pattern"] = r"^dev\.modplane\.module\.[a-z]+\.v1$"
    schema["required"] = ["specversion", "id", "source", "type", "subject", "time", "data"]
    schema["$defs"] = {**data.pop("$defs", {}), "ModuleTransition": data}
    return {"$schema": DIALECT, "$id": f"{BASE}/{EVENT_FILE}", **_tidy(schema)}


def asyncapi() -> Json:
    """The AsyncAPI 3 document of every subject on which events are published."""
    states = [state.value.lower() for state in ModuleState]
    return {
        "asyncapi": "3.0.0",
        "id": f"https://{names.GROUP}/events",
        "info": {
            "title": "modplane events",
            "version": names.VERSION,
            "description": (
                f"CloudEvents 1.0 in structured JSON, kept 7 days in the JetStream stream {names.STREAM_EVENTS}. "
                "Each event is delivered at least once and in order per module; its id removes repeats."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "moduleEvents": _channel(
                names.module_event_subject("{module}", "{state}"),
                "moduleEvent",
                {"module": "The Module's name.", "state": "The state it is in now."},
                {"state": states},
            ),
            "workerEvents": _channel(
                names.worker_event_subject("{worker}", "{what}"),
                "workerEvent",
                {"worker": "The worker's id.", "what": "What happened to it."},
                {"what": list(WORKER_EVENTS)},
            ),
        },
        "operations": {
            "publishModuleEvent": _operation("moduleEvents", "A Module has entered a state."),
            "publishWorkerEvent": _operation("workerEvents", "A worker has joined or was lost."),
        },
        "components": {
            "messages": {
                "moduleEvent": _message("ModuleEvent", {"$ref": f"./{EVENT_FILE}"}),
                "workerEvent": _message("WorkerEvent", _tidy(events.CloudEvent.model_json_schema(by_alias=True))),
            }
        },
    }


@functools.cache
def openapi(plane: str) -> Json:
    """The OpenAPI document of a plane (``controlplane``, ``dataplane``), as ``python -m PLANE openapi`` prints it."""
    printed = subprocess.run(  # noqa: S603 - this very interpreter, and one of our own two planes
        [sys.executable, "-m", plane, "openapi"], capture_output=True, check=True, cwd=FOLDER.parents[1], timeout=120
    )
    document: Json = json.loads(printed.stdout)
    return document


def models() -> dict[str, Json]:
    """File name → what is made from the models of this room."""
    files = {schema_file(kind): object_schema(kind) for kind in kinds.KINDS}
    return files | {EVENT_FILE: event_schema(), ASYNCAPI_FILE: asyncapi()}


def render() -> dict[str, str]:
    """File name → content of everything that is published."""
    files = models() | {f"{plane}.openapi.json": openapi(plane) for plane in PLANES}
    return {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in sorted(files.items())}


def stale(folder: Path = FOLDER) -> list[str]:
    """Which published files differ from the code, or should not be there."""
    wanted = render()
    found = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> list[str]:
    """Bring the published files up to date; the names of those that changed."""
    changed, wanted = stale(folder), render()
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], "utf-8")
        else:
            (folder / name).unlink()
    return changed


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write the files, or with ``--check`` only say which are stale (exit code 1)."""
    if "--check" in arguments:
        differing = stale(folder)
        sys.stdout.writelines(f"stale: {folder / name}; run python -m schemas.publishing\n" for name in differing)
        return 1 if differing else 0
    sys.stdout.writelines(f"written: {folder / name}\n" for name in write(folder))
    return 0


def _close(schema: Json) -> None:
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)


def _tidy(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of field names, and docstrings on one line each paragraph."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return dict(_tidy_members(schema))


def _tidy_members(schema: Json) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key == "title" and isinstance(value, str) and "properties" not in schema:
            continue
        if key == "description" and isinstance(value, str):
            yield key, " ".join(value.split()).replace("``", "`")
        else:
            yield key, _tidy(value)


def _channel(address: str, message: str, parameters: dict[str, str], enums: dict[str, list[str]]) -> Json:
    return {
        "address": address,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "parameters": {
            name: {"description": text, **({"enum": enums[name]} if name in enums else {})}
            for name, text in parameters.items()
        },
    }


def _operation(channel: str, summary: str) -> Json:
    return {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(name: str, payload: Json) -> Json:
    return {
        "name": name,
        "contentType": "application/cloudevents+json",
        "headers": {
            "type": "object",
            "properties": {"Nats-Msg-Id": {"type": "string", "description": "The event's id, once more."}},
        },
        "payload": payload,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
