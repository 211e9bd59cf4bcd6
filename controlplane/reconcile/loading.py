"""Reads the facts of one module: everything on one snapshot of the store, and the fleet beside it.

What always holds: a decision rests on the current state only, never on what an event said; nothing is written.
Called by `looping`; goes to `deciding`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

import pydantic
from sqlalchemy.exc import SQLAlchemyError

from controlplane.reconcile import accepting, dependencies, examining
from controlplane.reconcile.facts import Facts
from controlplane.store import neighbouring, tracking
from controlplane.store.readings import Reading
from controlplane.store.records import Record
from schemas import names, paths
from schemas.inspections import InspectionOutcome
from schemas.kits.tracecontext import Traceparent
from schemas.module import DesiredModule, ModuleSpec, ModuleStatus

Loaded: TypeAlias = Mapping[str, Facts | Exception | None]
"""By name: the facts; that there is no such module (None); or what is wrong with this one alone."""


def read_all(reading: Reading, wanted: Sequence[str], now: datetime, examiner: examining.Examiner) -> Loaded:
    """The facts of several modules, as `read`, and their traces; one that cannot be read is nobody else's trouble."""
    found: dict[str, Facts | Exception | None] = {}
    for name in wanted:
        try:
            facts = read(reading, name, now, examiner)
            found[name] = None if facts is None else replace(facts, trace=trace_of(reading, name))
        except SQLAlchemyError:
            raise  # the database's: no other question would fare better
        except Exception as problem:  # noqa: BLE001 (raised again in the turn of this module)
            found[name] = problem
    return found


def read(reading: Reading, name: str, now: datetime, examiner: examining.Examiner) -> Facts | None:
    """The facts of the module ``name``, but for the fleet; None: there is no such module."""
    record = reading.get("Module", name)
    if record is None:
        return None
    spec, error = spec_of(record)
    facts = Facts(
        record=record,
        spec=spec,
        spec_error=error,
        status=status_of(record),
        now=now,
        desired=reading.desired_row(names.module_key(name)),
        row_error=reading.row_error(name),
        held=tuple(reading.claims_of(record.uid)),
    )
    if spec is None or record.deleting:
        return facts
    facts = replace(facts, last_good=_last_good(reading, facts, spec, examiner))
    graph = dependencies.reachable(depends_on(spec), lambda other: neighbour(reading.get("Module", other)))
    return _in_company(reading, replace(facts, graph=graph, examination=examiner.look(reading, record, spec)), spec)


def trace_of(reading: Reading, name: str) -> Traceparent | None:
    """In whose trace the newest generation of a module came; who goes on in the transaction that brought it knows."""
    trace = tracking.of(reading.ask, name)
    return None if trace is None else trace.position


def _last_good(reading: Reading, facts: Facts, spec: ModuleSpec, examiner: examining.Examiner) -> DesiredModule | None:
    """What workers were told of the last good generation, made again from its spec and what its code had said."""
    good, record = facts.status.last_good, facts.record
    if good is None or not spec.rollout.bake_seconds or good.generation >= record.generation:
        return None
    kept = next((entry for entry in reading.history(record.uid) if entry.generation == good.generation), None)
    earlier, _ = (None, "") if kept is None else spec_of(replace(record, spec=kept.spec))
    if earlier is None or earlier.source.digest != good.digest:
        return None
    report = examiner.look(reading, replace(record, generation=good.generation), earlier).report
    if report is None or report.outcome is not InspectionOutcome.OK:
        return None
    return accepting.desired_module(record.name, earlier, report)


def _in_company(reading: Reading, facts: Facts, spec: ModuleSpec) -> Facts:
    """The facts with what other modules hold and want around this one's routes."""
    ask, uid = reading.ask, facts.record.uid
    where = (spec.routing.api_version, spec.namespace(facts.record.name))
    if not neighbouring.anybody(ask, *where, uid):
        return facts
    report = facts.examination.report
    wanted = [] if report is None else [route.path for route in report.routes]
    held = [claim.path for claim in facts.held if (claim.api_version, claim.namespace) == where]
    shapes = {paths.path_shape(path) for path in (*wanted, *held)}
    return replace(
        facts,
        rivals=tuple(claim for claim in neighbouring.claims_at(ask, *where, shapes) if claim.uid != uid),
        near=tuple(neighbouring.claims_near(ask, *where, uid, {*wanted, *held})),
        refused=tuple(neighbouring.contests_at(ask, *where, uid, shapes)),
        contests=tuple(neighbouring.contests_of(ask, uid)),
    )


def spec_of(record: Record) -> tuple[ModuleSpec | None, str]:
    """The spec of a stored module, or what is wrong with it."""
    try:
        return ModuleSpec.model_validate(record.spec), ""
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        return None, f"/spec/{'/'.join(str(part) for part in first['loc'])}: {first['msg']}"


def status_of(record: Record) -> ModuleStatus:
    """The status of a stored module; one that cannot be read counts as none."""
    try:
        return ModuleStatus.model_validate(record.status)
    except pydantic.ValidationError:
        return ModuleStatus()


def depends_on(spec: ModuleSpec) -> tuple[str, ...]:
    """The names of the modules that a spec depends on."""
    return tuple(names.object_name(dependency.name) for dependency in spec.dependencies)


def neighbour(record: Record | None) -> dependencies.Neighbour | None:
    """What others need to know of a module."""
    if record is None:
        return None
    spec, _ = spec_of(record)
    serving = status_of(record).serving
    return dependencies.Neighbour(
        name=record.name,
        serving_version=None if serving is None else serving.version,
        deleting=record.deleting,
        depends_on=() if spec is None else depends_on(spec),
    )
