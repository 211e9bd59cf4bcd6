"""The management API: what administrators ask about modules, in the words of the seed (snake case, module ids).

Answers are plain JSON; refusals are problem documents.  Ids may be written with underscores or hyphens.  Reads the
store; writes go through `controlplane.writing`; discovery is reached through its port.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from controlplane import errors, writing
from controlplane.api import (
    answering,
    asking,
    contending,
    documenting,
    measuring,
    modelling,
    overseeing,
    ports,
    retracing,
    selecting,
    summarising,
    tailing,
)
from controlplane.store import readings, stores
from controlplane.store.records import Record
from controlplane.telemetry import measurements
from schemas import kinds, names
from schemas.meta import Json
from schemas.module import ModuleType

MANAGER = "module-management"


class Discover(BaseModel, extra="forbid"):
    """How the modules path is to be scanned."""

    prune: bool = Field(
        False, strict=True, description="Delete what discovery made and whose code is gone, however much it is."
    )


Limit = Annotated[int, Query(ge=1, le=10_000, description="How many entries at most.")]
State = Annotated[
    modelling.State | None,
    BeforeValidator(lambda word: word.lower() if isinstance(word, str) else word),
    Query(description="Only in this state."),
]
ModuleId = Annotated[
    str,
    Path(
        description="A module's id or name: underscores and hyphens are the same.",
        pattern=r"^[A-Za-z0-9]([-_A-Za-z0-9]{0,61}[A-Za-z0-9])?$",
        examples=["analytics_core"],
    ),
]


@dataclass(frozen=True, slots=True)
class _Operation:
    """One row of the table of operations."""

    method: str
    path: str
    endpoint: Callable[..., Awaitable[Response]]
    answer: type[BaseModel]
    codes: tuple[int, ...] = ()
    """What it may refuse with, beside what every operation may."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the handlers reach."""

    store: stores.Store
    writer: writing.Writer
    discoverer: ports.Discoverer
    measured: measurements.Measurements
    oversight: overseeing.Oversight
    last_check: ports.LastCheck
    tail: ports.Tail


def router(rooms: Rooms) -> APIRouter:
    """The routes below ``/api/v1/module-management``."""
    routes = APIRouter(prefix=names.MANAGEMENT_PREFIX, tags=["module management"])
    management, oversight = Management(rooms), rooms.oversight
    metrics = measuring.Measuring(rooms.store, rooms.measured).metrics
    for each in (
        _Operation("POST", "/modules/discover", management.discover, modelling.Discovery, (403, 422)),
        _Operation("GET", "/modules/registration-history", management.history, modelling.Transitions, (422,)),
        _Operation("GET", "/modules", management.modules, modelling.ModuleList, (400, 422)),
        _Operation("GET", "/modules/metrics", metrics, modelling.Metrics, (404, 422)),
        _Operation("GET", "/routing/conflicts", management.conflicts, modelling.Conflicts, (422,)),
        _Operation("GET", "/system/health", oversight.health, modelling.SystemHealth),
        _Operation("GET", "/workers", oversight.workers, modelling.Workers),
        _Operation("GET", "/events", oversight.events, modelling.Transitions, (422,)),
        _Operation("GET", "/modules/{module_id}/status", management.status, modelling.ModuleDetail, (404, 422)),
        _Operation("GET", "/modules/{module_id}/trace", management.trace, modelling.Trace, (404, 422)),
        _Operation("GET", "/modules/{module_id}/logs", management.logs, modelling.ModuleLogs, (404, 422)),
        _Operation("DELETE", "/modules/{module_id}", management.delete, modelling.Deletion, (403, 404, 409, 422)),
    ):
        problems: dict[int | str, Any] = documenting.problems(*each.codes)
        if each.method == "DELETE":
            problems[202] = {"model": each.answer, "description": "Its routes are drained, then it goes."}
        routes.add_api_route(
            each.path, each.endpoint, methods=[each.method], response_model=each.answer, responses=problems
        )
    return routes


