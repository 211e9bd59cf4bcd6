"""Keeps the mirror tables equal to the objects, in the same transaction.

What always holds: each write of ours moves ``synced_revision``, by which the triggers know it from a person's; a
row that a person wrote keeps the ``id`` in the person's spelling.  Called by `controlplane.store.transactions`.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, TextClause, bindparam, delete, literal_column, select, text, update

from controlplane import errors
from controlplane.store import encoding, mirrors
from controlplane.store.ledgers import Ledger
from controlplane.store.records import Record, RowEdit
from controlplane.store.tables import ACCESS_ROWS, ID_NAME, MODULE_ROWS, PAIR_NAMES, ROW_EDITS
from schemas import names
from schemas.problems import Violation

_id_name: ColumnElement[str] = literal_column(ID_NAME)
_KEPT: Final = ("id", "created_by", "created_at")
"""Columns that an upsert leaves as they are."""

_SETTLE: Final = (
    update(ROW_EDITS)
    .where(ROW_EDITS.c.id == bindparam("id_"))
    .values(settled_at=bindparam("settled"), error=bindparam("reason"))
)
_PAIR: Final = select(ACCESS_ROWS.c.id).where(
    literal_column(PAIR_NAMES[0]) == bindparam("organisation"),
    literal_column(PAIR_NAMES[1]) == bindparam("module"),
    _id_name != bindparam("name"),
)


@dataclass(frozen=True, slots=True)
class _Mirror:
    """The statements of one mirror table."""

    table: Table
    columns: tuple[str, ...]

    @property
    def upsert(self) -> TextClause:
        """Write a row of ours, whatever a person called it."""
        changed = ", ".join(f"{column} = excluded.{column}" for column in self.columns if column not in _KEPT)
        return text(
            f"INSERT INTO {self.table.name} ({', '.join(self.columns)})"  # noqa: S608 (names of our own columns)
            f" VALUES ({', '.join(f':{column}' for column in self.columns)})"
            f" ON CONFLICT ({ID_NAME}) DO UPDATE SET {changed}, sync_error = NULL"
        )


_MODULES: Final = _Mirror(
    MODULE_ROWS,
    (
        *("id", "name", "description", "version", "module_type", "status", "entry_point", "config_schema"),
        *("default_config", "dependencies", "api_endpoints", "spec"),
        *("created_by", "created_at", "updated_at", "synced_revision"),
    ),
)
_ACCESSES: Final = _Mirror(
    ACCESS_ROWS,
    (
        *("id", "organisation_id", "module_id", "is_enabled", "configuration", "spec"),
        *("created_by", "created_at", "synced_revision"),
    ),
)
_TABLES: Final = {"Module": MODULE_ROWS, "ModuleAccess": ACCESS_ROWS}
_UPSERTS: Final = {"Module": _MODULES.upsert, "ModuleAccess": _ACCESSES.upsert}
_ROWS: Final = {"Module": mirrors.module_row, "ModuleAccess": mirrors.access_row}
_MARK: Final = {
    table.name: update(table)
    .where(_id_name == bindparam("name_"), table.c.synced_revision.is_not(None))
    .values(synced_revision=-1)
    for table in _TABLES.values()
}
_DELETE: Final = {
    table.name: delete(table).where(_id_name == bindparam("name_"), table.c.synced_revision == -1)
    for table in _TABLES.values()
}
_FLAG: Final = {
    table.name: update(table)
    .where(table.c.id == bindparam("row_"), table.c.sync_error.is_distinct_from(bindparam("reason")))
    .values(sync_error=bindparam("reason"))
    for table in _TABLES.values()
}


def put(ledger: Ledger, old: Record | None, new: Record, *, same_spec: bool = False) -> None:
    """Bring the mirror row of an object up to date; kinds without a mirror have none.

    ``same_spec``: the specs are known to be equal, as of most writes, which are about conditions.
    """
    if new.kind not in _ROWS or new.deleting or (old is not None and same_spec and _routes(old) == _routes(new)):
        return
    row = _ROWS[new.kind](new)
    if new.kind == "ModuleAccess":
        _check_pair(ledger, new, row)
    at = encoding.sql_time(ledger.now)
    row |= {
        "created_by": mirrors.created_by(new),
        "created_at": encoding.sql_time(new.created_at),
        "synced_revision": new.revision,
    }
    if new.kind == "Module":
        row["updated_at"] = at
    ledger.wait(_TABLES[new.kind], _UPSERTS[new.kind], row)


def _routes(record: Record) -> Any:
    """All that a row shows of a status; none are as good as none yet."""
    return record.status.get("routes") or []


def remove(ledger: Ledger, record: Record) -> None:
    """Take the mirror row of an object away; a row that a person has put in its place meanwhile stays."""
    table = _TABLES.get(record.kind)
    if table is not None:
        ledger.wait(table, _MARK[table.name], {"name_": record.name})
        ledger.wait(table, _DELETE[table.name], {"name_": record.name})


def settle(ledger: Ledger, edit: RowEdit, error: str | None) -> None:
    """Write down what became of a person's edit, beside the edit and in the row."""
    ledger.wait(ROW_EDITS, _SETTLE, {"id_": edit.id, "settled": ledger.at, "reason": error})
    statement = _FLAG.get(edit.table)
    if statement is not None:
        table = MODULE_ROWS if edit.table == MODULE_ROWS.name else ACCESS_ROWS
        ledger.wait(table, statement, {"row_": edit.row_id, "reason": error})


def _check_pair(ledger: Ledger, record: Record, row: dict[str, Any]) -> None:
    ledger.flush(ACCESS_ROWS)
    organisation, module = names.object_name(row["organisation_id"]), names.object_name(row["module_id"])
    others = ledger.ask(_PAIR, {"organisation": organisation, "module": module, "name": names.object_name(record.name)})
    if others:
        message = f"{organisation} has access to {module} already, in ModuleAccess {others[0][0]!r}; change that one"
        raise errors.Invalid([Violation(pointer="/spec/module", message=message, reason="FieldValueDuplicate")])
