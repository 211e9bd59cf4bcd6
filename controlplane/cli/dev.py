"""``modplane dev``: modules straight from their folder, under the real loader, reloaded on save.

The command becomes ``python -m dataplane dev``: serving is the data plane's work.  No server is needed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from controlplane.cli import exits, options, planes


@click.command(
    "dev",
    short_help="Serve modules from their folder, reloading on save",
    cls=options.Verb,
    examples=(
        "modplane dev modules/pricing",
        "modplane dev modules --port 0",
        "modplane dev pricing.py --no-auth",
        "modplane dev pricing.py --sub ada --permission read_prices --flag new_prices",
        'modplane dev pricing.py --sub ada --org acme --org-config \'{"currency":"EUR"}\' --flag limit=20',
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--no-auth", is_flag=True, help="Let anybody call every route, also those that need a token.")
@click.option("--sub", "subject", metavar="NAME", help="Who calls when a request brings no credentials.")
@click.option("--org", "organisation", metavar="NAME", help="The organisation that this caller acts for.")
@click.option("--role", "roles", multiple=True, metavar="WORD", help="A role of this caller; may be repeated.")
@click.option("--permission", "permissions", multiple=True, metavar="WORD", help="A permission; may be repeated.")
@click.option("--org-config", "configuration", metavar="JSON", help="Give --org access, with this configuration.")
@click.option(
    "--flag", "flags", multiple=True, metavar="NAME[=JSON]", help="A flag that is on, or its value; may be repeated."
)
def command(
    path: Path,
    port: int,
    host: str,
    no_auth: bool,
    subject: str | None,
    organisation: str | None,
    roles: tuple[str, ...],
    permissions: tuple[str, ...],
    configuration: str | None,
    flags: tuple[str, ...],
) -> None:
    """Serve one module, or a folder of them, at the address it will have, and reload what is saved.

    PATH is a module's folder or file, or a folder of modules.  No control plane and no NATS are needed.  An error
    is shown with its file and line, and the last good version goes on serving.
    """
    if not path.exists():
        raise exits.no(f"{path}: no such file or folder", hint="Make a module with `modplane new module NAME`.")
    if subject is None and (roles or permissions or organisation):
        raise exits.usage("--org, --role and --permission are of a caller; name the caller with --sub")
    if configuration is not None and organisation is None:
        raise exits.usage("--org-config is of an organisation; name it with --org")
    words = ["--host", host, "--port", str(port), *(["--no-auth"] if no_auth else [])]
    if subject is not None:
        caller = {"subject": subject, "organisation": organisation, "roles": roles, "permissions": permissions}
        words += ["--caller", json.dumps(caller)]
    if configuration is not None:
        words += ["--organisations", json.dumps({organisation: _object(configuration)})]
    if flags:
        words += ["--flags", json.dumps(_values(flags))]
    planes.become("dataplane", "dev", (str(path), *words))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise exits.usage(f"--org-config is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise exits.usage('--org-config is not a JSON object; write it like \'{"currency": "EUR"}\'')
    return found


def _values(given: Sequence[str]) -> dict[str, Any]:
    """What each flag is: true, or the JSON behind ``=``; what is no JSON is a text."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise exits.usage(f"--flag {text!r} names no flag; write it like beta, or limit=20")
        try:
            found[name] = json.loads(value) if equals else True
        except ValueError:
            found[name] = value
    return found
