"""The desired set in memory, and how a bucket differs from it.  Pure.

Always: the head's count and hash cover exactly the living rows; tombstones are documents, but no members.  A bucket
is compared byte by byte; only what stands in it under our store's id can be *ahead* of the database.
Used by `controlplane.messaging.projecting`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from controlplane.store.records import DesiredHead, DesiredRow
from schemas import documents, names
from schemas.kits.buckets import Entry, Operation
from schemas.kits.signatures import Signer, TrustedKeys

Order = tuple[int, int]
"""(epoch, revision)."""


class Scribe:
    """Puts rows and heads into signed words; a row is signed once, however often it is written or compared."""

    def __init__(self, signer: Signer, trusted: TrustedKeys) -> None:
        self._signer = signer
        self._trusted = trusted
        self._signatures: dict[str, tuple[Order, str]] = {}

    def document(self, row: DesiredRow) -> bytes:
        """What a row's key holds in the bucket."""
        document = documents.DesiredDocument(
            kind=row.kind,
            name=row.name,
            uid=row.uid,
            generation=row.generation,
            epoch=row.epoch,
            revision=row.revision,
            digest=row.digest,
            payload=row.payload,
            deleted=row.deleted,
            kid=self._signer.kid,
        )
        order, signature = self._signatures.get(row.key, (None, ""))
        if order != order_of(row):
            signature = self._signer.sign(document.signed_bytes())
            self._signatures[row.key] = (order_of(row), signature)
        signed = document.model_copy(update={"sig": signature})
        return signed.model_dump_json(by_alias=True, exclude_none=True).encode()

    def head(self, head: documents.Head) -> documents.Head:
        """A head with its signature."""
        signature = self._signer.sign(head.signed_bytes())
        return head.model_copy(update={"kid": self._signer.kid, "sig": signature})

    def forget(self, key: str) -> None:
        """A row is gone."""
        self._signatures.pop(key, None)

    def believes(self, said: documents.DesiredDocument | documents.Head) -> bool:
        """Whether one of us said it."""
        return self._trusted.refusal(said.signed_bytes(), said.kid, said.sig) is None


def order_of(row: DesiredRow) -> Order:
    """What decides which of two rows of one key is newer."""
    return (row.epoch, row.revision)


class DesiredSet:
    """Every row that the database is known to hold, with its proof kept up to date row by row."""

    def __init__(self, rows: Iterable[DesiredRow], head: DesiredHead) -> None:
        self.rows: dict[str, DesiredRow] = {}
        self.order: Order = (head.epoch, head.revision)
        """Of the newest write; the database's own head counts too, as forgotten tombstones are in it."""
        self._count = 0
        self._total = 0
        for row in rows:
            self.apply(row)

    def apply(self, row: DesiredRow) -> bool:
        """Take a row in; False when a newer one of its key is there already."""
        old = self.rows.get(row.key)
        if old is not None and order_of(old) >= order_of(row):
            return False
        if old is not None and not old.deleted:
            self._count -= 1
            self._total = documents.remove_member(self._total, _member(old))
        if not row.deleted:
            self._count += 1
            self._total = documents.add_members(self._total, [_member(row)])
        self.rows[row.key] = row
        self.order = max(self.order, order_of(row))
        return True

    def forget(self, key: str) -> None:
        """Drop a tombstone."""
        if (row := self.rows.get(key)) is not None and row.deleted:
            del self.rows[key]

    def head(self, store: str) -> documents.Head:
        """The proof of the set as it stands."""
        return documents.Head(
            store=store,
            epoch=self.order[0],
            revision=self.order[1],
            count=self._count,
            hash=documents.hash_text(self._total),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be done to a bucket, and what it knows that the database does not."""

    wrong: list[DesiredRow] = field(default_factory=list)
    """Rows whose key is missing in the bucket or holds something else."""
    strangers: dict[str, int] = field(default_factory=dict)
    """Keys that the database does not know, with the sequence up to which they are to go."""
    foreign: bool = False
    """The bucket's head is of another store."""
    ahead: Order | None = None
    """The newest order in the bucket, where it is newer than the database's: the database is a restored backup."""


def compare(desired: DesiredSet, entries: Mapping[str, Entry], store: str, scribe: Scribe) -> Difference:
    """How ``entries`` (the last message of every key) differ from the desired set of ``store``.

    What nobody of us signed is wrong or a stranger, but tells nothing of what the database might have lost.
    """
    held = head_in(entries)
    foreign = held is not None and held.store != store
    seen: list[Order] = []
    if held is not None and held.order > desired.order and scribe.believes(held):
        seen.append(held.order)
    wrong = []
    for key, row in desired.rows.items():
        entry = entries.get(key)
        if entry is not None and entry.operation is Operation.PUT:
            if entry.value == scribe.document(row):
                continue
            document = _document(entry.value)
            if document is not None and document.order > order_of(row) and scribe.believes(document):
                seen.append(document.order)
        wrong.append(row)
    strangers = {
        key: entry.sequence for key, entry in entries.items() if key not in desired.rows and key != names.KEY_HEAD
    }
    for key in strangers:
        document = _document(entries[key].value)
        if document is not None and document.order > desired.order and scribe.believes(document):
            seen.append(document.order)
    return Difference(wrong, strangers, foreign, None if foreign or not seen else max(seen))


def head_in(entries: Mapping[str, Entry]) -> documents.Head | None:
    """The head that a bucket holds; None when there is none that can be read."""
    entry = entries.get(names.KEY_HEAD)
    if entry is None or entry.operation is not Operation.PUT:
        return None
    try:
        return documents.Head.model_validate_json(entry.value)
    except ValidationError:
        return None


def _document(value: bytes) -> documents.DesiredDocument | None:
    try:
        return documents.DesiredDocument.model_validate_json(value)
    except ValidationError:
        return None


def _member(row: DesiredRow) -> int:
    return documents.member_hash(row.key, row.revision, row.digest)
