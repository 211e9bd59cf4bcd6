"""The platform as a whole, for the management API: its health, its workers, what happened.

What always holds: the health of the system is answered also when the database is not; then it says so instead of
counting.  Reads the store; what the process knows of itself comes through its port.  Called by `managing`.
"""

from collections import Counter
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from controlplane import errors
from controlplane.api import answering, ports, summarising
from controlplane.store import readings, stores
from controlplane.store.records import Record
from schemas import names
from schemas.kits.clocks import Clock
from schemas.meta import Json, now_text

_SHOWN = 20


class Oversight:
    """Handlers of what concerns all modules at once."""

    def __init__(self, store: stores.Store, clock: Clock, readiness: ports.Readiness) -> None:
        self._store = store
        self._clock = clock
        self._readiness = readiness

    async def health(self) -> Response:
        """How the platform is: the parts of this process, modules and workers, and what is not as it should be."""
        checks = self._readiness()
        reasons = [f"{name}: {check.get('reason', '')}" for name, check in checks.items() if not check.get("ok")]
        broken = bool(reasons)
        modules: Json | None = None
        workers: Json | None = None
        try:
            records, fleet = await self._store.read(lambda reading: (reading.list("Module"), reading.list("Worker")))
        except errors.ModplaneError as error:
            broken = True
            reasons.append(f"store: {error.message}")
        else:
            modules = dict(Counter(summarising.state(record) for record in records))
            workers = dict(Counter(summarising.worker_state(record) for record in fleet))
            reasons += _troubles(records, fleet)
        body = {
            "status": "unhealthy" if broken else "degraded" if reasons else "healthy",
            "reasons": reasons[:_SHOWN],
            "checks": checks,
            "modules": modules,
            "workers": workers,
            "checked_at": now_text(self._clock.now()),
        }
        return answering.answer(body)

    async def workers(self) -> Response:
        """Every worker, with what it serves, waits for, refused, and finds ailing."""
        found = await self._store.read(lambda reading: reading.list("Worker"))
        return answering.answer({"workers": [summarising.worker(record) for record in found], "total": len(found)})

    async def events(
        self,
        module: Annotated[str, Query(description="Only of this module id.", max_length=63)] = "",
        limit: Annotated[int, Query(ge=1, le=10_000, description="How many at most.")] = 100,
    ) -> Response:
        """What happened, the newest first: the lifecycle events of modules, as far back as they are kept."""
        name = names.object_name(module)

        def read(reading: readings.Reading) -> list[Record]:
            found = reading.events_of(name, limit) if name else reading.list("ModuleEvent")
            return sorted(found, key=lambda record: record.revision, reverse=True)[:limit]

        return answering.answer({"events": [summarising.event(record) for record in await self._store.read(read)]})


def _troubles(modules: list[Record], workers: list[Record]) -> list[str]:
    """What is not as it should be, one line each."""
    said = [
        f"worker {record.name}: {summarising.worker_state(record)}"
        for record in workers
        if summarising.worker_state(record) not in ("synced", "empty")
    ]
    if not workers:
        said.append("no worker has reported; start one with `modplane worker`")
    found = ((names.module_id(record.name), summarising.trouble(record)) for record in modules)
    return said + [f"module {name}: {trouble}" for name, trouble in found if trouble is not None]
