"""Every question that the store answers, on one snapshot.

A `Reading` is made by `controlplane.store.stores` for one closure, on a connection of its own that cannot write;
`controlplane.store.transactions` inherits the questions, where they see the unit's own writes.  It is dead once
the closure has returned: what leaves are records.
"""

import builtins
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.sql import Select

from controlplane import errors
from controlplane.store import encoding, executing
from controlplane.store.records import (
    Change,
    Claim,
    DesiredHead,
    DesiredRow,
    HistoryEntry,
    Lease,
    OutboxRow,
    Record,
    RowEdit,
)
from controlplane.store.tables import (
    CHANGES,
    CLAIMS,
    DESIRED,
    DESIRED_HEAD,
    HISTORY,
    INSPECTIONS,
    LEASES,
    META,
    MODULE_ROWS,
    OBJECTS,
    OUTBOX,
    ROW_EDITS,
)
from schemas.meta import Json

LEASE = "controlplane"
"""The lease of the one that reconciles."""

_CHUNK = 500
"""How many values one IN list holds, below every database's limit."""

_META = select(META.c.revision, META.c.compacted)
_OBJECT = select(*encoding.OBJECT_COLUMNS).where(
    OBJECTS.c.kind == bindparam("kind"), OBJECTS.c.name == bindparam("name")
)
_LIST = (
    select(*encoding.OBJECT_COLUMNS)
    .where(OBJECTS.c.kind == bindparam("kind"), OBJECTS.c.name > bindparam("after"))
    .order_by(OBJECTS.c.name)
)
_LIST_SOME = _LIST.limit(bindparam("limit"))
_LIST_NAMED = (
    select(*encoding.OBJECT_COLUMNS)
    .where(OBJECTS.c.kind == bindparam("kind"), OBJECTS.c.name.in_(bindparam("names", expanding=True)))
    .order_by(OBJECTS.c.name)
)
_COUNT = select(func.count()).select_from(OBJECTS).where(OBJECTS.c.kind == bindparam("kind"))
_EVENTS = (
    select(*encoding.OBJECT_COLUMNS)
    .where(OBJECTS.c.about == bindparam("about"))
    .order_by(OBJECTS.c.revision.desc())
    .limit(bindparam("limit"))
)
_CHANGES = (
    select(*encoding.CHANGE_COLUMNS)
    .where(CHANGES.c.revision > bindparam("after"))
    .order_by(CHANGES.c.revision)
    .limit(bindparam("limit"))
)
_CHANGES_OF = _CHANGES.where(CHANGES.c.kind.in_(bindparam("kinds", expanding=True)))
_PENDING = (
    select(*encoding.OUTBOX_COLUMNS)
    .where(OUTBOX.c.published_at.is_(None))
    .order_by(OUTBOX.c.id)
    .limit(bindparam("limit"))
)
_DESIRED = select(*encoding.DESIRED_COLUMNS).order_by(DESIRED.c.revision)
_DESIRED_ROW = select(*encoding.DESIRED_COLUMNS).where(DESIRED.c.key == bindparam("key"))
_HEAD = select(DESIRED_HEAD.c.epoch, DESIRED_HEAD.c.revision, DESIRED_HEAD.c.count, DESIRED_HEAD.c.hash)
_CLAIMS = select(*encoding.CLAIM_COLUMNS).order_by(CLAIMS.c.revision, CLAIMS.c.shape, CLAIMS.c.method)
_CLAIMS_BY = {
    (): _CLAIMS,
    ("api_version",): _CLAIMS.where(CLAIMS.c.api_version == bindparam("api_version")),
    ("namespace",): _CLAIMS.where(CLAIMS.c.namespace == bindparam("namespace")),
    ("api_version", "namespace"): _CLAIMS.where(
        CLAIMS.c.api_version == bindparam("api_version"), CLAIMS.c.namespace == bindparam("namespace")
    ),
}
_CLAIMS_OF = _CLAIMS.where(CLAIMS.c.uid == bindparam("uid"))
_INSPECTION = select(INSPECTIONS.c.report).where(INSPECTIONS.c.key == bindparam("key"))
_INSPECTED = select(INSPECTIONS.c.key).where(INSPECTIONS.c.key.in_(bindparam("keys", expanding=True)))
_HISTORY = (
    select(HISTORY.c.uid, HISTORY.c.generation, HISTORY.c.spec, HISTORY.c.manager, HISTORY.c.reason, HISTORY.c.at)
    .where(HISTORY.c.uid == bindparam("uid"))
    .order_by(HISTORY.c.generation)
)
_EDITS = (
    select(
        ROW_EDITS.c.id,
        ROW_EDITS.c.table_name,
        ROW_EDITS.c.operation,
        ROW_EDITS.c.row_id,
        ROW_EDITS.c.old,
        ROW_EDITS.c.new,
    )
    .where(ROW_EDITS.c.settled_at.is_(None))
    .order_by(ROW_EDITS.c.id)
    .limit(bindparam("limit"))
)
_LAST_ERROR = (
    select(ROW_EDITS.c.error)
    .where(
        ROW_EDITS.c.table_name == bindparam("table"),
        ROW_EDITS.c.row_name == bindparam("name"),
        ROW_EDITS.c.settled_at.is_not(None),
    )
    .order_by(ROW_EDITS.c.id.desc())
    .limit(1)
)
_LEASE = select(LEASES.c.holder, LEASES.c.epoch, LEASES.c.beat, LEASES.c.released).where(
    LEASES.c.name == bindparam("name")
)


