"""``GET /modules/metrics``: how often each route was called, how long that took, and how it ended.

Read from `controlplane.telemetry.totals`, in the words of the seed: one entry per route under ``module_id:route``, with
its methods inside.  Without a range it tells of the routes that there are now, all that was counted of them; with one,
what was called within it, also of routes that have gone.  Mounted by `controlplane.api.managing`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from controlplane import errors
from controlplane.api import answering, asking
from controlplane.store import readings, stores
from controlplane.telemetry import measurements, totals
from controlplane.telemetry.totals import Series, Total
from schemas import names
from schemas.kits import sketches
from schemas.measures import OTHER
from schemas.meta import Json, now_text


class Group(StrEnum):
    """What is added up to one entry."""

    ROUTE = "route"
    MODULE = "module"
    WORKER = "worker"
    ORGANISATION = "organisation"


Found = list[tuple[Series, Total]]


class Measuring:
    """The handler, over the store and the measurements."""

    def __init__(self, store: stores.Store, kept: measurements.Measurements) -> None:
        self._store = store
        self._kept = kept

    async def metrics(
        self,
        module: Annotated[str, Query(description="Only of this module id.", max_length=63)] = "",
        worker: Annotated[str, Query(description="Only what this worker counted.", max_length=63)] = "",
        since: Annotated[
            asking.Moment | None, Query(alias="from", description="What came from this moment on, to the minute.")
        ] = None,
        until: Annotated[
            asking.Moment | None, Query(alias="to", description="What came before, to the minute.")
        ] = None,
        group: Annotated[Group, Query(description="What one entry tells of.")] = Group.ROUTE,
    ) -> Response:
        """Calls, errors, durations and the last access, by route, module, worker or organisation.

        By route the key is ``module_id:route``; durations are in milliseconds, percentiles within 2 % (over all kept
        calls of the range), ``success_rate`` between 0 and 1.  Every call that did not end well is an error:
        ``errors`` tells them apart.  The last minute's calls are there within some seconds; ranges of more than a day
        ago are exact to the hour, and what is older than 30 days is not kept.
        """
        name = names.object_name(module)
        asked = totals.Asked(name, worker, _moment(since), _moment(until), group is Group.ORGANISATION)
        if asked.since is not None and asked.until is not None and asked.since >= asked.until:
            return answering.answer({})  # nothing was called within no time
        found = await self._kept.ask(lambda connection: totals.read(connection, asked))
        inside = await self._kept.inside()
        for number, _, total in found:
            total.inside = inside.get(number, 0)
        present = await self._store.read(_present)
        if name and name not in present:
            raise errors.NotFound("Module", name)
        ranged = asked.since is not None or asked.until is not None
        chosen = [(series, total) for _, series, total in found if ranged or _stands(series, present)]
        return answering.answer(_GROUPS[group](chosen))


def _moment(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _present(reading: readings.Reading) -> dict[str, tuple[str, set[str]]]:
    """The modules that there are, each with its uid and the templates of its routes."""
    return {
        record.name: (record.uid, {str(route.get("path")) for route in record.status.get("routes") or ()})
        for record in reading.list("Module")
    }


def _stands(series: Series, present: dict[str, tuple[str, set[str]]]) -> bool:
    """Whether a series is of a route that is there now."""
    if series.module == OTHER and not series.organisation:
        return True
    if series.module not in present:
        return False
    uid, routes = present[series.module]
    return bool(series.organisation) or (series.uid == uid and (series.route == OTHER or series.route in routes))


def _by_route(found: Found) -> Json:
    """One entry per module and template; inside it one per method, and the versions that it was counted under."""
    entries = {}
    methods = totals.merged(found, lambda series: (series.module, series.route, series.method))
    versions: dict[tuple[str, str], dict[str, None]] = {}
    for series, _ in found:
        versions.setdefault((series.module, series.route), {})[series.version] = None
    for (module, route), total in sorted(totals.merged(found, lambda series: (series.module, series.route)).items()):
        own = {method: each for (*place, method), each in methods.items() if place == [module, route]}
        entries[f"{names.module_id(module)}:{route}"] = {
            "module_id": names.module_id(module),
            "route": route,
            "method": ", ".join(sorted(own)),
            "version": ", ".join(versions[module, route]),
            **told(total),
            "methods": {method: told(own[method]) for method in sorted(own)},
        }
    return entries


def _by(key: Callable[[Series], str]) -> Callable[[Found], Json]:
    return lambda found: {name: told(total) for name, total in sorted(totals.merged(found, key).items())}


def _by_organisation(found: Found) -> Json:
    modules = totals.merged(found, lambda series: (series.organisation, series.module))
    return {
        organisation: {
            "call_count": total.calls,
            "last_access": _text(total.last),
            "modules": {
                names.module_id(module): {"call_count": each.calls, "last_access": _text(each.last)}
                for (of, module), each in sorted(modules.items())
                if of == organisation
            },
        }
        for organisation, total in sorted(totals.merged(found, lambda series: series.organisation).items())
    }


_GROUPS: dict[Group, Callable[[Found], Json]] = {
    Group.ROUTE: _by_route,
    Group.MODULE: _by(lambda series: names.module_id(series.module)),
    Group.WORKER: _by(lambda series: series.worker),
    Group.ORGANISATION: _by_organisation,
}


def told(total: Total) -> Json:
    """A total in the words of the seed."""
    calls = total.calls
    return {
        "call_count": calls,
        "total_duration_ms": round(total.seconds * 1e3, 3),
        "error_count": total.errors,
        "avg_duration_ms": round(total.seconds / calls * 1e3, 3) if calls else 0.0,
        "success_rate": round(1 - total.errors / calls, 6) if calls else 1.0,
        "errors": {
            "4xx": total.client_errors,
            "5xx": total.server_errors,
            "refused": total.refused,
            "timeout": total.timeouts,
        },
        **_percentiles(total.buckets, {"p50": 0.5, "p90": 0.9, "p99": 0.99}),
        "last_access": _text(total.last),
        "bytes_in": total.received,
        "bytes_out": total.sent,
        "in_flight": total.inside,
    }


def _percentiles(buckets: sketches.Sketch, shares: dict[str, float]) -> dict[str, Any]:
    found = {name: sketches.quantile(buckets, share) for name, share in shares.items()}
    return {f"{name}_ms": None if each is None else round(each * 1e3, 3) for name, each in found.items()}


def _text(last: float) -> str | None:
    return now_text(datetime.fromtimestamp(last, UTC)) if last else None
