"""``modplane logs``: what a module printed and logged last, on every worker, and with ``-f`` each new line."""

import time
from pathlib import Path
from typing import Any, Final

import click

from controlplane.cli import client, options, printing
from schemas import names
from schemas.meta import Json

_PACE_SECONDS: Final = 1.0


@click.command(
    "logs",
    short_help="Show what a module printed and logged",
    cls=options.Verb,
    examples=("modplane logs orders", "modplane logs orders -f", "modplane logs orders --worker w0 --tail 20"),
)
@click.argument("module")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line.")
@click.option("--worker", metavar="ID", default="", help="Only of this worker.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines first.")
@options.server
def command(module: str, follow: bool, worker: str, tail: int | None, server: str | None, data_dir: Path) -> None:
    """Show the last lines that a module printed or logged, and what its worker says of it, oldest first.

    A worker keeps the last 200 lines of a module, or 64 KiB of them, since its start.
    """
    api = client.connect(server, data_dir)
    path = f"/modules/{names.object_name(module)}/logs"
    known: dict[str, tuple[str, int]] = {}
    silent: list[str] = []
    while True:
        cursor = ",".join(f"{who}/{boot}:{last}" for who, (boot, last) in known.items())
        answer = api.manage(path, {"worker": worker, "after": cursor})
        lines = _fresh(answer, known)
        if tail is not None:
            lines, tail = lines[max(len(lines) - tail, 0) :], None
        for _, text in lines:
            printing.show(text)
        if answer["silent"] != silent:
            silent = answer["silent"]
            if silent:
                click.echo(f"No answer from {', '.join(silent)}; `modplane get workers` shows how it is.", err=True)
        if not follow:
            return
        time.sleep(_PACE_SECONDS)


def _fresh(answer: Json, known: dict[str, tuple[str, int]]) -> list[tuple[str, str]]:
    """The new lines of all workers in order of time; ``known`` moves on."""
    found: list[tuple[str, str]] = []
    for each in answer["workers"]:
        found += [(line["at"], _line(each["id"], line)) for line in each["lines"]]
        last = known.get(each["id"], ("", 0))[1] if each["last"] is None else each["last"]
        known[each["id"]] = (each["boot"], last)
    return sorted(found, key=lambda line: line[0])


def _line(worker: str, line: dict[str, Any]) -> str:
    return f"{line['at'][:23]}Z  {worker}  {line['level']:8}  {line['text']}"
