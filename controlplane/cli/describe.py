"""``modplane describe``: one object with what a person would ask next.

For a Module: what it waits for, conditions, routes with their URLs, the last events, the workers.  For a Worker: its
report, and what it says itself (`controlplane.cli.workers`).
"""

from collections.abc import Iterator
from pathlib import Path

import click

from controlplane.cli import client, endpoints, exits, options, printing, waiting, workers
from schemas.meta import Json
from schemas.names import MODULES_PREFIX

_EVENTS = 10


@click.command(
    "describe",
    short_help="Show one object with all that concerns it",
    cls=options.Verb,
    examples=("modplane describe module analytics-core", "modplane describe worker/w0"),
)
@click.argument("what", nargs=-1, required=True, metavar="KIND NAME... | KIND/NAME...")
@options.server
def command(what: tuple[str, ...], server: str | None, data_dir: Path) -> None:
    """Show objects with all that concerns them."""
    wanted = options.wanted(what)
    api = client.connect(server, data_dir)
    running = endpoints.read(data_dir)
    door = running.data_plane if running and running.control_plane.rstrip("/") == api.url else ""
    for number, (plural, name) in enumerate(wanted):
        if name is None:
            raise exits.usage(f"name the {plural} to describe, for example: modplane describe {plural} NAME")
        item = api.get(plural, name)
        lines = _module(item, api, door) if plural == "modules" else _other(plural, item)
        printing.show(("\n\n" if number else "") + "\n".join(lines))


def _module(item: Json, api: client.Client, door: str) -> Iterator[str]:
    spec, status = item.get("spec", {}), item.get("status", {})
    routing = spec.get("routing", {})
    prefix = f"{MODULES_PREFIX}/{routing.get('apiVersion', 'v1')}/{routing.get('namespace', item['metadata']['name'])}"
    yield from _head(item)
    yield from printing.pairs(
        [
            ("Entry point", spec.get("entryPoint", "")),
            ("Source", f"{spec.get('source', {}).get('path', '')} {spec.get('source', {}).get('digest', '')}".strip()),
            ("Version", spec.get("version", "")),
            ("Address", f"{door}{prefix}"),
            ("State", f"{status.get('state', 'unknown')} (generation {item['metadata'].get('generation', '?')})"),
            ("Serving", _serving(status)),
            ("Workers", ", ".join(f"{count} {word}" for word, count in status.get("workers", {}).items())),
            ("Waits for", waiting.waits_for(item)),
        ]
    )
    yield from _conditions(status)
    routes = [["METHOD", "PATH", "AUTH"]]
    routes += [[each["method"], f"{door}{prefix}{each['path']}", each["auth"]] for each in status.get("routes", [])]
    yield from printing.section("Routes", routes)
    yield from printing.section("Workers", _workers(item, api))
    yield from printing.section("Events", _events(item, api))


def _serving(status: Json) -> str:
    serving = status.get("serving")
    if not serving:
        return "nothing yet"
    since = printing.age(serving.get("since"), printing.now())
    return f"generation {serving['generation']}, version {serving.get('version', '?')}, for {since}"


def _workers(item: Json, api: client.Client) -> list[list[str]]:
    rows = [["NAME", "STATE", "THIS MODULE", "ADDRESS"]]
    for worker in api.list_all("workers")["items"]:
        status = worker.get("status", {})
        report = status.get("report") or {}
        state = "lost" if status.get("lost") else report.get("state", "unknown")
        rows.append([worker["metadata"]["name"], state, on_worker(item, status), report.get("address", "")])
    return rows


def on_worker(item: Json, worker: Json) -> str:
    """How a worker (its status) stands to a Module's latest generation, as far as was reported."""
    report, labels = worker.get("report") or {}, (worker.get("report") or {}).get("labels", {})
    selector = item.get("spec", {}).get("placement", {}).get("workerSelector", {})
    if any(labels.get(key) != value for key, value in selector.items()):
        return "not placed here"
    for word in ("rejected", "pending"):
        for entry in report.get(word, []):
            if entry["module"] == item["metadata"]["name"]:
                return f"{word}: {entry['reason']} {entry.get('message', '')}".strip()
    if worker.get("lost") or not report.get("synced"):
        return "unknown"
    status = item.get("status", {})
    if not any(each["type"] == "Registered" and each["status"] == "True" for each in status.get("conditions", [])):
        return "not sent yet"
    counts = status.get("workers", {})
    if status.get("state") == "ACTIVE" or (counts.get("desired") and counts.get("applied") == counts["desired"]):
        return "applied"
    return "not applied yet"


def _events(item: Json, api: client.Client) -> list[list[str]]:
    name, uid = item["metadata"]["name"], item["metadata"].get("uid")
    listed = api.list_all("moduleevents", fields=f"spec.module={name}")["items"]
    specs = [event["spec"] for event in listed if event["spec"]["module"] == name and event["spec"]["uid"] == uid]
    now = printing.now()
    rows = [["AGE", "FROM", "TO", "REASON", "MESSAGE"]]
    for spec in sorted(specs, key=lambda spec: int(spec["sequence"]))[-_EVENTS:]:
        age = printing.age(spec["at"], now)
        rows.append([age, spec.get("from") or "-", spec["to"], spec["reason"], spec.get("message", "")])
    return rows


def _other(plural: str, item: Json) -> Iterator[str]:
    if plural != "workers":
        yield from _plain(item)
        return
    yield from _head(item)
    yield from workers.lines(item, workers.ask(item))


def _plain(item: Json) -> Iterator[str]:
    yield from _head(item)
    if item.get("status", {}).get("conditions"):
        yield from _conditions(item["status"])
    rest = {key: item[key] for key in ("spec", "status") if item.get(key)}
    rest.get("status", {}).pop("conditions", None)
    if rest:
        yield ""
        yield printing.as_yaml(rest)


def _head(item: Json) -> Iterator[str]:
    metadata = item["metadata"]
    rows = [
        ("Name", metadata["name"]),
        ("Kind", item["kind"]),
        ("Labels", ", ".join(f"{key}={value}" for key, value in metadata.get("labels", {}).items())),
        ("Uid", metadata.get("uid", "")),
        ("Age", printing.age(metadata.get("creationTimestamp"), printing.now())),
        (
            "Deleting for",
            printing.age(metadata["deletionTimestamp"], printing.now()) if "deletionTimestamp" in metadata else "",
        ),
        ("Held by", ", ".join(metadata.get("finalizers", [])) if "deletionTimestamp" in metadata else ""),
    ]
    yield from printing.pairs(rows)


def _conditions(status: Json) -> Iterator[str]:
    now = printing.now()
    rows = [["TYPE", "STATUS", "FOR", "REASON", "MESSAGE"]]
    for each in status.get("conditions", []):
        since = printing.age(each.get("lastTransitionTime"), now)
        rows.append([each["type"], each["status"], since, each.get("reason", ""), each.get("message", "")])
    yield from printing.section("Conditions", rows)
