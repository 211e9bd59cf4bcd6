"""One database write transaction: its revision counter, what it has seen, what it still has to write.

What always holds: there is one writer at a time (``BEGIN IMMEDIATE``, or the advisory lock), so what was read in
this transaction stays true until its commit; revisions are handed out only for writes that happen, and the
counter row is written last, once.  Writes wait in order, table by table, and go out as few ``executemany``.

Made by `controlplane.store.writers` for a group of units; each unit's `controlplane.store.transactions.Transaction`
writes through it; committed by the writer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Executable, Table, bindparam, delete, insert, select, update

from controlplane import errors
from controlplane.store import encoding, executing
from controlplane.store.records import Batch, Change, Claim, DesiredHead, DesiredRow, OutboxRow, Record
from controlplane.store.tables import CHANGES, META, OBJECTS, OUTBOX
from schemas.meta import now_text

_META = select(META.c.revision, META.c.compacted)
_COUNT = update(META).values(revision=bindparam("revision_"))
_OBJECT = select(*encoding.OBJECT_COLUMNS).where(
    OBJECTS.c.kind == bindparam("kind"), OBJECTS.c.name == bindparam("name")
)
_INSERT_OBJECT: Final = insert(OBJECTS)
_UPDATE_OBJECT: Final = (
    update(OBJECTS)
    .where(OBJECTS.c.uid == bindparam("uid_"), OBJECTS.c.revision == bindparam("revision_"))
    .values(
        {
            column: bindparam(column)
            for column in (
                "generation",
                "revision",
                "deleted_at",
                "labels",
                "annotations",
                "finalizers",
                "managed_fields",
                "spec",
                "status",
                "sequence",
                "about",
            )
        }
    )
)
_DELETE_OBJECT: Final = delete(OBJECTS).where(
    OBJECTS.c.uid == bindparam("uid_"), OBJECTS.c.revision == bindparam("revision_")
)
_SEQUENCE: Final = update(OBJECTS).where(OBJECTS.c.uid == bindparam("uid_")).values(sequence=bindparam("sequence_"))
_INSERT_CHANGE: Final = insert(CHANGES)
_INSERT_OUTBOX: Final = insert(OUTBOX)

_COUNTED: Final = (_UPDATE_OBJECT, _DELETE_OBJECT)
"""Statements of which each must hit exactly one row."""


class Ledger:
    """The writes of one transaction."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.at = now_text(now)
        ((self.first, self.compacted),) = self.ask(_META)
        """The revision at which the transaction began, and how far the change log was cut."""
        self.revision: int = self.first
        self.writes = 0
        """Counts writes, so that a unit that failed before its first one can be left in its group."""
        self.spoiled = False
        """Whether a statement failed: then only a rollback helps."""
        self.epoch: int | None = None
        """The lease's epoch as this transaction left it; None: not looked at yet."""
        self.trace = ""
        """The ``traceparent`` of the unit that writes now; empty: nobody traces it."""
        self.changes: list[Change] = []
        self.outbox: list[OutboxRow] = []
        self.desired: list[DesiredRow] = []
        self.head: DesiredHead | None = None
        """The head as this transaction left it; None: not looked at yet (see `controlplane.store.desiring`)."""
        self.claims: dict[str, list[Claim]] = {}
        """By uid, what modules were seen to hold; only as long as no claim was taken or given up since."""
        self.desired_rows: dict[str, DesiredRow | None] = {}
        """By key, the desired rows that were looked at, as this transaction left them."""
        self._seen: dict[tuple[str, str], Sequence[Any] | None] = {}
        self._records: dict[tuple[str, str], tuple[Sequence[Any], Record]] = {}
        """Of rows in `_seen`, what they say: a unit asks for the same object several times."""
        self._waiting: dict[Table, list[tuple[Executable, list[Mapping[str, Any]]]]] = {}
        self._latest: dict[str, dict[str, Any]] = {}

    def ask(self, statement: Executable, asked: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows of a query, as the database is without the writes that wait."""
        return executing.rows(self.connection, statement, asked or {})

    def advance(self) -> int:
        """The next revision, for a write that happens now."""
        self.revision += 1
        self.writes += 1
        return self.revision

    def stored(self, kind: str, name: str) -> Sequence[Any] | None:
        """The row of an object as this transaction left it (`encoding.OBJECT_COLUMNS`)."""
        key = (kind, name)
        if key not in self._seen:  # then no write to it waits either
            found = self.ask(_OBJECT, {"kind": kind, "name": name})
            self._seen[key] = found[0] if found else None
        return self._seen[key]

    def record(self, kind: str, name: str) -> Record | None:
        """The object as this transaction left it."""
        row = self.stored(kind, name)
        if row is None:
            return None
        known = self._records.get((kind, name))
        if known is None or known[0] is not row:
            known = self._records[kind, name] = (row, encoding.record(row))
        return known[1]

    def recall(self, row: Sequence[Any], record: Record) -> None:
        """Take ``record`` for what ``row`` says: it was read from the same row, in a snapshot of before."""
        self._records[record.kind, record.name] = (row, record)

    def insert_object(self, record: Record) -> None:
        """Write a new object under the revision it carries."""
        row = encoding.object_row(record, 0)
        self.wait(OBJECTS, _INSERT_OBJECT, row)
        self._remember(row, record)

    def update_object(self, record: Record, row: dict[str, Any], revision: int) -> None:
        """Write ``record``, which is ``row``, over the object of ``revision``; if that still waits: in its place."""
        values = self._latest.get(row["uid"])
        if values is None or values["revision"] != revision:
            values = {**row, "uid_": row["uid"], "revision_": revision}
            self.wait(OBJECTS, _UPDATE_OBJECT, values)
        else:
            values.update(row)
            self.writes += 1
        self._remember(values, record)

    def delete_object(self, record: Record, revision: int) -> None:
        """Delete the object of ``revision``."""
        self.wait(OBJECTS, _DELETE_OBJECT, {"uid_": record.uid, "revision_": revision})
        self._latest.pop(record.uid, None)
        self._seen[record.kind, record.name] = None

    def next_sequence(self, record: Record) -> int:
        """Count a transition of an object.  errors.Conflict: it is not stored any more."""
        row = self.stored(record.kind, record.name)
        if row is None or row[2] != record.uid:
            raise errors.Conflict(f"{record.kind} {record.name!r} is gone; nothing can happen to it any more")
        sequence = int(row[-1]) + 1
        waiting = self._latest.get(record.uid)
        if waiting is None:
            self.wait(OBJECTS, _SEQUENCE, {"uid_": record.uid, "sequence_": sequence})
        else:
            waiting["sequence"] = sequence
        key = (record.kind, record.name)
        numbered = self._seen[key] = (*row[:-1], sequence)
        known = self._records.get(key)
        if known is not None and known[0] is row:
            self._records[key] = (numbered, known[1])  # the number is no part of a record
        return sequence

    def log(self, type_: str, record: Record) -> None:
        """Write the change that a record is."""
        entry = Change(record.revision, type_, record.kind, record.name, record.uid, record.document())
        self.changes.append(entry)
        self.wait(CHANGES, _INSERT_CHANGE, encoding.change_row(entry, self.at))

    def post(self, row: OutboxRow) -> None:
        """Write an event into the outbox."""
        self.outbox.append(row)
        self.wait(OUTBOX, _INSERT_OUTBOX, {**encoding.values(row), "published_at": None})

    def wait(self, table: Table, statement: Executable, values: Mapping[str, Any]) -> None:
        """Write later, in order with the other writes to ``table``."""
        self.writes += 1
        batches = self._waiting.setdefault(table, [])
        if batches and batches[-1][0] is statement:
            batches[-1][1].append(values)
        else:
            batches.append((statement, [values]))

    def flush_for(self, statement: Executable) -> None:
        """Write what waits for the tables that a query reads."""
        named = executing.tables(statement)
        for table in [table for table in self._waiting if table in named]:
            self.flush(table)

    def flush(self, *tables: Table) -> None:
        """Write what waits: for all tables, or those named."""
        for table in tables or list(self._waiting):
            for statement, rows in self._waiting.pop(table, ()):
                self._execute(statement, rows)
            if table is OBJECTS:
                self._latest.clear()

    def wait_last(self, table: Table, statement: Executable, values: Mapping[str, Any]) -> None:
        """Write later, in place of whatever waits for ``table``."""
        self.writes += 1
        self._waiting[table] = [(statement, [values])]

    def run(self, table: Table, statement: Executable, values: Mapping[str, Any] | None = None) -> int:
        """Write now, after what waits for ``table``; how many rows were hit."""
        self.flush(table)
        hit = executing.write(self.connection, statement, [values or {}])
        if hit:
            self.writes += 1
        return hit

    def finish(self) -> Batch:
        """Write all that waits and, last, the counter; what this transaction brought."""
        self.flush()
        if self.revision != self.first:
            self.run(META, _COUNT, {"revision_": self.revision})
        return Batch(self.revision, tuple(self.changes), tuple(self.outbox), tuple(self.desired))

    def _remember(self, row: dict[str, Any], record: Record) -> None:
        self._latest[record.uid] = row
        key = (record.kind, record.name)
        seen = self._seen[key] = encoding.in_order(row)
        self._records[key] = (seen, record)

    def _execute(self, statement: Executable, rows: list[Mapping[str, Any]]) -> None:
        try:
            hit = executing.write(self.connection, statement, rows)
        except Exception:
            self.spoiled = True
            raise
        if hit != len(rows) and any(statement is counted for counted in _COUNTED):
            self.spoiled = True
            raise errors.Conflict("an object was changed behind the store's back; read it again")
