"""What a module wrote last: asked of the workers at the moment of the call, nothing of it is kept here.

Called by `controlplane.api.managing`; the workers are those that the store knows and that are not lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from controlplane import errors
from controlplane.api import ports
from controlplane.store.readings import Reading
from schemas import names
from schemas.lines import LineReport
from schemas.meta import Json

_ONE: Final = r"[-a-z0-9]{1,63}/[a-z0-9]{0,64}:[0-9]{1,12}"
CURSOR: Final = rf"^({_ONE}(,{_ONE})*)?$"
"""How `cursor` is written."""
_KIND: Final = "Worker"


class Nobody:
    """Asks no worker: for an application without NATS."""

    async def lines(self, module: str, known: Mapping[str, tuple[str, int]]) -> list[LineReport]:
        """Nothing."""
        return []


async def told(tail: ports.Tail, name: str, workers: list[str], known: Mapping[str, tuple[str, int]]) -> Json:
    """The lines of a module by worker; who did not answer is named."""
    reports = await tail.lines(name, {worker: known.get(worker, ("", 0)) for worker in workers})
    return {
        "module_id": names.module_id(name),
        "workers": [_shown(report) for report in sorted(reports, key=lambda report: report.worker)],
        "silent": sorted(set(workers) - {report.worker for report in reports}),
    }


def workers(reading: Reading, module: str, worker: str) -> list[str]:
    """The workers to ask.  errors.NotFound: there is no such module, or no such worker."""
    if reading.get("Module", module) is None:
        raise errors.NotFound("Module", module)
    found = [record.name for record in reading.list(_KIND) if not record.status.get("lost")]
    if worker and worker not in found:
        raise errors.NotFound(_KIND, worker)
    return [worker] if worker else found


def cursor(text: str) -> dict[str, tuple[str, int]]:
    """``w0/boot:12,w1/boot:7``: the last line of each worker that the asker has; a text of the form `CURSOR`."""
    known: dict[str, tuple[str, int]] = {}
    for each in filter(None, text.split(",")):
        worker, _, rest = each.partition("/")
        boot, _, number = rest.partition(":")
        known[worker] = (boot, int(number))
    return known


def _shown(report: LineReport) -> Json:
    last = report.lines[-1].number if report.lines else None
    return {
        "id": report.worker,
        "boot": report.boot,
        "dropped": report.dropped,
        "last": last,
        "lines": [
            {
                "number": line.number,
                "at": datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds"),
                "level": line.level,
                "text": line.text,
            }
            for line in report.lines
        ],
    }
