"""``modplane events``: the stored lifecycle events, and with ``-f`` each new one as it is committed.

``-o json`` prints the same CloudEvents that NATS subscribers get, one per line.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from controlplane.cli import client, options, printing
from schemas import events
from schemas.meta import Json
from schemas.names import object_name


@click.command(
    "events",
    short_help="Show what happened to modules",
    cls=options.Verb,
    examples=("modplane events --module analytics-core", "modplane events -f", "modplane events -f -o json --tail 0"),
)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new event.")
@click.option("--module", metavar="NAME", help="Only of this module.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="CloudEvents, one per line.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N stored events first.")
@options.server
def command(
    follow: bool, module: str | None, output: str | None, tail: int | None, server: str | None, data_dir: Path
) -> None:
    """Show what happened to modules, oldest first."""
    api = client.connect(server, data_dir)
    name = object_name(module) if module else None
    fields = f"spec.module={name}" if name else None
    seen: set[str] = set()
    while True:
        listed = api.list_all("moduleevents", fields=fields)
        stored = sorted(listed["items"], key=lambda item: int(item["metadata"]["resourceVersion"]))
        stored = [item for item in stored if _concerns(item, name)]
        if tail is not None and not seen:
            seen |= {item["metadata"]["name"] for item in stored[: max(0, len(stored) - tail)]}
        _print([item for item in stored if item["metadata"]["name"] not in seen], output)
        seen |= {item["metadata"]["name"] for item in stored}
        if not follow:
            return
        try:
            for event in api.watch("moduleevents", after=listed["metadata"]["resourceVersion"], fields=fields):
                item = event["object"]
                if event["type"] == "ADDED" and _concerns(item, name) and item["metadata"]["name"] not in seen:
                    seen.add(item["metadata"]["name"])
                    _print([item], output)
        except client.GoneError:
            continue


def _concerns(item: Json, name: str | None) -> bool:
    return name is None or item["spec"]["module"] == name


def _print(items: Iterable[Json], output: str | None) -> None:
    for item in items:
        transition = events.ModuleTransition.model_validate(item["spec"])
        if output == "json":
            event = events.module_event(transition)
            printing.show(json.dumps(event.wire(), ensure_ascii=False))
            continue
        step = f"{transition.from_ or '-'} -> {transition.to}"
        at = transition.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        words = f"{at}  {transition.module}  {step}  {transition.reason}"
        printing.show(f"{words}  {transition.message}" if transition.message else words)
