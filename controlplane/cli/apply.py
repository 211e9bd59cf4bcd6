"""``modplane apply``: make the server hold what the manifests say.

Checks everything offline first.  A manifest with a problem is told with its place and left out; the others are applied
all the same, unless something is to be pruned: what a broken manifest names would look as if no manifest named it.
Then one answer per object, and one transaction for as many as a request holds.
"""

from pathlib import Path

import click

from controlplane.cli import client, exits, manifests, options, printing, pruning, waiting
from schemas import conditions, kinds, names
from schemas.meta import Json


@click.command(
    "apply",
    short_help="Create or change objects from manifests",
    cls=options.Verb,
    examples=(
        "modplane apply -f module.yaml",
        "modplane apply -f modules/ --wait --timeout 2m",
        "cat module.yaml | modplane apply -f -",
        "modplane apply -f modules/ --prune -l team=insights --dry-run",
    ),
)
@options.files
@click.option(
    "--wait/--no-wait", default=False, help="Wait until Modules are ACTIVE, other objects applied by every worker."
)
@options.timeout("60s")
@click.option("--force", is_flag=True, help="Take over fields that another manager owns.")
@click.option("--dry-run", is_flag=True, help="Let the server check and answer, but store nothing.")
@pruning.prune
@pruning.limits
@options.server
def command(
    filenames: tuple[str, ...],
    recursive: bool,
    wait: bool,
    timeout: float,
    force: bool,
    dry_run: bool,
    prune: bool,
    selector: str | None,
    prune_limit: int | None,
    yes: bool,
    server: str | None,
    data_dir: Path,
) -> None:
    """Create or change objects so that they are as the manifests say.

    With --prune, objects with the labels of -l that an apply made and that no manifest names any more are deleted.
    """
    pruning.check_options(prune=prune, selector=selector)
    found = manifests.read(filenames, recursive=recursive)
    good, problems = manifests.sort_out(found)
    if problems and (prune or not good):
        raise exits.no("\n".join(problems), hint=f"{_count(len(problems), 'problem')}; nothing was applied.")
    for line in problems:
        click.echo(line, err=True)
    api = client.connect(server, data_dir)
    plan = pruning.plan(api, [manifest.value for manifest in good], selector) if prune and selector else None
    if plan is not None:
        pruning.guard(plan, limit=prune_limit, yes=yes, dry_run=dry_run)
    answers = _sent(api, good, force=force, dry_run=dry_run)
    until = waiting.deadline(timeout)
    if plan is not None:
        pruning.carry_out(api, plan, dry_run=dry_run, until=until if wait else None)
    if wait and not dry_run:
        _await([answer["object"] for answer in answers], api, until)
    if problems:
        left_out = len(found) - len(good)
        raise exits.no(
            f"{_count(len(problems), 'problem')}: {left_out} of {len(found)} manifests left out, the others applied"
        )


def _sent(api: client.Client, good: list[manifests.Manifest], *, force: bool, dry_run: bool) -> list[Json]:
    """Apply them, and show what became of each; raises `exits.Exit` with code 3 when one was refused."""
    items = [manifest.value for manifest in good]
    answers: list[Json] = []
    refusals: list[str] = []
    for answer in api.apply(items, manager=names.MANAGER_CLI, force=force, dry_run=dry_run):
        if answer["result"] == "refused":
            refusals += refusal(good[len(answers)], answer.get("error") or {})
        else:
            printing.show(f"{printing.name_of(answer['object'])} {answer['result']}{' (dry run)' if dry_run else ''}")
        answers.append(answer)
    if refusals:
        raise exits.refused("refused:\n" + "\n".join(refusals), hint=hint(answers))
    return answers


def _await(items: list[Json], api: client.Client, until: float) -> None:
    """Until Modules are ACTIVE, and every worker goes by the rest."""
    of_kind: dict[str, list[Json]] = {}
    for item in items:
        of_kind.setdefault(item["kind"], []).append(item)
    for kind, some in of_kind.items():
        plural = kinds.BY_NAME[kind].plural
        active = plural == "modules"
        goal = waiting.in_state("ACTIVE") if active else waiting.with_condition(conditions.APPLIED, "True")
        told = waiting.announce(plural, "is ACTIVE" if active else "is applied by every worker")
        targets = {item["metadata"]["name"]: waiting.Target.of_applied(item) for item in some}
        waiting.until(api, plural, targets, goal, deadline=until, told=told)


def refusal(manifest: manifests.Manifest, error: Json) -> list[str]:
    """Why the server refused a manifest, each line with its place in the file."""
    causes = client.causes(error)
    if not causes:
        line, column = manifest.document.mark("")
        return [f"{manifest.file}:{line}:{column}: {manifests.identity(manifest.value)}: {client.message(error)}"]
    return [manifest.problem(cause) for cause in causes]


def hint(answers: list[Json]) -> str:
    """What to do about refusals."""
    conflict = any((answer.get("error") or {}).get("reason") == "Conflict" for answer in answers)
    return "Take the fields over with --force, or leave them out of the manifest." if conflict else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
