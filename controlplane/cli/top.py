"""``modplane top``: which modules and workers have most to do, and how workers say they are.

Modules are in the order of the time that their calls took, workers by name.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from controlplane.cli import client, options, printing, workers
from schemas import names
from schemas.measures import OTHER
from schemas.meta import Json, now_text

_MODULES: Final = ("MODULE", "CALLS", "ERRORS", "SUCCESS", "AVG MS", "P50 MS", "P99 MS", "INSIDE", "LAST CALL")
_WORKERS: Final = ("WORKER", "STATE", "MODULES", "CALLS", "ERRORS", "P99 MS", "LAG MS", "MEMORY MIB", "STARTED")
_ASKED_AT_ONCE: Final = 8


@click.command(
    "top",
    short_help="Show which modules or workers have most to do",
    cls=options.Verb,
    examples=("modplane top modules", "modplane top modules --since 10m", "modplane top workers"),
)
@click.argument("what", type=click.Choice(["modules", "workers"]))
@click.option("--since", type=options.Duration(), metavar="DURATION", help="Only the calls since so long ago.")
@options.server
def command(what: str, since: float | None, server: str | None, data_dir: Path) -> None:
    """Show calls, errors and durations by module or worker; workers also say how they are.

    Without --since: all that was counted of the routes that there are now.
    """
    api = client.connect(server, data_dir)
    params = {"group": what.removesuffix("s")}
    if since is not None:
        params["from"] = now_text(printing.now() - timedelta(seconds=since))
    counted = api.manage("/modules/metrics", params)
    if what == "modules":
        rows = [_MODULES, *_by_module(counted)]
    else:
        items = api.list_all("workers")["items"]
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as asking:
            rows = [_WORKERS, *_by_worker(items, list(asking.map(workers.ask, items)), counted)]
    printing.show("\n".join(printing.aligned(rows)))


def _by_module(counted: Json) -> Iterator[tuple[str, ...]]:
    for module, total in sorted(counted.items(), key=lambda each: -each[1]["total_duration_ms"]):
        yield (
            module if module == OTHER else names.object_name(module),
            str(total["call_count"]),
            str(total["error_count"]),
            f"{100 * total['success_rate']:.2f}%",
            f"{total['avg_duration_ms']:.1f}",
            _ms(total.get("p50_ms")),
            _ms(total.get("p99_ms")),
            str(total.get("in_flight", 0)),
            _ago(total.get("last_access")),
        )


def _by_worker(items: list[Json], live: list[Json | None], counted: Json) -> Iterator[tuple[str, ...]]:
    for item, said in sorted(zip(items, live, strict=True), key=lambda each: str(each[0]["metadata"]["name"])):
        status, total = item.get("status", {}), counted.get(item["metadata"]["name"], {})
        report = {**(status.get("report") or {}), **((said or {}).get("report") or {})}
        yield (
            item["metadata"]["name"],
            "lost" if status.get("lost") else str(report.get("state", "unknown")),
            str(report.get("modules", 0)),
            str(total.get("call_count", 0)),
            str(total.get("error_count", 0)),
            _ms(total.get("p99_ms")),
            f"{1000 * report.get('loopLagSeconds', 0.0):.1f}" if said else "-",
            f"{report['memoryBytes'] / (1 << 20):.0f}" if said and report.get("memoryBytes") else "-",
            _ago(report.get("startedAt")),
        )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ago(moment: str | None) -> str:
    return f"{printing.age(moment, printing.now())} ago" if moment else "-"
