"""The management API: what administrators ask about modules, in the words of the seed (snake case, module ids).

Answers are plain JSON; refusals are problem documents.  Ids may be written with underscores or hyphens.  Reads the
store; writes go through `controlplane.writing`; discovery is reached through its port.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from controlplane import errors, writing
from controlplane.api import answering, asking, contending, measuring, ports, retracing, summarising
from controlplane.store import readings, stores
from controlplane.store.records import Record
from controlplane.telemetry import measurements
from schemas import names
from schemas.meta import Json
from schemas.module import ModuleState, ModuleType
from schemas.problems import PROBLEM_JSON, Problem

MANAGER = "module-management"

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "model": Problem, "content": {PROBLEM_JSON: {}}}
    for code, text in ((404, "No such module"), (409, "The module changed meanwhile"), (503, "Try again soon"))
}


class Discover(BaseModel, extra="forbid"):
    """How the modules path is to be scanned."""

    prune: bool = Field(False, description="Delete what discovery made and whose code is gone, however much it is.")


Limit = Annotated[int, Query(ge=1, le=10_000, description="How many entries at most.")]


def router(
    store: stores.Store, writer: writing.Writer, discoverer: ports.Discoverer, measured: measurements.Measurements
) -> APIRouter:
    """The routes below ``/api/v1/module-management``."""
    routes = APIRouter(prefix=names.MANAGEMENT_PREFIX, tags=["module management"])
    management = Management(store, writer, discoverer)
    table: list[tuple[str, str, Callable[..., Awaitable[Response]]]] = [
        ("POST", "/modules/discover", management.discover),
        ("GET", "/modules/registration-history", management.history),
        ("GET", "/modules", management.modules),
        ("GET", "/modules/metrics", measuring.Measuring(store, measured).metrics),
        ("GET", "/routing/conflicts", management.conflicts),
        ("GET", "/modules/{module_id}/status", management.status),
        ("GET", "/modules/{module_id}/trace", management.trace),
        ("DELETE", "/modules/{module_id}", management.delete),
    ]
    for method, path, endpoint in table:
        routes.add_api_route(path, endpoint, methods=[method], response_class=Response, responses=_PROBLEMS)
    return routes


class Management:
    """Handlers of the management API."""

    def __init__(self, store: stores.Store, writer: writing.Writer, discoverer: ports.Discoverer) -> None:
        self._store = store
        self._writer = writer
        self._discoverer = discoverer

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
        state: ModuleState | None = None,
        type_: Annotated[ModuleType | None, Query(alias="type")] = None,
        after: Annotated[str, Query(description="The last module_id of the page before.", max_length=63)] = "",
        limit: Limit = 1000,
    ) -> Response:
        """Every module, in the order of names, by pages."""

        def read(reading: readings.Reading) -> tuple[list[Json], int]:
            records = reading.list("Module", after_name=names.object_name(after))
            chosen = [
                record
                for record in records
                if (state is None or record.status.get("state") == state.value)
                and (type_ is None or record.spec.get("type") == type_.value)
            ]
            return [summarising.summary(record) for record in chosen[:limit]], len(chosen)

        found, total = await self._store.read(read)
        more = found[-1]["module_id"] if len(found) < total else None
        return answering.answer({"modules": found, "total": total, "next": more})

    async def status(self, module_id: str) -> Response:
        """One module: state, health, routes, workers, conditions."""
        name = names.object_name(module_id)

        def read(reading: readings.Reading) -> tuple[Record | None, str | None]:
            return reading.get("Module", name), reading.row_error(name)

        record, row_error = await self._store.read(read)
        if record is None:
            raise _missing(name, row_error)
        return answering.answer({**summarising.detail(record), "row_error": row_error})

    async def delete(self, request: Request, module_id: str) -> Response:
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
        state: ModuleState | None = None,
        since: Annotated[datetime | None, Query(alias="from")] = None,
        until: Annotated[datetime | None, Query(alias="to")] = None,
        limit: Limit = 100,
    ) -> Response:
        """Lifecycle transitions, the newest first, as far back as events are kept (30 days)."""
        name, earliest, latest = names.object_name(module), _aware(since), _aware(until)

        def read(reading: readings.Reading) -> list[Json]:
            found = reading.events_of(name, 10_000) if name else reading.list("ModuleEvent")
            chosen = (
                record
                for record in sorted(found, key=lambda record: record.revision, reverse=True)
                if (state is None or record.spec.get("to") == state.value)
                and (earliest is None or record.created_at >= earliest)
                and (latest is None or record.created_at <= latest)
            )
            return [summarising.event(record) for record, _ in zip(chosen, range(limit), strict=False)]

        return answering.answer({"events": await self._store.read(read)})

    async def trace(self, module_id: str) -> Response:
        """What the last change of a module took: every step with its time, on the control plane and on each worker."""
        name = names.object_name(module_id)
        return answering.answer(await self._store.read(lambda reading: retracing.told(reading, name)))

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
