"""The desired set inside a transaction: one row per key of the bucket, and the head that proves the set.

What always holds: the head's count and hash are those of the rows that are not deleted, whatever the order of
writes; each write of a row takes a revision and the epoch of the lease.  Called by
`controlplane.store.transactions`; `controlplane.messaging` carries the rows to NATS.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, delete, insert, select, update

from controlplane.store import encoding
from controlplane.store.ledgers import Ledger
from controlplane.store.records import DesiredHead, DesiredRow
from controlplane.store.tables import DESIRED, DESIRED_HEAD
from schemas import documents

_ROW: Final = select(*encoding.DESIRED_COLUMNS).where(DESIRED.c.key == bindparam("key"))
_ALL: Final = select(*encoding.DESIRED_COLUMNS).order_by(DESIRED.c.revision)
_INSERT: Final = insert(DESIRED)
_UPDATE: Final = (
    update(DESIRED)
    .where(DESIRED.c.key == bindparam("key_"))
    .values(
        {
            column: bindparam(column)
            for column in (
                "kind",
                "name",
                "uid",
                "generation",
                "epoch",
                "revision",
                "digest",
                "payload",
                "deleted",
                "traceparent",
            )
        }
    )
)
_FORGET: Final = delete(DESIRED).where(DESIRED.c.key == bindparam("key_"), DESIRED.c.deleted.is_(True))
_HEAD: Final = select(DESIRED_HEAD.c.epoch, DESIRED_HEAD.c.revision, DESIRED_HEAD.c.count, DESIRED_HEAD.c.hash)
_SET_HEAD: Final = update(DESIRED_HEAD).values(
    epoch=bindparam("epoch"), revision=bindparam("revision"), count=bindparam("count"), hash=bindparam("hash")
)


def desire(
    ledger: Ledger, epoch: int, *, key: str, kind: str, name: str, uid: str, generation: int, payload: str
) -> DesiredRow:
    """Set what a key should hold; the same content again is the row that stands."""
    digest = documents.payload_digest(payload)
    old = stored(ledger, key)
    if (
        old is not None
        and not old.deleted
        and (old.kind, old.name, old.uid, old.generation, old.digest) == (kind, name, uid, generation, digest)
    ):
        return old
    row = DesiredRow(key, kind, name, uid, generation, epoch, ledger.advance(), digest, payload, False, ledger.trace)
    _write(ledger, old, row)
    return row


def withdraw(ledger: Ledger, epoch: int, key: str) -> DesiredRow | None:
    """Put a tombstone in a key's place; None: the key was never desired.  A tombstone stays as it is."""
    old = stored(ledger, key)
    if old is None or old.deleted:
        return old
    row = replace(
        old,
        epoch=epoch,
        revision=ledger.advance(),
        digest=documents.payload_digest(""),
        payload="",
        deleted=True,
        traceparent=ledger.trace,
    )
    _write(ledger, old, row)
    return row


def forget(ledger: Ledger, keys: Collection[str]) -> None:
    """Drop the tombstones among ``keys``."""
    for key in keys:
        ledger.wait(DESIRED, _FORGET, {"key_": key})
        ledger.desired_rows.pop(key, None)


def rewrite(ledger: Ledger, epoch: int) -> list[DesiredRow]:
    """Write every row anew under ``epoch``, in the order they had."""
    ledger.flush(DESIRED)
    written = []
    for old in map(encoding.desired_row, ledger.ask(_ALL)):
        row = replace(old, epoch=epoch, revision=ledger.advance())
        _write(ledger, old, row)
        written.append(row)
    if not written:
        _set_head(ledger, replace(_head(ledger), epoch=epoch, revision=ledger.advance()))
    return written


def stored(ledger: Ledger, key: str) -> DesiredRow | None:
    """The row of a key as this transaction left it."""
    if key not in ledger.desired_rows:
        ledger.flush(DESIRED)
        found = ledger.ask(_ROW, {"key": key})
        ledger.desired_rows[key] = encoding.desired_row(found[0]) if found else None
    return ledger.desired_rows[key]


def _write(ledger: Ledger, old: DesiredRow | None, row: DesiredRow) -> None:
    values = encoding.values(row)
    if old is None:
        ledger.wait(DESIRED, _INSERT, values)
    else:
        ledger.wait(DESIRED, _UPDATE, {**values, "key_": row.key})
    head = _head(ledger)
    count, total = head.count, int(head.hash, 16)
    if old is not None and not old.deleted:
        count, total = count - 1, documents.remove_member(total, _member(old))
    if not row.deleted:
        count, total = count + 1, documents.add_members(total, [_member(row)])
    _set_head(ledger, DesiredHead(row.epoch, row.revision, count, documents.hash_text(total)))
    ledger.desired.append(row)
    ledger.desired_rows[row.key] = row


def _member(row: DesiredRow) -> int:
    return documents.member_hash(row.key, row.revision, row.digest)


def _head(ledger: Ledger) -> DesiredHead:
    if ledger.head is None:
        ledger.head = DesiredHead(*ledger.ask(_HEAD)[0])
    return ledger.head


def _set_head(ledger: Ledger, head: DesiredHead) -> None:
    ledger.head = head
    ledger.wait_last(DESIRED_HEAD, _SET_HEAD, encoding.values(head))
