"""``modplane controlplane`` and ``modplane worker``: one plane in this process.

The command becomes ``python -m controlplane serve`` or ``python -m dataplane worker``: the process id stays, so
that a service manager watches and stops the plane itself.  Flags are the plane's own settings.
"""

import os
import sys

import click

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command("controlplane", short_help="Run one control plane", context_settings=_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def controlplane(arguments: tuple[str, ...]) -> None:
    """Run one control plane; --help lists its settings."""
    become("controlplane", "serve", arguments)


@click.command("worker", short_help="Run one data-plane worker", context_settings=_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run one data-plane worker; --help lists its settings."""
    become("dataplane", "worker", arguments)


def become(package: str, verb: str, arguments: tuple[str, ...]) -> None:
    """Replace this process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", package, verb, *arguments])  # noqa: S606 - our own interpreter
