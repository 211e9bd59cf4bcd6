"""What this worker believes should be served: the newest accepted document of each key, and how far it is proven.

Two layers.  The *view* is what the bucket says since the watch began; it starts empty with each watch.  What is *held*
outlives every view: it only moves forward in (epoch, revision), key by key.  Absence is not deletion: a key leaves
by a tombstone, or because the view as a whole equals its head (count and additive hash) and the head is not older than
anything held.  A bucket of another store is not believed at all.  A boot may begin with what the last one proved
(`Held.restore`); a key that is not in it comes back only with a newer document or a proof, so that an older bucket
brings nothing back that went.

Of a module it says what is wanted, of flags, organisations and revocations what is to be noted.

Pure but for logging; driven by `dataplane.agent.following`, read by `dataplane.agent.living`, kept on disk by
`dataplane.agent.saving`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

import structlog
from pydantic import ValidationError

from dataplane.agent import standings
from dataplane.errors import DocumentRefused
from schemas import documents, names
from schemas.documents import DesiredDocument, Head
from schemas.kits.signatures import TrustedKeys
from schemas.module import DesiredModule

logger = structlog.get_logger("dataplane.agent.holding")

Order = tuple[int, int]
"""(epoch, revision)."""
NOTHING: Order = (0, 0)
MODULE = "Module"


class Standing(StrEnum):
    """How the view stands to what is held."""

    UNPROVEN = "unproven"
    """No head yet, or documents and head do not agree (yet)."""
    PROVEN = "proven"
    """The view equals its head, and that is what is held."""
    OLDER = "older"
    """The head is older than what is held: a bucket rolled back, or a head still on its way."""
    FOREIGN = "foreign"
    """The bucket belongs to another store."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One module as the desired set names it."""

    name: str
    uid: str
    generation: int
    order: Order
    digest: str
    """Of the payload: two documents with one digest want the same."""
    desired: DesiredModule
    document: DesiredDocument | None = field(default=None, repr=False, compare=False)
    """Where it was read; kept on disk while this module serves."""


Understood: TypeAlias = Wanted | standings.Known | None
"""What a document says; None: nothing that this worker acts on."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a set was proven with: of which store, how far, and which hash."""

    store: str = ""
    order: Order = NOTHING
    set_hash: str = ""


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """A document that was not accepted; what was held under its key stays."""

    key: str
    generation: int
    reason: str
    message: str


class _View:
    """What the bucket says since the watch began, with its count and hash kept up entry by entry."""

    def __init__(self) -> None:
        self.entries: dict[str, DesiredDocument] = {}
        self.refused: dict[str, RefusedDocument] = {}
        self.head: Head | None = None
        self.complete = False
        """Whether the snapshot part of the watch is over."""
        self.absent: set[str] = set()
        """Keys that are held and that a complete view does not have."""
        self.passed: dict[str, DesiredDocument] = {}
        """Documents that the last proof should have had and did not: gone since, unless the next proof has them."""
        self._count = 0
        self._total = 0

    def put(self, key: str, document: DesiredDocument | None) -> None:
        """The entry of a key, or that there is none."""
        before = self.entries.pop(key, None)
        self.passed.pop(key, None)
        if before is not None and not before.deleted:
            self._count -= 1
            self._total = documents.remove_member(self._total, _member(key, before))
        if document is None:
            self.absent.add(key)
            return
        self.absent.discard(key)
        self.entries[key] = document
        if not document.deleted:
            self._count += 1
            self._total = documents.add_members(self._total, [_member(key, document)])

    def equals(self, head: Head) -> bool:
        """Whether count and hash are the head's."""
        return self._count == head.count and documents.hash_text(self._total) == head.hash


