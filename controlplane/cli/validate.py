"""``modplane validate``: what admission says of manifests, without a server."""

import click

from controlplane.cli import exits, manifests, options, printing


@click.command(
    "validate",
    short_help="Check manifests without a server",
    cls=options.Verb,
    examples=("modplane validate -f module.yaml", "modplane validate -f modules/ -R"),
)
@options.files
def command(filenames: tuple[str, ...], recursive: bool) -> None:
    """Check manifests with the code that the server uses; no server is needed."""
    lines: list[str] = []
    count = 0
    for manifest, problems in manifests.checked(manifests.read(filenames, recursive=recursive)):
        lines += problems or [f"{manifest.file}: {manifests.identity(manifest.value)} is valid"]
        count += len(problems)
    printing.show_all(lines)
    if count:
        raise exits.no(f"{count} problem{'' if count == 1 else 's'}")
