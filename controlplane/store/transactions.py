"""What a unit may do: every question of a `Reading`, and the writes, each with its revision, change and event.

A unit is a short synchronous function over one `Transaction`; `controlplane.store.writers` may run it twice (when
another unit of its group failed), so it must not do anything else.  After it, its writes are one commit with
those of its group, or nothing.  From there they go to `controlplane.store.following`.
"""

import builtins
import random
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, update
from sqlalchemy.sql import Select

from controlplane import errors
from controlplane.store import claiming, counting, desiring, encoding, mirroring, telling, tracking
from controlplane.store.ledgers import Ledger
from controlplane.store.readings import LEASE, Reading
from controlplane.store.records import Claim, Contest, DesiredRow, Lease, OutboxRow, Record, RowEdit
from controlplane.store.tables import HISTORY, INSPECTIONS, LEASES, OUTBOX
from schemas import events
from schemas.measures import Measures
from schemas.meta import Json
from schemas.traces import Step

HISTORY_KEPT: Final = 10
"""How many generations of one object's spec are kept."""

_INSERT_HISTORY: Final = insert(HISTORY)
_TRIM_HISTORY: Final = delete(HISTORY).where(
    HISTORY.c.uid == bindparam("uid_"), HISTORY.c.generation <= bindparam("generation_")
)
_DROP_HISTORY: Final = delete(HISTORY).where(HISTORY.c.uid == bindparam("uid_"))
_UPDATE_LEASE: Final = (
    update(LEASES)
    .where(LEASES.c.name == bindparam("name_"))
    .values(
        holder=bindparam("holder"), epoch=bindparam("epoch"), beat=bindparam("beat"), released=bindparam("released")
    )
)
_INSERT_LEASE: Final = insert(LEASES)
_DROP_INSPECTION: Final = delete(INSPECTIONS).where(INSPECTIONS.c.key == bindparam("key_"))
_INSERT_INSPECTION: Final = insert(INSPECTIONS)
_PUBLISHED: Final = (
    update(OUTBOX)
    .where(OUTBOX.c.id == bindparam("id_"), OUTBOX.c.published_at.is_(None))
    .values(published_at=bindparam("published"))
)


