"""``modplane get``: a table as the server lays it out, or the objects themselves; ``-w`` goes on watching."""

from pathlib import Path
from typing import Final

import click

from controlplane.cli import client, exits, options, printing
from schemas.meta import Json

_ROOM: Final = {"NAME": 20, "STATE": 12, "READY": 7}
"""Widths that these columns of a watch have at least: their values change while we look."""


@click.command(
    "get",
    short_help="List objects, or show some",
    cls=options.Verb,
    examples=(
        "modplane get modules",
        "modplane get modules -w",
        "modplane get module analytics-core -o yaml",
        "modplane get workers -o wide",
    ),
)
@click.argument("what", nargs=-1, required=True, metavar="KIND [NAME...] | KIND/NAME...")
@click.option("-o", "--output", type=click.Choice(printing.FORMATS), help="Instead of the table.")
@options.selector
@click.option("-w", "--watch", is_flag=True, help="Go on and show every change.")
@click.option("--no-headers", is_flag=True, help="Leave the headings of tables away.")
@options.server
def command(
    what: tuple[str, ...],
    output: str | None,
    selector: str | None,
    watch: bool,
    no_headers: bool,
    server: str | None,
    data_dir: Path,
) -> None:
    """List the objects of a kind, or show some by name.

    Kinds: modules (mod), organisations (org), moduleaccesses (access), featureflags (flag), workers (wk),
    moduleevents (mev).
    """
    wanted = options.wanted(what)
    api = client.connect(server, data_dir)
    if watch:
        _watch(api, wanted, output, selector, headed=not no_headers)
    elif output in ("json", "yaml", "name"):
        _objects(_fetch(api, wanted, selector), output, single=len(wanted) == 1 and wanted[0][1] is not None)
    else:
        _tables(api, wanted, selector, wide=output == "wide", headed=not no_headers)


def _fetch(api: client.Client, wanted: list[tuple[str, str | None]], selector: str | None) -> list[Json]:
    found: list[Json] = []
    for plural, name in wanted:
        found += [api.get(plural, name)] if name else api.list_all(plural, selector=selector)["items"]
    return found


def _objects(items: list[Json], output: str, *, single: bool) -> None:
    if output == "name":
        for item in items:
            printing.show(printing.name_of(item))
        return
    shown = [printing.presentable(item) for item in items]
    whole: Json = shown[0] if single else {"apiVersion": "v1", "kind": "List", "items": shown}
    printing.show(printing.as_json(whole) if output == "json" else printing.as_yaml(whole))


def _tables(
    api: client.Client, wanted: list[tuple[str, str | None]], selector: str | None, *, wide: bool, headed: bool
) -> None:
    by_kind: dict[str, list[Json]] = {}
    for plural, name in wanted:
        table = api.get(plural, name, table=True) if name else api.list_all(plural, selector=selector, table=True)
        by_kind.setdefault(plural, []).append(table)
    for number, (plural, tables) in enumerate(by_kind.items()):
        rows = [row for table in tables for row in printing.table_rows(table, tables[0], wide=wide)]
        if not rows:
            click.echo(f"no {plural} found", err=True)
            continue
        if number:
            printing.show("")
        head = [printing.table_head(tables[0], wide=wide)] if headed else []
        for line in printing.aligned([*head, *rows]):
            printing.show(line)


def _watch(
    api: client.Client, wanted: list[tuple[str, str | None]], output: str | None, selector: str | None, *, headed: bool
) -> None:
    if len(wanted) != 1:
        raise exits.usage("--watch follows one kind, or one object")
    plural, name = wanted[0]
    fields = f"metadata.name={name}" if name else None
    table = output in (None, "wide")
    widths: list[int] = []
    while True:
        listed = api.list_all(plural, selector=selector, fields=fields, table=table)
        if table:
            head = listed
            lines = printing.table_rows(listed, head, wide=output == "wide")
            titles = printing.table_head(head, wide=output == "wide")
            rows = zip(titles, *lines, strict=True)
            widths = [max(_ROOM.get(column[0], 0), *map(len, column)) for column in rows]
            for row in ([titles] if headed else []) + lines:
                printing.show(_padded(row, widths))
        else:
            head = {}
            for item in listed["items"]:
                _one(item, output)
        headed = False
        try:
            for event in api.watch(
                plural, after=listed["metadata"]["resourceVersion"], selector=selector, fields=fields, table=table
            ):
                if not table:
                    _one(event["object"], output)
                    continue
                for row in printing.table_rows(event["object"], head, wide=output == "wide"):
                    printing.show(_padded(row, widths))
        except client.GoneError:
            continue


def _one(item: Json, output: str | None) -> None:
    if output == "name":
        printing.show(printing.name_of(item))
    elif output == "json":
        printing.show(printing.as_json(printing.presentable(item)))
    else:
        printing.show("---\n" + printing.as_yaml(printing.presentable(item)))


def _padded(row: list[str], widths: list[int]) -> str:
    """A row whose columns line up with the rows before; a wider cell widens its column from here on."""
    widths[:] = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    return "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