class Reading:
    """Questions on one snapshot of the database."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._revision, self._compacted = self._read_meta()

    @property
    def revision(self) -> int:
        """The newest revision that this snapshot holds."""
        return self._revision

    def get(self, kind: str, name: str) -> Record | None:
        """The object of that kind and name."""
        row = self._first(_OBJECT, {"kind": kind, "name": name})
        return None if row is None else encoding.record(row)

    def list(
        self, kind: str, *, after_name: str = "", limit: int | None = None, names: Collection[str] | None = None
    ) -> builtins.list[Record]:
        """Objects of a kind in the order of their names: after ``after_name``, or exactly those of ``names``."""
        if names is not None:
            wanted = sorted({name for name in names if name > after_name})
            rows = [
                row
                for start in range(0, len(wanted), _CHUNK)
                for row in self._all(_LIST_NAMED, {"kind": kind, "names": wanted[start : start + _CHUNK]})
            ][:limit]
        elif limit is None:
            rows = self._all(_LIST, {"kind": kind, "after": after_name})
        else:
            rows = self._all(_LIST_SOME, {"kind": kind, "after": after_name, "limit": limit})
        return [encoding.record(row) for row in rows]

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return int(self._one(_COUNT, {"kind": kind})[0])

    def events_of(self, module_name: str, limit: int) -> builtins.list[Record]:
        """The newest ``limit`` ModuleEvents of a module, newest last."""
        return [encoding.record(row) for row in reversed(self._all(_EVENTS, {"about": module_name, "limit": limit}))]

    def changes(self, after: int, kinds: Collection[str] | None = None, limit: int = 500) -> builtins.list[Change]:
        """The next changes after a revision, in revision order.  errors.Compacted: they are not all kept any more."""
        if after < self._compacted:
            raise errors.Compacted(self._compacted)
        asked: dict[str, Any] = {"after": after, "limit": limit}
        if kinds is None:
            rows = self._all(_CHANGES, asked)
        else:
            rows = self._all(_CHANGES_OF, {**asked, "kinds": sorted(kinds)})
        return [encoding.change(row) for row in rows]

    def oldest_change(self) -> int:
        """The lowest revision *after* which every change is still kept: `changes` refuses any lower one."""
        return self._compacted

    def pending_outbox(self, limit: int) -> builtins.list[OutboxRow]:
        """Events that nobody confirmed yet, oldest first."""
        return [encoding.outbox_row(row) for row in self._all(_PENDING, {"limit": limit})]

    def desired(self) -> builtins.list[DesiredRow]:
        """Every key of the desired set with its tombstones, in revision order."""
        return [encoding.desired_row(row) for row in self._all(_DESIRED)]

    def desired_row(self, key: str) -> DesiredRow | None:
        """One key of the desired set."""
        row = self._first(_DESIRED_ROW, {"key": key})
        return None if row is None else encoding.desired_row(row)

    def head(self) -> DesiredHead:
        """The proof of the desired set: newest (epoch, revision), count and hash of the rows without tombstones."""
        return DesiredHead(*self._one(_HEAD))

    def claims(self, api_version: str | None = None, namespace: str | None = None) -> builtins.list[Claim]:
        """Route claims, oldest first; all, or those of a version, of a namespace."""
        asked = {"api_version": api_version, "namespace": namespace}
        given = {name: value for name, value in asked.items() if value is not None}
        return [encoding.claim(row) for row in self._all(_CLAIMS_BY[tuple(given)], given)]

    def claims_of(self, uid: str) -> builtins.list[Claim]:
        """The routes that one module holds."""
        return [encoding.claim(row) for row in self._all(_CLAIMS_OF, {"uid": uid})]

    def inspection(self, key: str) -> Json | None:
        """The kept inspection report under a key."""
        text = self.inspection_text(key)
        return None if text is None else dict(encoding.load(text))

    def inspection_text(self, key: str) -> str | None:
        """The same as it is kept: JSON."""
        row = self._first(_INSPECTION, {"key": key})
        return None if row is None else str(row[0])

    def inspected(self, keys: Collection[str]) -> set[str]:
        """Under which of these keys an inspection report is kept."""
        wanted = sorted(keys)
        return {
            str(row[0])
            for start in range(0, len(wanted), _CHUNK)
            for row in self._all(_INSPECTED, {"keys": wanted[start : start + _CHUNK]})
        }

    def history(self, uid: str) -> builtins.list[HistoryEntry]:
        """The kept generations of an object's spec, oldest first."""
        return [
            HistoryEntry(uid, generation, encoding.load(spec), manager, reason, encoding.moment(at))
            for uid, generation, spec, manager, reason, at in self._all(_HISTORY, {"uid": uid})
        ]

    def row_edits(self, limit: int) -> builtins.list[RowEdit]:
        """What people did to the mirrors and nobody dealt with yet, in order."""
        return [
            RowEdit(number, table, operation, row_id, _loaded(old), _loaded(new))
            for number, table, operation, row_id, old, new in self._all(_EDITS, {"limit": limit})
        ]

    def row_error(self, module_name: str) -> str | None:
        """Why the last edit of a module's row was refused; None if it was not."""
        row = self._first(_LAST_ERROR, {"table": MODULE_ROWS.name, "name": module_name})
        return None if row is None else row[0]

    def lease(self, name: str = LEASE) -> Lease | None:
        """Who holds a lease; None: nobody ever did."""
        row = self._first(_LEASE, {"name": name})
        return None if row is None else Lease(row[0], row[1], row[2], bool(row[3]))

    def ask(self, statement: Select[Any], asked: Mapping[str, Any] | None = None) -> builtins.list[Any]:
        """The rows of a statement; for the other files of this room."""
        return self._all(statement, asked)

    def close(self) -> None:
        """End the life of this reading: later questions raise errors.StoreError."""
        self._connection = None

    def _read_meta(self) -> tuple[int, int]:
        revision, compacted = self._one(_META)
        return revision, compacted

    def _open(self) -> Connection:
        if self._connection is None:
            raise errors.StoreError("this snapshot is over: ask inside the function that was handed to the store")
        return self._connection

    def _all(self, statement: Select[Any], asked: Mapping[str, Any] | None = None) -> builtins.list[Any]:
        return executing.rows(self._open(), statement, asked or {})

    def _first(self, statement: Select[Any], asked: Mapping[str, Any] | None = None) -> Any:
        found = self._all(statement, asked)
        return found[0] if found else None

    def _one(self, statement: Select[Any], asked: Mapping[str, Any] | None = None) -> Any:
        (row,) = self._all(statement, asked)
        return row


def _loaded(text: str | None) -> Json | None:
    return None if text is None else dict(encoding.load(text))
