"""``modplane discover``: have the control plane scan its modules path now."""

from pathlib import Path

import click

from controlplane.cli import client, options, printing


@click.command(
    "discover",
    short_help="Scan the modules path now",
    cls=options.Verb,
    examples=("modplane discover", "modplane discover --prune"),
)
@click.option("--prune", is_flag=True, help="Also delete Modules that discovery made and whose source is gone.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="The whole answer.")
@options.server
def command(prune: bool, output: str | None, server: str | None, data_dir: Path) -> None:
    """Have the control plane scan its modules path and apply what it finds."""
    answer = client.connect(server, data_dir).discover(prune=prune)
    if output == "json":
        printing.show(printing.as_json(answer))
        return
    for key, value in answer.items():
        if isinstance(value, list):
            for each in value:
                printing.show(f"{key}: {each if isinstance(each, str) else printing.as_json(each)}")
        else:
            printing.show(f"{key}: {value}")