class Management:
    """Handlers of the management API."""

    def __init__(self, rooms: Rooms) -> None:
        self._store = rooms.store
        self._writer = rooms.writer
        self._discoverer = rooms.discoverer
        self._last_check = rooms.last_check
        self._tail = rooms.tail

    async def discover(
        self,
        request: Request,
        asked: Annotated[Discover | None, Body()] = None,
        prune: Annotated[bool, Query(description="The same as in the body.")] = False,
    ) -> Response:
        """Scan the modules path now.

        Modules whose code is gone are ``deleted`` if discovery made them, or listed as ``missing``; ``held`` says why
        those stay that discovery made, ``prunable`` which of them a prune deletes.
        """
        asking.noted(request).verb = "discover"
        return answering.answer(await self._discoverer.discover(prune=prune or (asked is not None and asked.prune)))

    async def modules(
        self,
        state: State = None,
        type_: Annotated[ModuleType | None, Query(alias="type")] = None,
        label: asking.Labels = "",
        namespace: Annotated[str, Query(description="Only in this namespace.", max_length=63)] = "",
        after: Annotated[str, Query(description="The last module_id of the page before.", max_length=63)] = "",
        limit: Limit = 1000,
    ) -> Response:
        """Every module, in the order of names, by pages."""
        selector = selecting.parse(kinds.BY_NAME["Module"], label, "")
        where = names.object_name(namespace)

        def read(reading: readings.Reading) -> tuple[list[Json], int]:
            records = reading.list("Module", after_name=names.object_name(after))
            chosen = [
                record
                for record in records
                if (state is None or summarising.state(record) == state)
                and (type_ is None or record.spec.get("type") == type_.value)
                and (not where or summarising.namespace(record) == where)
                and selector.matches({"metadata": {"labels": record.labels}})
            ]
            return [summarising.summary(record) for record in chosen[:limit]], len(chosen)

        found, total = await self._store.read(read)
        more = found[-1]["module_id"] if len(found) < total else None
        return answering.answer({"modules": found, "total": total, "next": more})

    async def status(self, module_id: ModuleId) -> Response:
        """One module: state, health, routes, workers, conditions."""
        name = names.object_name(module_id)

        def read(reading: readings.Reading) -> tuple[Record | None, str | None]:
            return reading.get("Module", name), reading.row_error(name)

        record, row_error = await self._store.read(read)
        if record is None:
            raise _missing(name, row_error)
        return answering.answer({**summarising.detail(record, self._last_check(name)), "row_error": row_error})

    async def delete(self, request: Request, module_id: ModuleId) -> Response:
        """Ask for a module's deletion: its routes are drained, then it goes."""
        noted = asking.noted(request)
        noted.manager = MANAGER
        outcome = await self._writer.delete("Module", names.object_name(module_id), manager=MANAGER)
        assert outcome.record is not None
        noted.changed(outcome.verb, f"Module/{outcome.record.name}", revision=outcome.record.revision)
        body = {
            "module_id": names.module_id(outcome.record.name),
            "deleted": outcome.gone,
            "deleting": not outcome.gone,
        }
        return answering.answer(body, 200 if outcome.gone else 202)

    async def history(
        self,
        module: Annotated[str, Query(description="Only of this module id.", max_length=63)] = "",
        state: State = None,
        since: Annotated[asking.Moment | None, Query(alias="from")] = None,
        until: Annotated[asking.Moment | None, Query(alias="to")] = None,
        limit: Limit = 100,
    ) -> Response:
        """Lifecycle transitions, the newest first, as far back as events are kept (30 days)."""
        name, earliest, latest = names.object_name(module), _aware(since), _aware(until)

        def read(reading: readings.Reading) -> list[Json]:
            found = reading.events_of(name, 10_000) if name else reading.list("ModuleEvent")
            chosen = (
                record
                for record in sorted(found, key=lambda record: record.revision, reverse=True)
                if (state is None or str(record.spec.get("to")).lower() == state)
                and (earliest is None or record.created_at >= earliest)
                and (latest is None or record.created_at <= latest)
            )
            return [summarising.event(record) for record, _ in zip(chosen, range(limit), strict=False)]

        return answering.answer({"events": await self._store.read(read)})

    async def trace(self, module_id: ModuleId) -> Response:
        """What the last change of a module took: every step with its time, on the control plane and on each worker."""
        name = names.object_name(module_id)
        return answering.answer(await self._store.read(lambda reading: retracing.told(reading, name)))

    async def logs(
        self,
        module_id: ModuleId,
        worker: Annotated[str, Query(description="Only of this worker.", max_length=63)] = "",
        after: Annotated[
            str,
            Query(
                description="What the asker has already: ``WORKER/BOOT:NUMBER`` of each worker, with commas between.",
                pattern=tailing.CURSOR,
                max_length=4_000,
            ),
        ] = "",
    ) -> Response:
        """What a module printed and logged last, by worker; asked of the workers now, and nothing of it is stored."""
        name = names.object_name(module_id)
        asked = await self._store.read(lambda reading: tailing.workers(reading, name, worker))
        return answering.answer(await tailing.told(self._tail, name, asked, tailing.cursor(after)))

    async def conflicts(
        self,
        module: Annotated[str, Query(description="Only what concerns this module id.", max_length=63)] = "",
        namespace: Annotated[str, Query(description="Only in this namespace.", max_length=63)] = "",
        limit: Limit = 1000,
    ) -> Response:
        """Routes that modules are refused, since others hold them; and shadowed routes: whose requests others answer.

        ``complete`` is false where a namespace has more overlapping routes than are compared for one answer, or either
        list has more entries than asked for.
        """
        wanted = contending.Wanted(names.object_name(module), names.object_name(namespace), limit)
        return answering.answer(await self._store.read(lambda reading: contending.told(reading, wanted)))


def _missing(name: str, row_error: str | None) -> Exception:
    if row_error is None:
        return errors.NotFound("Module", name)
    return answering.Refusal(
        404, f"Module {name!r} does not exist: its row in analytics_modules was refused ({row_error}); correct the row"
    )


def _aware(moment: datetime | None) -> datetime | None:
    """A moment without a zone is UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
