"""``modplane trace``: what the last change of a module took, step by step, as a tree with times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from controlplane.cli import client, options, printing
from schemas import names
from schemas.meta import Json

_NAME: Final = 44
"""Columns for the tree."""


@click.command(
    "trace",
    short_help="Show what a module's last change took",
    cls=options.Verb,
    examples=("modplane trace analytics-core", "modplane trace analytics_core -o json"),
)
@click.argument("module")
@click.option("-o", "--output", type=click.Choice(["json"]), help="The whole answer.")
@options.server
def command(module: str, output: str | None, server: str | None, data_dir: Path) -> None:
    """Show the steps of a module's last change, from the call that asked for it to each worker that serves it.

    Times are milliseconds: when a step began, counted from the call, and how long it took.
    """
    answer = client.connect(server, data_dir).manage(f"/modules/{names.object_name(module)}/trace")
    if output == "json":
        printing.show(printing.as_json(answer))
    else:
        printing.show("\n".join(lines(answer)))


def lines(answer: Json) -> Iterator[str]:
    """The tree, in order of time, under a headline and above who was slowest."""
    steps: list[Json] = answer["steps"]
    yield (
        f"module/{names.object_name(answer['module_id'])} generation {answer['generation']}, "
        f"trace {answer['trace_id']}, {answer['duration_ms']:.1f} ms"
    )
    if not steps:
        yield "No step is kept yet; ask again in a moment."
        return
    known = {step["id"] for step in steps}
    below: dict[str | None, list[Json]] = {}
    for step in steps:
        parent = step["parent"] if step["parent"] in known else None
        below.setdefault(parent, []).append(step)
    yield f"{'':{_NAME}}{'at ms':>10}{'took ms':>10}"
    yield from _branches(below, None, "", set())
    slowest = answer["slowest_worker"]
    if slowest is None:
        yield "No worker has told of it yet."
    else:
        yield f"Slowest worker: {slowest['id']}, done after {slowest['done_after_ms']:.1f} ms."


def _branches(below: dict[str | None, list[Json]], parent: str | None, indent: str, seen: set[str]) -> Iterator[str]:
    children = [step for step in below.get(parent, []) if step["id"] not in seen]
    for place, step in enumerate(children):
        seen.add(step["id"])
        last = place == len(children) - 1
        branch = "" if parent is None else ("└─ " if last else "├─ ")
        who = "" if step["who"] == "controlplane" else f" [{step['who']}]"
        name = f"{indent}{branch}{step['name']}{who if step['name'] == 'apply' else ''}"
        failed = f"  {step['error']}" if step["error"] else ""
        yield f"{name:{_NAME}}{step['start_ms']:>10.1f}{step['duration_ms']:>10.1f}{failed}"
        deeper = indent if parent is None else indent + ("   " if last else "│  ")
        yield from _branches(below, step["id"], deeper, seen)
