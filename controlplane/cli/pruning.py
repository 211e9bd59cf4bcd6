"""Pruning: deleting what an apply once made and no manifest names any more, within guard rails.

Always holds: only objects that carry the labels of the selector and that nobody but manager ``modplane`` (and
discovery, which yields) has written go; what somebody else wrote too is told and stays; more than a small share goes
only when the limit is raised or confirmed in words.  Called by ``apply`` and ``diff``.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import click

from controlplane.cli import client, exits, options, printing, waiting
from controlplane.cli.options import Function
from schemas import kinds, names
from schemas.meta import Json

SHARE: Final = 0.2
COUNT: Final = 10
"""Without a word more, a prune takes at most this share, and at most this many objects (but one always)."""

_YIELDING: Final = frozenset({names.MANAGER_CLI, names.MANAGER_DISCOVERY})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prune takes."""

    going: tuple[Json, ...]
    staying: tuple[tuple[Json, str], ...]
    """Objects that match but are somebody else's too, with who that is."""
    matching: int
    """How many objects of ours carry the labels."""

    @property
    def allowed(self) -> int:
        """How many may go without a word more."""
        return max(1, min(COUNT, int(self.matching * SHARE)))


def prune(function: Function) -> Function:
    """``--prune`` and its selector."""
    function = options.selector(function)
    return click.option(
        "--prune", is_flag=True, help="Delete what carries the labels of -l and is in no manifest any more."
    )(function)


def limits(function: Function) -> Function:
    """``--prune-limit`` and ``--yes``."""
    function = click.option("--yes", is_flag=True, help="Prune however many there are, and ask nothing.")(function)
    return click.option(
        "--prune-limit",
        type=click.IntRange(0),
        help=f"Most objects that --prune may delete; otherwise {COUNT}, and {SHARE:.0%} of those with the labels.",
    )(function)


def check_options(*, prune: bool, selector: str | None) -> None:
    """Raises `exits.Exit` with code 2 unless ``--prune`` and ``-l`` come together."""
    if prune and not selector:
        raise exits.usage(
            "--prune needs -l LABELS: without labels it would mean everything",
            hint="Give what you apply together a label, and prune by it: --prune -l team=insights",
        )
    if selector and not prune:
        raise exits.usage("-l says what --prune may delete; give both, or neither")


def plan(api: client.Client, items: Iterable[Json], selector: str) -> Plan:
    """What carries the labels, was made by an apply, and is not among ``items``."""
    kept = {(str(item["kind"]), names.object_name(str(item["metadata"]["name"]))) for item in items}
    if not kept:
        raise exits.no("no manifest: nothing is pruned against nothing")
    going: list[Json] = []
    staying: list[tuple[Json, str]] = []
    matching = 0
    for kind in (kind for kind in kinds.KINDS if kind.writable):
        for item in api.list_all(kind.plural, selector=selector)["items"]:
            metadata = item["metadata"]
            managers = {str(entry.get("manager")) for entry in metadata.get("managedFields", [])}
            if names.MANAGER_CLI not in managers or "deletionTimestamp" in metadata:
                continue
            matching += 1
            if (kind.name, metadata["name"]) in kept:
                continue
            others = sorted(managers - _YIELDING)
            if others:
                staying.append((item, ", ".join(others)))
            else:
                going.append(item)
    # what was made last may depend on what was made first
    going.sort(key=lambda item: str(item["metadata"].get("creationTimestamp", "")), reverse=True)
    return Plan(tuple(going), tuple(staying), matching)


def guard(plan: Plan, *, limit: int | None, yes: bool, dry_run: bool) -> None:
    """Nothing, if the plan may be carried out; on a terminal a person is asked.

    Raises `exits.Exit` with code 1 when too many would go or the person says no.
    """
    for item, who in plan.staying:
        click.echo(f"{printing.name_of(item)} stays: {who} wrote it too", err=True)
    if not plan.going or yes or dry_run:
        return
    listed = "\n".join(f"  {printing.name_of(item)}" for item in plan.going)
    count = len(plan.going)
    if count > (plan.allowed if limit is None else limit):
        allowed = f"at most {plan.allowed} without a word more" if limit is None else f"the limit is {limit}"
        raise exits.no(
            f"{count} of {plan.matching} objects would be pruned, {allowed}:\n{listed}\nnothing was applied or pruned",
            hint=f"If that is what you want: --prune-limit {count}, or --yes.",
        )
    if sys.stdin.isatty() and sys.stdout.isatty():
        click.echo(f"to be deleted:\n{listed}", err=True)
        if not click.confirm("Delete them?", err=True):
            raise exits.no("nothing was applied or pruned")


def carry_out(api: client.Client, plan: Plan, *, dry_run: bool, until: float | None) -> None:
    """Delete what the plan says; with ``until`` (a deadline) wait until it is gone."""
    targets: dict[str, dict[str, waiting.Target]] = {}
    for item in plan.going:
        kind, metadata = kinds.BY_NAME[item["kind"]], item["metadata"]
        try:
            api.delete(kind.plural, metadata["name"], uid=metadata["uid"], dry_run=dry_run)
        except exits.Exit as end:
            if end.code != exits.NO:  # gone meanwhile: as it should be
                raise
            continue
        printing.show(f"{printing.name_of(item)} pruned{' (dry run)' if dry_run else ''}")
        targets.setdefault(kind.plural, {})[metadata["name"]] = waiting.Target(metadata["name"], metadata["uid"])
    if until is None or dry_run:
        return
    for plural, named in targets.items():
        told = waiting.announce(plural, "deleted")
        waiting.until(api, plural, named, waiting.deleted(), deadline=until, told=told)
