"""``modplane token create``: a token for trying things out, signed with the key that `modplane up` made.

Needs no server: the key lies in the data folder, readable by its owner.  Only a system that `modplane up` runs on that
folder believes it; elsewhere tokens come from your issuer.
"""

import time
from pathlib import Path

import click

from controlplane.cli import endpoints, exits, options, printing


@click.command(
    "token",
    short_help="Make a token for trying things out",
    cls=options.Verb,
    examples=(
        "modplane token create --sub ada --permission read_analytics",
        "modplane token create --sub ada --org acme --role editor --expires 30m",
    ),
)
@click.argument("what", type=click.Choice(["create"]))
@click.option("--sub", "subject", required=True, metavar="NAME", help="Whom it is for: the token's subject.")
@click.option("--org", "organisation", metavar="NAME", help="The Organisation that the caller acts for.")
@click.option("--role", "roles", multiple=True, metavar="WORD", help="A role; may be repeated.")
@click.option("--permission", "permissions", multiple=True, metavar="WORD", help="A permission; may be repeated.")
@click.option(
    "--expires", type=options.Duration(), default="8h", show_default=True, help="How long it is valid, such as 30m."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="MODPLANE_DATA_DIR",
    default=endpoints.DATA_DIR,
    show_default=True,
    help="Data folder of the `modplane up` that is to believe it.",
)
def command(
    what: str,
    subject: str,
    organisation: str | None,
    roles: tuple[str, ...],
    permissions: tuple[str, ...],
    expires: float,
    data_dir: Path,
) -> None:
    """Print a token that a system of `modplane up` believes; give it as `Authorization: Bearer TOKEN`."""
    from schemas.kits.tokens import development  # late: no other verb needs cryptography

    if expires < 1:
        raise exits.usage("--expires is at least one second")
    caller = development.Caller(subject, organisation, roles, permissions)
    try:
        printing.show(development.sign(data_dir, caller, now=time.time(), seconds=expires))
    except (OSError, ValueError) as error:
        raise exits.refused(
            f"there is no key to sign with: {error}",
            hint="`modplane up` makes one on its first start; name its folder with --data-dir or MODPLANE_DATA_DIR.",
        ) from error
