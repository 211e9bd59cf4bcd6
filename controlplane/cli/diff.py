"""``modplane diff``: what an apply of these manifests would change, as the server itself works it out.

A dry run through the apply endpoint, compared with what is stored: defaults, owners and normalised names are in it,
as they would be.  The exit code says whether anything differs.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path

import click

from controlplane.cli import apply, client, exits, manifests, options, printing, pruning
from schemas import kinds, names
from schemas.meta import Json


@click.command(
    "diff",
    short_help="Show what an apply would change",
    cls=options.Verb,
    examples=("modplane diff -f module.yaml", "modplane diff -f modules/ --prune -l team=insights"),
)
@options.files
@click.option("--force", is_flag=True, help="As an apply with --force: over fields that another manager owns.")
@pruning.prune
@options.server
def command(
    filenames: tuple[str, ...],
    recursive: bool,
    force: bool,
    prune: bool,
    selector: str | None,
    server: str | None,
    data_dir: Path,
) -> None:
    """Show what an apply of these manifests would change; nothing is stored.

    Ends with 0 if nothing differs and with 1 if something does.
    """
    pruning.check_options(prune=prune, selector=selector)
    found = _read(filenames, recursive)
    if problems := manifests.check(found):
        raise exits.refused("\n".join(problems), hint="An apply would refuse this; nothing was compared.")
    api = client.connect(server, data_dir)
    items = [manifest.value for manifest in found]
    stored = _stored(api, items)
    answers = list(api.apply(items, manager=names.MANAGER_CLI, force=force, dry_run=True))
    refusals: list[str] = []
    differs = False
    for manifest, answer in zip(found, answers, strict=True):
        if answer["result"] == "refused":
            refusals += apply.refusal(manifest, answer.get("error") or {})
            continue
        after = answer["object"]
        differs |= _show(stored.get((after["kind"], after["metadata"]["name"])), after)
    if prune and selector:
        for item in pruning.plan(api, items, selector).going:
            differs |= _show(item, None)
    if refusals:
        raise exits.refused("refused:\n" + "\n".join(refusals), hint=apply.hint(answers))
    if differs:
        raise exits.no()


def _read(filenames: tuple[str, ...], recursive: bool) -> list[manifests.Manifest]:
    try:
        return manifests.read(filenames, recursive=recursive)
    except exits.Exit as end:
        # here code 1 means "differs", and nothing was compared
        raise exits.usage(end.message, hint=end.hint) from end


def _stored(api: client.Client, items: list[Json]) -> dict[tuple[str, str], Json]:
    """What the server has of the kinds that the manifests name, one list for each kind."""
    wanted = {str(item["kind"]) for item in items}
    return {
        (kind.name, item["metadata"]["name"]): item
        for kind in kinds.KINDS
        if kind.name in wanted
        for item in api.list_all(kind.plural)["items"]
    }


def _show(before: Json | None, after: Json | None) -> bool:
    """Print the difference of one object; whether there is one."""
    some = after or before
    assert some is not None, "one of the two exists"
    lines = list(_difference(printing.name_of(some), _text(before), _text(after)))
    for line in lines:
        printing.show(line)
    return bool(lines)


def _difference(name: str, before: list[str], after: list[str]) -> Iterator[str]:
    old = f"{name} (stored)" if before else "/dev/null"
    new = f"{name} (applied)" if after else "/dev/null"
    return difflib.unified_diff(before, after, old, new, lineterm="")


def _text(item: Json | None) -> list[str]:
    """What people write of an object, as YAML lines; empty for one that is not there."""
    if item is None:
        return []
    metadata = {key: item["metadata"].get(key) for key in ("name", "labels", "annotations")}
    shown = {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": {key: _sorted(value) for key, value in metadata.items() if value},
        "spec": _sorted(item.get("spec", {})),
    }
    return [line for line in printing.as_yaml(shown).splitlines() if not line.startswith("# yaml-language-server")]


def _sorted(value: object) -> object:
    """A value whose mappings have one order, so that only contents differ."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value