class Held:
    """The believed desired set of one worker."""

    def __init__(self, trusted: TrustedKeys) -> None:
        self.store = ""
        """Id of the store that is believed; empty until a first head was proven."""
        self.observed: Order = NOTHING
        """Of the newest head seen in a view or a beat."""
        self.applied: Order = NOTHING
        """Everything up to here has been handed on."""
        self.set_hash = ""
        """Of the last proven set."""
        self._documents: dict[str, DesiredDocument] = {}
        self._wanted: dict[str, Wanted] = {}
        self._changes: dict[str, Wanted | None] = {}
        self._notes: dict[tuple[str, str], standings.Content | None] = {}
        self._touched: set[str] = set()
        self._newest: Order = NOTHING
        self._view = _View()
        self._trusted = trusted

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        """The modules that are wanted, by name."""
        return self._wanted

    def take_changes(self) -> Mapping[str, Wanted | None]:
        """What became wanted, or no longer wanted (None), since the last call."""
        changes, self._changes = self._changes, {}
        return changes

    def take_notes(self) -> standings.Noted:
        """What flags, organisations and revocations say, or that they are gone (None), since the last call."""
        notes, self._notes = self._notes, {}
        return notes

    @property
    def proof(self) -> Proof:
        """What was proven last."""
        return Proof(self.store, self.applied, self.set_hash)

    def document(self, key: str) -> DesiredDocument | None:
        """The document that is held under a key; None: none, or a tombstone."""
        found = self._documents.get(key)
        return None if found is None or found.deleted else found

    def take_touched(self) -> set[str]:
        """The keys whose `document` changed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def restore(self, proof: Proof, entries: Mapping[str, tuple[DesiredDocument, Understood]]) -> None:
        """Begin with a set that an earlier boot proved; before any watch."""
        assert not self._documents, "a set is restored before anything is read"
        self.store, self.applied, self.set_hash = proof.store, proof.order, proof.set_hash
        self.observed = proof.order
        self._documents = {key: document for key, (document, _) in entries.items()}
        self._newest = max([proof.order, *(document.order for document, _ in entries.values())])
        for document, understood in entries.values():
            if understood is not None:
                self._take(document, understood)

    @property
    def refused(self) -> list[RefusedDocument]:
        """The documents of the present view that were not accepted."""
        return list(self._view.refused.values())

    @property
    def empty(self) -> bool:
        """Whether the proven set has no document."""
        return all(document.deleted for document in self._documents.values())

    @property
    def reading(self) -> bool:
        """Whether the snapshot part of the watch is not over yet."""
        return not self._view.complete

    def begin(self) -> None:
        """A watch starts anew: forget what the last one said, keep what is held."""
        self._view = _View()

    def finish(self) -> Standing:
        """The snapshot part of the watch is over: take over what it brought."""
        self._view.complete = True
        self._view.absent = self._documents.keys() - self._view.entries.keys()
        return self._settle(self._view.entries)

    def read(self, key: str, data: bytes | None) -> Standing:
        """One entry of the bucket (None: the entry was removed, which proves nothing)."""
        view = self._view
        view.refused.pop(key, None)
        if data is None:
            view.put(key, None)
            return self._settle({})
        if key == names.KEY_HEAD:
            self._read_head(data)
            return self._settle({})
        try:
            document = self._believed(key, data)
        except DocumentRefused as error:
            view.put(key, None)
            self._refuse(key, 0, error)
            return self._settle({})
        view.put(key, document)
        return self._settle({key: document})

    def standing(self) -> Standing:
        """How the view stands to what is held, now."""
        head = self._view.head
        if head is None or not self._view.complete:
            return Standing.UNPROVEN
        if self.store and head.store != self.store:
            return Standing.FOREIGN
        if head.order < self._newest:
            return Standing.OLDER
        return Standing.PROVEN if self._view.equals(head) else Standing.UNPROVEN

    def trusts(self, head: Head) -> bool:
        """Whether a head, or the head in a beat, is signed with a trusted key; if not, that is logged."""
        if head == self._view.head:
            return True
        refusal = self._trusted.refusal(head.signed_bytes(), head.kid, head.sig)
        if refusal is not None:
            logger.warning("head refused", error=refusal)
        return refusal is None

    def hear(self, beat: Head) -> None:
        """Note how far the leader is."""
        if not self.store or beat.store == self.store:
            self.observed = max(self.observed, beat.order)

    def agrees(self, beat: Head) -> bool:
        """Whether a beat says what is held and proven here."""
        same_set = beat.hash == self.set_hash and beat.revision == self.applied[1]
        return same_set and beat.store == self.store

    def _believed(self, key: str, data: bytes) -> DesiredDocument:
        """The document in an entry; DocumentRefused when it cannot be read or nobody that is trusted signed it."""
        document = _envelope(key, data)
        if self._documents.get(key) != document:
            check_signature(key, document, self._trusted)
        return document

    def _settle(self, fresh: Mapping[str, DesiredDocument]) -> Standing:
        """Accept what is newer; on proof, also let go of what the set no longer has."""
        if not self._view.complete:
            return Standing.UNPROVEN
        standing = self.standing()
        if standing is Standing.FOREIGN:
            return standing
        for key, document in fresh.items():
            if standing is not Standing.PROVEN and key not in self._documents and document.order <= self.applied:
                self._view.passed[key] = document
            else:
                self._accept(key, document)
        standing = self.standing()
        if standing is Standing.PROVEN:
            self._prove()
        return standing

    def _accept(self, key: str, document: DesiredDocument) -> None:
        held = self._documents.get(key)
        if held is not None and document.order <= held.order:
            return
        try:
            understood = understood_of(key, document)
        except DocumentRefused as error:
            self._refuse(key, document.generation, error)
            return
        self._documents[key] = document
        self._touched.add(key)
        self._newest = max(self._newest, document.order)
        self._take(document, understood)

    def _take(self, document: DesiredDocument, understood: Understood) -> None:
        """What a document says from now on; None: that it is gone."""
        if document.kind == MODULE:
            self._want(document.name, understood if isinstance(understood, Wanted) else None)
        elif document.kind in standings.KEYS:
            content = understood.content if isinstance(understood, standings.Known) else None
            self._notes[document.kind, document.name] = content

    def _want(self, name: str, wanted: Wanted | None) -> None:
        if wanted is not None:
            self._wanted[name] = wanted
        elif self._wanted.pop(name, None) is None:
            return
        self._changes[name] = wanted

    def _prove(self) -> None:
        head = self._view.head
        assert head is not None, "only a head proves a set"
        while self._view.passed:
            self._accept(*self._view.passed.popitem())
        for key in self._view.absent:
            gone = self._documents.pop(key, None)
            self._touched.add(key)
            if gone is not None:
                self._take(gone, None)
        self._view.absent = set()
        self.store = head.store
        self._newest = max(self._newest, head.order)
        self.applied = head.order
        self.set_hash = head.hash

    def _read_head(self, data: bytes) -> None:
        try:
            head = Head.model_validate_json(data)
            if head.schema_ > documents.SCHEMA:
                raise DocumentRefused("UnknownSchema", f"head has schema {head.schema_}; this worker reads 1")
        except (ValidationError, DocumentRefused) as error:
            logger.warning("head refused", error=str(error))
            return
        if not self.trusts(head):
            return
        self._view.head = head
        if not self.store or head.store == self.store:
            self.observed = max(self.observed, head.order)

    def _refuse(self, key: str, generation: int, error: DocumentRefused) -> None:
        logger.warning("document refused", key=key, reason=error.reason, error=error.message)
        self._view.refused[key] = RefusedDocument(key, generation, error.reason, error.message)


def _envelope(key: str, data: bytes) -> DesiredDocument:
    try:
        document = DesiredDocument.model_validate_json(data)
    except ValidationError as error:
        raise DocumentRefused("DocumentUnreadable", f"{key}: {error.error_count()} fields cannot be read") from error
    return document


def check_signature(key: str, document: DesiredDocument, trusted: TrustedKeys) -> None:
    """DocumentRefused unless the document is signed with a trusted key."""
    refusal = trusted.refusal(document.signed_bytes(), document.kid, document.sig)
    if refusal is not None:
        raise DocumentRefused("NotTrusted", f"{key}: {refusal}")


def understood_of(key: str, document: DesiredDocument) -> Understood:
    """What a document says, None for a tombstone or a kind that this worker does not know; DocumentRefused."""
    if document.schema_ > documents.SCHEMA:
        raise DocumentRefused(
            "UnknownSchema",
            f"{key}: schema {document.schema_} is newer than this worker reads ({documents.SCHEMA}); update the worker",
        )
    if not document.intact():
        raise DocumentRefused("DigestMismatch", f"{key}: the payload is not what its digest says; it was altered")
    key_of = _KEYS.get(document.kind)
    if key_of is not None and key != key_of(document.name):
        # a signature covers no key: a document of one object must not stand for another's, nor a tombstone
        raise DocumentRefused("KeyMismatch", f"{key}: the document names {document.kind} {document.name!r}")
    if document.deleted:
        return None
    return _wanted(key, document) if document.kind == MODULE else standings.known_of(key, document)


_KEYS: Final = {MODULE: names.module_key, **standings.KEYS}


def _wanted(key: str, document: DesiredDocument) -> Wanted:
    try:
        desired = DesiredModule.model_validate_json(document.payload)
    except ValidationError as error:
        raise DocumentRefused("PayloadUnreadable", f"{key}: {error.errors()[0]['msg']}") from error
    return Wanted(document.name, document.uid, document.generation, document.order, document.digest, desired, document)


def _member(key: str, document: DesiredDocument) -> int:
    return documents.member_hash(key, document.revision, document.digest)
