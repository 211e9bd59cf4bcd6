"""``modplane discover``: have the control plane scan its modules path now."""

from pathlib import Path

import click

from controlplane.cli import client, exits, options, printing

_NEWS = ("applied", "updated", "pinned", "missing")


@click.command(
    "discover",
    short_help="Scan the modules path now",
    cls=options.Verb,
    examples=("modplane discover", "modplane discover -o json"),
)
@click.option("-o", "--output", type=click.Choice(["json"]), help="The whole answer.")
@options.server
def command(output: str | None, server: str | None, data_dir: Path) -> None:
    """Have the control plane scan its modules path and apply what it finds.

    Prints one line per module that is new or changed; exits with code 1 if a source or manifest was refused.
    """
    answer = client.connect(server, data_dir).discover()
    failed = [f"{each['path']}: {each['message']}" for each in answer.get("failed", [])]
    if output == "json":
        printing.show(printing.as_json(answer))
    else:
        for word in _NEWS:
            for name in answer.get(word, []):
                printing.show(f"module/{name} {word}")
        count = len(answer.get("unchanged", []))
        printing.show(f"{answer.get('scanned', 0)} scanned, {count} unchanged, {len(failed)} refused")
    if failed:
        raise exits.no("\n".join(failed))
