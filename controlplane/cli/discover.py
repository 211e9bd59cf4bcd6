"""``modplane discover``: have the control plane scan its modules path now."""

from collections.abc import Iterator
from pathlib import Path

import click

from controlplane.cli import client, exits, options, printing
from schemas.meta import Json

_FATES = ("applied", "updated", "unchanged", "pinned", "missing", "deleted")


@click.command(
    "discover",
    short_help="Scan the modules path now",
    cls=options.Verb,
    examples=("modplane discover", "modplane discover --prune", "modplane discover -o json"),
)
@click.option("--prune", is_flag=True, help="Delete what discovery made and whose code is gone, however much it is.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="The whole answer.")
@options.server
def command(prune: bool, output: str | None, server: str | None, data_dir: Path) -> None:
    """Have the control plane scan its modules path and apply what it finds.

    Prints one line per module; exits with code 1 if a source or manifest was refused.
    """
    answer = client.connect(server, data_dir).discover(prune=prune)
    failed = [f"{each['path']}: {each['message']}" for each in answer.get("failed", [])]
    if output == "json":
        printing.show(printing.as_json(answer))
    else:
        printing.show("\n".join(_lines(answer, len(failed))))
    if failed:
        raise exits.no("\n".join(failed))


def _lines(answer: Json, refused: int) -> Iterator[str]:
    for word in _FATES:
        for name in answer.get(word, []):
            yield f"module/{name} {word}"
    prunable = answer.get("prunable", [])
    if prunable:
        why = answer.get("held") or "`modplane describe` says why"
        yield (
            f"Not deleted by itself: {', '.join(prunable)} ({why}). Put the code back, or delete all that is gone with "
            "`modplane discover --prune`."
        )
    inspecting = answer.get("inspecting", [])
    if inspecting:
        yield (
            f"Still being inspected: {', '.join(inspecting)}. The next scan takes what they answer: wait a bit, and "
            "run `modplane discover` again. Code that takes this long at its import should do its work in on_startup()."
        )
    yield f"{answer.get('scanned', 0)} scanned, {len(answer.get('unchanged', []))} unchanged, {refused} refused"
