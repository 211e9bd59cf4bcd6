"""A person's SQL becomes manifests: each queued edit of a mirror row is an ordinary write by manager ``sql``.

Always holds: edits of one row are taken in their order; an edit of an object that is on its way out waits until it is
gone; nonsense is written beside the row and fails that row alone.  An edit may be taken twice (the process died
between the write and its settling), which comes to the same.  Run by `controlplane.app` on the leader: one query
every half second, whatever the number of rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from controlplane import errors, writing
from controlplane.store import mirrors, stores, transactions
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


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What became of an edit."""

    edit: RowEdit
    error: str | None = None
    waits: bool = False


class RowEdits:
    """Takes people's edits of the mirror tables.

    ``epoch`` fences the settling: a leader of the past takes nothing off the queue.  ``wake`` is told each Module whose
    edit was settled, because a refusal shows in its status.
    """

    def __init__(
        self,
        store: stores.Store,
        writer: writing.Writer,
        clock: Clock,
        epoch: Callable[[], int] | None = None,
        *,
        wake: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._epoch = epoch
        self._wake = wake

    async def run(self) -> None:
        """Take edits until cancelled."""
        while True:
            await self.sweep()
            await self._clock.sleep(INTERVAL)

    async def sweep(self) -> int:
        """Take every edit that is queued now; how many were settled."""
        edits = await self._store.read(lambda reading: reading.row_edits(_LIMIT))
        if not edits:
            return 0
        verdicts: list[_Verdict] = []
        held: set[tuple[str, str]] = set()
        try:
            for group in _groups(edits):
                ready = [edit for edit in group if _key(edit) not in held]
                for verdict in await self._taken(ready):
                    if verdict.waits:
                        held.add(_key(verdict.edit))
                    else:
                        verdicts.append(verdict)
        finally:
            await self._settle(verdicts)
        return len(verdicts)

    async def _settle(self, verdicts: Sequence[_Verdict]) -> None:
        if not verdicts:
            return

        def settle(tx: transactions.Transaction) -> None:
            for verdict in verdicts:
                tx.settle_row_edit(verdict.edit, verdict.error)

        await self._store.write(settle, epoch=None if self._epoch is None else self._epoch())
        for verdict in verdicts:
            edit = verdict.edit
            if verdict.error is not None:
                logger.warning("row edit refused", table=edit.table, row=edit.row_id, error=verdict.error)
            if self._wake is not None and _TABLES[edit.table].kind == "Module":
                self._wake(names.object_name(edit.row_id))

    async def _taken(self, edits: Sequence[RowEdit]) -> list[_Verdict]:
        try:
            return await self._attempted(edits)
        except errors.ModplaneError:
            raise
        except Exception as error:
            if len(edits) > 1:
                return [verdict for edit in edits for verdict in await self._taken([edit])]
            logger.exception("row edit failed", table=edits[0].table, row=edits[0].row_id)
            message = f"this edit could not be taken ({type(error).__name__}: {error}); write the row in another way"
            return [_Verdict(edits[0], message)]

    async def _attempted(self, edits: Sequence[RowEdit]) -> list[_Verdict]:
        if not edits:
            return []
        if edits[0].operation == "INSERT":
            return await self._inserted(edits)
        (edit,) = edits
        try:
            await (self._updated(edit) if edit.operation == "UPDATE" else self._deleted(edit.table, edit.row_id))
        except errors.StoreError:
            raise
        except errors.ModplaneError as error:
            return [_refused(edit, error)]
        return [_Verdict(edit)]

    async def _inserted(self, edits: Sequence[RowEdit]) -> list[_Verdict]:
        verdicts: list[_Verdict] = []
        documents: list[tuple[RowEdit, Json]] = []
        for edit in edits:
            try:
                documents.append((edit, _TABLES[edit.table].manifest(edit.new or {})))
            except errors.ModplaneError as error:
                verdicts.append(_refused(edit, error))
        if documents:
            outcomes = await self._writer.apply(
                [document for _, document in documents], manager=names.MANAGER_SQL, reason=_REASON
            )
            for (edit, _), outcome in zip(documents, outcomes, strict=True):
                verdicts.append(_Verdict(edit) if outcome.error is None else _refused(edit, outcome.error))
        return verdicts

    async def _updated(self, edit: RowEdit) -> None:
        table, old, new = _TABLES[edit.table], edit.old or {}, edit.new or {}
        name = mirrors.row_name(new)
        if mirrors.row_name(old) != name:
            await self._deleted(edit.table, str(old.get("id", "")))
            await self._applied(table.manifest(new))
            return
        record, refused = await self._store.read(
            lambda reading: (reading.get(table.kind, name), table.kind == "Module" and reading.row_error(name))
        )
        if record is None:
            await self._applied(table.manifest(new))
            return
        patch = table.patch(table.row(record) if refused else old, new)
        if patch:
            await self._writer.merge_patch(table.kind, name, patch, manager=names.MANAGER_SQL, reason=_REASON)

    async def _applied(self, document: Json) -> None:
        (outcome,) = await self._writer.apply([document], manager=names.MANAGER_SQL, reason=_REASON)
        if outcome.error is not None:
            raise outcome.error

    async def _deleted(self, table: str, row_id: str) -> None:
        name = names.object_name(row_id)
        try:
            await self._writer.delete(_TABLES[table].kind, name, manager=names.MANAGER_SQL, reason=_REASON)
        except errors.NotFound:
            logger.info("row deleted that was no object", table=table, row=row_id)


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


def _refused(edit: RowEdit, error: errors.ModplaneError) -> _Verdict:
    return _Verdict(edit, waits=True) if error.retryable else _Verdict(edit, error.message)
