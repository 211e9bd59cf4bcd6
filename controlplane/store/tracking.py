"""The trace of each module's newest generation, and the steps that were taken in it.

What always holds: the trace is stored in the transaction that stores the generation (or asks for the deletion), so it
survives whatever happens before the next step; a module has one, and only steps of traces that some module has are
kept.  Steps take no revision and wake nobody.  Called by `controlplane.store.transactions`; read by the reconciler,
which goes on in that trace, and by the management API.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, bindparam, delete, select, text

from controlplane.store.ledgers import Ledger
from controlplane.store.records import Record
from controlplane.store.tables import TRACE_STEPS, TRACES
from schemas.kits import tracecontext
from schemas.kits.tracecontext import Traceparent
from schemas.traces import Step

KIND: Final = "Module"
STEPS_MAX: Final = 2_000
"""Steps of one module's change that are read."""

_BEGIN: Final = text(
    "INSERT INTO traces (name, uid, generation, trace_id, traceparent, at)"
    " VALUES (:name, :uid, :generation, :trace_id, :traceparent, :at)"
    " ON CONFLICT (name) DO UPDATE SET uid = excluded.uid, generation = excluded.generation,"
    " trace_id = excluded.trace_id, traceparent = excluded.traceparent, at = excluded.at"
)
_FORGET: Final = delete(TRACES).where(TRACES.c.name == bindparam("name_"), TRACES.c.uid == bindparam("uid_"))
_ONE: Final = select(TRACES.c.uid, TRACES.c.generation, TRACES.c.traceparent, TRACES.c.at).where(
    TRACES.c.name == bindparam("name")
)
_KNOWN: Final = select(TRACES.c.name).where(TRACES.c.trace_id == bindparam("trace")).limit(1)
_KEEP: Final = text(
    "INSERT INTO trace_steps (trace_id, id, parent, name, who, module, start, micros, error)"
    " VALUES (:trace, :id, :parent, :name, :who, :module, :start, :micros, :error)"
    " ON CONFLICT (trace_id, id) DO UPDATE SET parent = excluded.parent, name = excluded.name, who = excluded.who,"
    " module = excluded.module, start = excluded.start, micros = excluded.micros, error = excluded.error"
)
_STEPS: Final = (
    select(
        TRACE_STEPS.c.trace_id,
        TRACE_STEPS.c.id,
        TRACE_STEPS.c.parent,
        TRACE_STEPS.c.name,
        TRACE_STEPS.c.who,
        TRACE_STEPS.c.module,
        TRACE_STEPS.c.start,
        TRACE_STEPS.c.micros,
        TRACE_STEPS.c.error,
    )
    .where(TRACE_STEPS.c.trace_id == bindparam("trace"), TRACE_STEPS.c.module.in_(("", bindparam("module"))))
    .order_by((TRACE_STEPS.c.module == "").asc(), TRACE_STEPS.c.start, TRACE_STEPS.c.id)
    .limit(STEPS_MAX)
)
_STRANGE: Final = select(TRACE_STEPS.c.id).where(
    TRACE_STEPS.c.trace_id == bindparam("trace"), TRACE_STEPS.c.id.in_(bindparam("ids", expanding=True))
)
SUPERSEDED: Final = delete(TRACE_STEPS).where(TRACE_STEPS.c.trace_id.not_in(select(TRACES.c.trace_id)))
"""Drops the steps of traces that no module's newest generation came in."""

Ask = Callable[[Select[Any], Mapping[str, Any] | None], list[Any]]


class Trace(NamedTuple):
    """In whose trace a generation came."""

    uid: str
    generation: int
    position: Traceparent
    at: str


def begin(ledger: Ledger, record: Record) -> None:
    """A generation is stored, or its deletion asked for: what follows belongs to this unit's trace."""
    if record.kind != KIND:
        return
    position = tracecontext.read_traceparent(ledger.trace) or tracecontext.start()
    ledger.wait(
        TRACES,
        _BEGIN,
        {
            "name": record.name,
            "uid": record.uid,
            "generation": record.generation,
            "trace_id": position.trace_id,
            "traceparent": str(position),
            "at": ledger.at,
        },
    )


def forget(ledger: Ledger, record: Record) -> None:
    """An object is gone."""
    if record.kind == KIND:
        ledger.wait(TRACES, _FORGET, {"name_": record.name, "uid_": record.uid})


def keep(ledger: Ledger, steps: Collection[Step]) -> int:
    """Keep those of ``steps`` that belong to some module's newest generation; a repeated one takes its own place."""
    ledger.flush(TRACES)
    known = {trace for trace in {step.trace for step in steps} if ledger.ask(_KNOWN, {"trace": trace})}
    fresh = {(step.trace, step.id): step for step in steps if step.trace in known}
    for step in fresh.values():
        ledger.wait(TRACE_STEPS, _KEEP, vars(step))  # of flat words and numbers only
    return len(fresh)


def of(ask: Ask, name: str) -> Trace | None:
    """The trace of a module's newest generation; None: there is no such module, or it is older than traces."""
    rows = ask(_ONE, {"name": name})
    position = tracecontext.read_traceparent(rows[0][2]) if rows else None
    return None if position is None else Trace(rows[0][0], rows[0][1], position, rows[0][3])


def steps(ask: Ask, trace_id: str, module: str) -> list[Step]:
    """What was done for a module in a trace, in order; nothing that was done on the way to other modules alone."""
    names = ("trace", "id", "parent", "name", "who", "module", "start", "micros", "error")
    rows = ask(_STEPS, {"trace": trace_id, "module": module})
    found = {step.id: step for step in (Step.model_construct(**dict(zip(names, row, strict=True))) for row in rows)}
    parents = {step.parent for step in found.values()} - found.keys() - {""}
    left = {row[0] for row in ask(_STRANGE, {"trace": trace_id, "ids": sorted(parents)})} if parents else set()
    while left:
        left = {step.id for step in found.values() if step.parent in left and not step.module}
        for each in left:
            del found[each]
    return sorted(found.values(), key=lambda step: (step.start, step.id))
