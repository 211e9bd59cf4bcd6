"""``modplane wait``: return when objects are as wanted, at once when they never will be."""

from pathlib import Path

import click

from controlplane.cli import client, exits, options, waiting


@click.command(
    "wait",
    short_help="Wait until objects are as you want them",
    cls=options.Verb,
    examples=(
        "modplane wait module analytics-core --for=state=ACTIVE --timeout 2m",
        "modplane wait modules --all --for=condition=Ready",
        "modplane wait module/analytics-core --for=delete",
    ),
)
@click.argument("what", nargs=-1, required=True, metavar="KIND NAME... | KIND/NAME...")
@click.option(
    "--for",
    "goals",
    multiple=True,
    required=True,
    metavar="GOAL",
    help="state=ACTIVE, condition=Ready, condition=Ready=False or delete; several must all hold.",
)
@click.option("--all", "every", is_flag=True, help="All objects of the kind that there are now.")
@options.selector
@options.timeout("60s")
@options.server
def command(
    what: tuple[str, ...],
    goals: tuple[str, ...],
    every: bool,
    selector: str | None,
    timeout: float,
    server: str | None,
    data_dir: Path,
) -> None:
    """Wait until objects are as you want them.

    A Module with a lasting error (Stalled=True) ends the wait at once with exit code 1 and the reason.
    """
    aims = [waiting.parse(goal) for goal in goals]
    wanted = options.wanted(what)
    api = client.connect(server, data_dir)
    until = waiting.deadline(timeout)
    for plural in dict.fromkeys(plural for plural, _ in wanted):
        named = [name for kind, name in wanted if kind == plural and name is not None]
        if not named:
            named = _present(api, plural, every, selector)
        for aim in aims:
            targets = {name: waiting.Target(name) for name in named}
            waiting.until(
                api, plural, targets, aim, deadline=until, told=waiting.announce(plural, f"condition met: {aim.words}")
            )


def _present(api: client.Client, plural: str, every: bool, selector: str | None) -> list[str]:
    if not every and not selector:
        raise exits.usage(f"name the {plural} to wait for, or say --all or -l LABELS")
    return [item["metadata"]["name"] for item in api.list_all(plural, selector=selector)["items"]]
