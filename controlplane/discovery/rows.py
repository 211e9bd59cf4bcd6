"""A person's SQL becomes manifests: each queued edit of a mirror row is an ordinary write by manager ``sql``.

Always holds: edits of one row are taken in their order, each in the transaction that takes it off the queue, so none
is taken twice; an edit of an object that is on its way out waits until it is gone; nonsense is written beside the row
and fails that row alone.  Run by `controlplane.app` on the leader: one query every half second, whatever the number of
rows.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from controlplane import errors, intaking, writing
from controlplane.admission import merging
from controlplane.store import mirrors, readings, stores, transactions
from controlplane.store.records import RowEdit
from schemas import names
from schemas.kits.clocks import Clock
from schemas.meta import Json

logger = structlog.get_logger("controlplane.discovery.rows")

INTERVAL: Final = 0.5
"""Seconds between two looks; an edit is a write within two."""
_LIMIT: Final = 1_000
_REASON: Final = "edited as a row"

Row = mirrors.Row


@dataclass(frozen=True, slots=True)
class _Table:
    """How the rows of one mirror table are read."""

    kind: str
    manifest: Callable[[Row], Json]
    patch: Callable[[Row, Row], Json]
    row: Callable[[Any], dict[str, Any]]


_TABLES: Final = {
    "analytics_modules": _Table("Module", mirrors.module_manifest, mirrors.module_patch, mirrors.module_row),
    "organisation_modules": _Table("ModuleAccess", mirrors.access_manifest, mirrors.access_patch, mirrors.access_row),
}


@dataclass(slots=True)
class _Plan:
    """What one edit asks for, and what became of it."""

    edit: RowEdit
    writes: Sequence[intaking.Write] = ()
    faults: Sequence[errors.ModplaneError] = ()

    @property
    def waits(self) -> bool:
        """Whether it cannot be done yet."""
        return any(fault.retryable for fault in self.faults)

    @property
    def error(self) -> str | None:
        """Why it cannot be done."""
        return next((fault.message for fault in self.faults), None)


class RowEdits:
    """Takes people's edits of the mirror tables.

    ``writer`` should be fenced: then a leader of the past takes nothing off the queue.  ``wake`` is told each Module
    whose edit was settled, because a refusal shows in its status.
    """

    def __init__(
        self, store: stores.Store, writer: writing.Writer, clock: Clock, *, wake: Callable[[str], None] | None = None
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._wake = wake

    async def run(self) -> None:
        """Take edits until cancelled."""
        while True:
            await self.sweep()
            await self._clock.sleep(INTERVAL)

    async def sweep(self) -> int:
        """Take every edit that is queued now; how many were settled."""
        edits = await self._store.read(lambda reading: reading.row_edits(_LIMIT))
        held: set[tuple[str, str]] = set()
        settled = 0
        for group in _groups(edits):
            for plan in await self._taken([edit for edit in group if _key(edit) not in held]):
                if plan.waits:
                    held.add(_key(plan.edit))
                else:
                    settled += 1
                    self._tell(plan)
        return settled

    def _tell(self, plan: _Plan) -> None:
        edit = plan.edit
        if plan.error is not None:
            logger.warning("row edit refused", table=edit.table, row=edit.row_id, error=plan.error)
        if self._wake is not None and _TABLES[edit.table].kind == "Module":
            self._wake(names.object_name(edit.row_id))

    async def _taken(self, edits: Sequence[RowEdit]) -> list[_Plan]:
        """Take edits together; one that makes us fail is found by taking each alone."""
        if not edits:
            return []
        try:
            plans = await self._store.read(lambda reading: [_planned(reading, edit) for edit in edits])
            await self._carry_out(plans)
        except errors.ModplaneError:
            raise
        except Exception as error:
            if len(edits) > 1:
                return [plan for edit in edits for plan in await self._taken([edit])]
            logger.exception("row edit failed", table=edits[0].table, row=edits[0].row_id)
            message = f"this edit could not be taken ({type(error).__name__}: {error}); write the row in another way"
            plans = [_Plan(edits[0], faults=[errors.ModplaneError(message)])]
            await self._carry_out(plans)
        return plans

    async def _carry_out(self, plans: Sequence[_Plan]) -> None:
        """Write and settle, in one transaction."""
        writes = [write for plan in plans for write in plan.writes]

        def settle(tx: transactions.Transaction, outcomes: Sequence[writing.Outcome]) -> None:
            left = iter(zip(writes, outcomes, strict=True))
            for plan in plans:
                if plan.writes:
                    plan.faults = _faults(itertools.islice(left, len(plan.writes)))
                if not plan.waits:
                    tx.settle_row_edit(plan.edit, plan.error)

        await self._writer.write(writes, reason=_REASON, also=settle)


def _faults(outcomes: Iterable[tuple[intaking.Write, writing.Outcome]]) -> list[errors.ModplaneError]:
    """What was refused; a row that is deleted and was no object is no fault."""
    return [
        outcome.error
        for write, outcome in outcomes
        if outcome.error is not None
        and not (write.action is intaking.Action.DELETE and isinstance(outcome.error, errors.NotFound))
    ]


def _planned(reading: readings.Reading, edit: RowEdit) -> _Plan:
    """What an edit asks for, as things stand."""
    try:
        return _Plan(edit, _writes(reading, edit))
    except errors.ModplaneError as error:
        return _Plan(edit, faults=[error])


def _writes(reading: readings.Reading, edit: RowEdit) -> list[intaking.Write]:
    table, old, new = _TABLES[edit.table], edit.old or {}, edit.new or {}
    if edit.operation == "DELETE":
        return [_delete(table, edit.row_id)]
    if edit.operation == "INSERT":
        return [_apply(table, new)]
    name = mirrors.row_name(new)
    if mirrors.row_name(old) != name:
        return [_delete(table, str(old.get("id", ""))), _apply(table, new)]
    record = reading.get(table.kind, name)
    if record is None:
        return [_apply(table, new)]
    refused = table.kind == "Module" and reading.row_error(name)
    patch = table.patch(table.row(record) if refused else old, new)
    if not patch:
        return []
    return [
        intaking.Write(
            intaking.Action.PATCH,
            table.kind,
            name,
            edit=lambda document: merging.merge_patch(document, patch),
            manager=names.MANAGER_SQL,
        )
    ]


def _apply(table: _Table, row: Row) -> intaking.Write:
    return intaking.intake(intaking.Action.APPLY, table.manifest(row), manager=names.MANAGER_SQL)


def _delete(table: _Table, row_id: str) -> intaking.Write:
    return intaking.Write(intaking.Action.DELETE, table.kind, names.object_name(row_id), manager=names.MANAGER_SQL)


def _groups(edits: Sequence[RowEdit]) -> Iterator[list[RowEdit]]:
    """Edits in order: runs of INSERTs of different rows together, each other edit alone."""
    group: list[RowEdit] = []
    seen: set[tuple[str, str]] = set()
    for edit in edits:
        if edit.operation == "INSERT" and _key(edit) not in seen:
            group.append(edit)
            seen.add(_key(edit))
            continue
        if group:
            yield group
        group, seen = ([edit], {_key(edit)}) if edit.operation == "INSERT" else ([], set())
        if edit.operation != "INSERT":
            yield [edit]
    if group:
        yield group


def _key(edit: RowEdit) -> tuple[str, str]:
    return (edit.table, names.object_name(edit.row_id))
