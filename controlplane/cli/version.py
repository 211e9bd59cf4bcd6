"""``modplane version``."""

from importlib.metadata import version

import click

from controlplane.cli import options


@click.command("version", short_help="Print the version", cls=options.Verb, examples=("modplane version",))
def command() -> None:
    """Print the version of this installation."""
    click.echo(f"modplane {version('modplane')}")
