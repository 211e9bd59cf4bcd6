"""What the store holds, as the rest of the control plane sees it: immutable rows without a database.

Nobody changes a record in place: `dataclasses.replace` makes the next one, `Transaction.put` stores it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from schemas.meta import Json, now_text
from schemas.names import API_VERSION


@dataclass(frozen=True, slots=True)
class Record:
    """One object of any kind; ``revision`` 0 means not stored yet."""

    kind: str
    name: str
    uid: str
    generation: int
    revision: int
    created_at: datetime
    deleted_at: datetime | None = None
    """When deletion was asked for; the object goes when its finalizers are gone."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    managed_fields: list[Json] = field(default_factory=list)
    spec: Json = field(default_factory=dict)
    status: Json = field(default_factory=dict)

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for."""
        return self.deleted_at is not None

    def document(self) -> Json:
        """The object as the API shows it."""
        metadata: Json = {
            "name": self.name,
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": str(self.revision),
            "creationTimestamp": now_text(self.created_at),
        }
        if self.deleted_at is not None:
            metadata["deletionTimestamp"] = now_text(self.deleted_at)
        for key, value in (
            ("labels", self.labels),
            ("annotations", self.annotations),
            ("finalizers", list(self.finalizers)),
            ("managedFields", self.managed_fields),
        ):
            if value:
                metadata[key] = value
        document: Json = {"apiVersion": API_VERSION, "kind": self.kind, "metadata": metadata}
        if self.spec:
            document["spec"] = self.spec
        if self.status:
            document["status"] = self.status
        return document


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the watch log."""

    revision: int
    type: str
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    kind: str
    name: str
    uid: str
    document: Json
    """The object after the change (for DELETED: its last form, with the revision of the deletion)."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that is committed and has to reach NATS."""

    id: int
    event_id: str
    subject: str
    body: str
    order_key: str
    """Rows of one key are published one after the other (a module's name)."""


@dataclass(frozen=True, slots=True)
class DesiredRow:
    """What one key of the desired bucket should hold."""

    key: str
    kind: str
    name: str
    uid: str
    generation: int
    epoch: int
    revision: int
    digest: str
    payload: str
    deleted: bool
    traceparent: str = ""
    """The trace of the write that brought it; empty: none."""


@dataclass(frozen=True, slots=True)
class DesiredHead:
    """The proof of the desired set that the database holds."""

    epoch: int
    revision: int
    count: int
    hash: str


class Claim(NamedTuple):
    """One route that one module holds; a tuple, as a module has tens of them and they are read with every change."""

    api_version: str
    namespace: str
    method: str
    shape: str
    path: str
    """The template as the module writes it."""
    uid: str
    module: str
    revision: int
    """When it was taken; the older claim wins."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Contest:
    """One route that a module asks for and cannot have, since somebody else holds it."""

    api_version: str
    namespace: str
    method: str
    shape: str
    path: str
    """The template as the refused module writes it."""
    uid: str
    module: str
    at: datetime
    """When it was first refused."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads, under which epoch; ``beat`` counts renewals."""

    holder: str
    epoch: int
    beat: int
    released: bool = False


@dataclass(frozen=True, slots=True)
class RowEdit:
    """A person's INSERT, UPDATE or DELETE on a mirror table."""

    id: int
    table: str
    operation: str
    """``INSERT``, ``UPDATE`` or ``DELETE``."""
    row_id: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One generation of an object's spec: who wrote it, when, why."""

    uid: str
    generation: int
    spec: Json
    manager: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit brought, in revision order; handed to listeners right after it."""

    revision: int
    changes: tuple[Change, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    desired: tuple[DesiredRow, ...] = ()
