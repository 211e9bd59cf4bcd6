"""``modplane delete``: ask for deletion, and by default wait until the objects are gone.

A Module goes when the workers have taken its routes out; what holds it is shown by `modplane describe`.
"""

from pathlib import Path

import click

from controlplane.cli import client, exits, manifests, options, printing, waiting
from schemas import kinds
from schemas.names import object_name


@click.command(
    "delete",
    short_help="Delete objects",
    cls=options.Verb,
    examples=(
        "modplane delete module my-module",
        "modplane delete flag new-dashboard --force",
        "modplane delete -f module.yaml",
        "modplane delete module/a module/b --no-wait",
    ),
)
@click.argument("what", nargs=-1, metavar="KIND NAME... | KIND/NAME...")
@options.files
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the objects are gone.")
@options.timeout("90s")
@click.option("--force", is_flag=True, help="Delete a flag even if modules or other flags require it.")
@click.option("--ignore-not-found", is_flag=True, help="An object that is not there is no failure.")
@options.server
def command(
    what: tuple[str, ...],
    filenames: tuple[str, ...],
    recursive: bool,
    wait: bool,
    timeout: float,
    force: bool,
    ignore_not_found: bool,
    server: str | None,
    data_dir: Path,
) -> None:
    """Delete objects, named here or in manifests."""
    if bool(what) == bool(filenames):
        raise exits.usage("name objects (KIND NAME...) or manifests (-f), one of both")
    wanted = options.wanted(what) if what else _named(filenames, recursive)
    if any(name is None for _, name in wanted):
        raise exits.usage(f"name the {wanted[0][0]} to delete, for example: modplane delete {wanted[0][0]} NAME")
    api = client.connect(server, data_dir)
    until = waiting.deadline(timeout)
    missing: list[str] = []
    targets: dict[str, dict[str, waiting.Target]] = {}
    for plural, name in ((plural, name) for plural, name in wanted if name):
        try:
            before = api.get(plural, name)
            api.delete(plural, name, force=force)
        except exits.Exit as end:
            if end.code != exits.NO:
                raise
            missing.append(end.message)
            continue
        targets.setdefault(plural, {})[name] = waiting.Target(name, before["metadata"].get("uid"))
        if not wait:
            printing.show(f"{kinds.BY_PLURAL[plural].singular}/{name} deletion asked for")
    for plural, named in targets.items() if wait else ():
        waiting.until(api, plural, named, waiting.deleted(), deadline=until, told=waiting.announce(plural, "deleted"))
    if missing and not ignore_not_found:
        raise exits.no("\n".join(missing))


def _named(filenames: tuple[str, ...], recursive: bool) -> list[tuple[str, str | None]]:
    """The objects that manifests name, last first: what depends on others goes before them."""
    found: list[tuple[str, str | None]] = []
    for manifest in manifests.read(filenames, recursive=recursive):
        value = manifest.value if isinstance(manifest.value, dict) else {}
        kind = kinds.BY_NAME.get(str(value.get("kind")))
        metadata = value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if kind is None or not isinstance(name, str):
            raise exits.no(f"{manifest.file}:{manifest.document.line}: no kind and metadata.name that could be deleted")
        found.append((kind.plural, object_name(name)))
    return found[::-1]