class Transaction(Reading):
    """One unit's view of the database, and its pen."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = ledger.now
        """The moment of this transaction; the same for all of its writes."""
        self._board = telling.Board(ledger, self._epoch)
        super().__init__(ledger.connection)

    @property
    def revision(self) -> int:
        """The newest revision, with those that this transaction took."""
        return self.ledger.revision

    def get(self, kind: str, name: str) -> Record | None:
        """The object of that kind and name, with this transaction's own writes."""
        self._open()
        return self.ledger.record(kind, name)

    def claims_of(self, uid: str) -> builtins.list[Claim]:
        """The routes that one module holds, with this transaction's own writes."""
        self._open()
        return list(claiming.held(self.ledger, uid))

    def desired_row(self, key: str) -> DesiredRow | None:
        """One key of the desired set, with this transaction's own writes."""
        self._open()
        return desiring.stored(self.ledger, key)

    def stands(self, record: Record) -> bool:
        """Whether the object is still the one of that uid and revision; ``record`` is as it was read."""
        self._open()
        row = self.ledger.stored(record.kind, record.name)
        if row is None or (row[2], row[4]) != (record.uid, record.revision):
            return False
        self.ledger.recall(row, record)
        return True

    def put(self, record: Record, *, manager: str = "", reason: str = "") -> Record:
        """Store a record: a new one (``revision`` 0), or over the one of that uid and revision.

        A new generation goes into the history with ``manager`` and ``reason``; a record that says what is stored
        already is not written.  errors.AlreadyExists; errors.Conflict: it is not what the writer read.
        """
        self._open()
        row = self.ledger.stored(record.kind, record.name)
        if record.revision == 0:
            if row is not None:
                raise errors.AlreadyExists(record.kind, record.name)
            stored = replace(record, revision=self.ledger.revision + 1)
            self._board.check(stored)
            mirroring.put(self.ledger, None, stored)
            self.ledger.advance()
            self.ledger.insert_object(stored)
            self.ledger.log("ADDED", stored)
            self._keep(stored, manager, reason)
            tracking.begin(self.ledger, stored)
            self._board.put(None, stored)
            return stored
        row = _current(row, record)
        values = encoding.object_row(record, int(row[-1]))
        if encoding.is_row(row, values):
            return record
        old = self.ledger.record(record.kind, record.name)
        assert old is not None
        stored = replace(record, revision=self.ledger.revision + 1)
        self._board.check(stored)
        mirroring.put(self.ledger, old, stored, same_spec=row[encoding.SPEC] == values["spec"])
        self.ledger.update_object(stored, {**values, "revision": self.ledger.advance()}, record.revision)
        self.ledger.log("MODIFIED", stored)
        if stored.generation != old.generation or stored.deleting != old.deleting:
            tracking.begin(self.ledger, stored)
        if stored.generation != old.generation:
            self._keep(stored, manager, reason)
        self._board.put(old, stored)
        return stored

    def remove(self, record: Record) -> Record:
        """Let an object go, with its claims, history and mirror row; its last form, under the revision of that.

        errors.Conflict: it is not what the writer read.
        """
        self._open()
        _current(self.ledger.stored(record.kind, record.name), record)
        gone = replace(record, revision=self.ledger.advance())
        self.ledger.delete_object(record, record.revision)
        self.ledger.log("DELETED", gone)
        if record.kind != encoding.EVENT_KIND:
            self.ledger.wait(HISTORY, _DROP_HISTORY, {"uid_": record.uid})
            claiming.release(self.ledger, record.uid)
            claiming.contest(self.ledger, record.uid, ())
            mirroring.remove(self.ledger, record)
            tracking.forget(self.ledger, record)
            self._board.remove(record)
        return gone

    def retell(self, record: Record) -> None:
        """Have what workers know of a stored object set right; the same again writes nothing."""
        self._open()
        self._board.retell(record)

    def settle(self) -> None:
        """Write what is written once a unit; whoever runs a unit calls it at its end."""
        self._board.settle()

    def transition(
        self, record: Record, to: str, reason: str, message: str, *, from_: str | None
    ) -> events.ModuleTransition:
        """Write a step of a module's life: a ModuleEvent that is kept, and its event for NATS."""
        self._open()
        sequence = self.ledger.next_sequence(record)
        step = events.ModuleTransition(
            module=record.name,
            uid=record.uid,
            sequence=sequence,
            generation=record.generation,
            from_=from_,
            to=to,
            reason=reason,
            message=message,
            revision=record.revision,
            at=self.now,
            traceparent=self.ledger.trace or None,
        )
        event = Record(
            kind=encoding.EVENT_KIND,
            name=events.transition_id(record.uid, sequence),
            uid=_new_uid(),
            generation=1,
            revision=self.ledger.advance(),
            created_at=self.now,
            spec=step.wire(),
        )
        self.ledger.insert_object(event)
        self.ledger.log("ADDED", event)
        self._post(events.module_event(step), event.revision)
        return step

    def announce(self, event: events.CloudEvent) -> None:
        """Write another event for NATS; those of one subject keep their order."""
        self._open()
        self._post(event, self.ledger.advance())

    def take_claims(
        self, record: Record, api_version: str, namespace: str, wanted: Collection[tuple[str, str, str]]
    ) -> builtins.list[Claim]:
        """Take the (method, shape, path) of ``wanted`` for a module, all or none: returns others' claims in the way."""
        self._open()
        return claiming.take(self.ledger, record, api_version, namespace, wanted)

    def release_claims(self, uid: str, keep: Collection[tuple[str, str, str, str]] = ()) -> None:
        """Give up a module's claims but those of ``keep``: (apiVersion, namespace, method, shape)."""
        self._open()
        claiming.release(self.ledger, uid, keep)

    def contest(self, uid: str, refused: Collection[Contest]) -> None:
        """Write down which routes a module is refused now, in place of those of before; takes no revision."""
        self._open()
        claiming.contest(self.ledger, uid, refused)

    def desire(self, *, key: str, kind: str, name: str, uid: str, generation: int, payload: str) -> DesiredRow:
        """Set what a key of the desired bucket should hold, under the lease's epoch.  The same again writes nothing."""
        return desiring.desire(
            self.ledger, self._epoch(), key=key, kind=kind, name=name, uid=uid, generation=generation, payload=payload
        )

    def withdraw(self, key: str) -> DesiredRow | None:
        """Put a tombstone in a key's place; None: it was never desired."""
        return desiring.withdraw(self.ledger, self._epoch(), key)

    def forget_desired(self, keys: Collection[str]) -> None:
        """Drop tombstones that everybody has seen; keys that are still desired stay."""
        self._open()
        desiring.forget(self.ledger, keys)

    def rewrite_desired(self) -> builtins.list[DesiredRow]:
        """Write every desired row and the head anew under the lease's epoch: somebody has seen more than we hold."""
        return desiring.rewrite(self.ledger, self._epoch())

    def keep_steps(self, steps: Collection[Step]) -> int:
        """Keep the steps of traces that brought a module's newest generation; how many; takes no revision."""
        self._open()
        return tracking.keep(self.ledger, steps)

    def put_lease(self, lease: Lease, name: str = LEASE) -> None:
        """Write a lease; takes no revision and wakes nobody."""
        self._open()
        values = {"holder": lease.holder, "epoch": lease.epoch, "beat": lease.beat, "released": lease.released}
        if not self.ledger.run(LEASES, _UPDATE_LEASE, {**values, "name_": name}):
            self.ledger.run(LEASES, _INSERT_LEASE, {**values, "name": name})
        if name == LEASE:
            self.ledger.epoch = lease.epoch

    def put_inspection(self, key: str, report: Json) -> None:
        """Keep an inspection report; takes no revision."""
        self._open()
        self.ledger.wait(INSPECTIONS, _DROP_INSPECTION, {"key_": key})
        self.ledger.wait(
            INSPECTIONS, _INSERT_INSPECTION, {"key": key, "report": encoding.dump(report), "at": self.ledger.at}
        )

    def settle_row_edit(self, edit: RowEdit, error: str | None) -> None:
        """Write down that a person's edit is dealt with, or why not; takes no revision."""
        self._open()
        mirroring.settle(self.ledger, edit, error)

    def count_accesses(self, report: Measures) -> int:
        """Add what a worker's boot has counted and not told before; how many calls; takes no revision."""
        self._open()
        return counting.count(self.ledger, report)

    def mark_published(self, outbox_ids: Collection[int]) -> None:
        """Write down that events have reached NATS; takes no revision."""
        self._open()
        for number in outbox_ids:
            self.ledger.wait(OUTBOX, _PUBLISHED, {"id_": number, "published": self.ledger.at})

    def check_epoch(self, epoch: int) -> None:
        """errors.Fenced unless the lease still stands at ``epoch``."""
        current = self._epoch()
        if current != epoch:
            raise errors.Fenced(epoch, current)

    def _epoch(self) -> int:
        if self.ledger.epoch is None:
            lease = self.lease()
            self.ledger.epoch = 0 if lease is None else lease.epoch
        self._open()
        return self.ledger.epoch

    def _post(self, event: events.CloudEvent, revision: int) -> None:
        order_key = event.subject
        body = event.model_dump_json(by_alias=True, exclude_none=True)
        self.ledger.post(OutboxRow(revision, event.id, events.subject_of(event), body, order_key))

    def _keep(self, record: Record, manager: str, reason: str) -> None:
        if record.kind == encoding.EVENT_KIND:
            return
        self.ledger.wait(
            HISTORY,
            _INSERT_HISTORY,
            {
                "uid": record.uid,
                "generation": record.generation,
                "spec": encoding.dump(record.spec),
                "manager": manager,
                "reason": reason,
                "at": self.ledger.at,
            },
        )
        if record.generation > HISTORY_KEPT:
            oldest = record.generation - HISTORY_KEPT
            self.ledger.wait(HISTORY, _TRIM_HISTORY, {"uid_": record.uid, "generation_": oldest})

    def _read_meta(self) -> tuple[int, int]:
        return self.ledger.first, self.ledger.compacted

    def _all(self, statement: Select[Any], asked: Mapping[str, Any] | None = None) -> builtins.list[Any]:
        self.ledger.flush_for(statement)
        return super()._all(statement, asked)


def _new_uid() -> str:
    """A UUID of version 4; `uuid.uuid4` asks the system for each, and lets go of the interpreter meanwhile."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _current(row: Sequence[Any] | None, record: Record) -> Sequence[Any]:
    """The stored row, if it is the one that ``record`` was made from."""
    if row is None:
        raise errors.Conflict(f"{record.kind} {record.name!r} was deleted meanwhile")
    if row[2] != record.uid:
        raise errors.Conflict(f"{record.kind} {record.name!r} was deleted and made anew meanwhile; read it again")
    if row[4] != record.revision:
        raise errors.Conflict(
            f"{record.kind} {record.name!r} was changed meanwhile"
            f" (revision {row[4]}, not {record.revision}); read it again"
        )
    return row
