"""How values stand in the database: JSON and moments as text, objects as rows; and back.

Pure.  One spelling each, so that equal values are equal texts (`controlplane.store.ledgers` compares texts to
see what a write really changes).
"""

import functools
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from controlplane.store.records import Change, Claim, Contest, DesiredRow, OutboxRow, Record
from controlplane.store.tables import CHANGES, CLAIMS, CONTESTS, DESIRED, OBJECTS, OUTBOX
from schemas import paths
from schemas.kits import jsontexts
from schemas.meta import now_text

EVENT_KIND: Final = "ModuleEvent"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def dump(value: Any) -> str:
    """``value`` as compact JSON in ASCII, so that any string survives on any database.  ValueError for NaN."""
    if not value:
        # half of all columns
        if isinstance(value, dict):
            return "{}"
        if isinstance(value, list):
            return "[]"
    data = jsontexts.quick(value)
    return _encode(value) if data is None or not data.isascii() else data.decode()


def load(text: str) -> Any:
    """What `dump` wrote."""
    if text == "{}":  # half of all columns
        return {}
    return [] if text == "[]" else json.loads(text)


def moment(text: str) -> datetime:
    """A moment that `schemas.meta.now_text` wrote."""
    return datetime.fromisoformat(text)


@functools.lru_cache(maxsize=256)
def sql_time(at: datetime) -> str:
    """``at`` as SQL's CURRENT_TIMESTAMP spells it (UTC, seconds), for the mirrors."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


OBJECT_COLUMNS: Final = (
    OBJECTS.c.kind,
    OBJECTS.c.name,
    OBJECTS.c.uid,
    OBJECTS.c.generation,
    OBJECTS.c.revision,
    OBJECTS.c.created_at,
    OBJECTS.c.deleted_at,
    OBJECTS.c.labels,
    OBJECTS.c.annotations,
    OBJECTS.c.finalizers,
    OBJECTS.c.managed_fields,
    OBJECTS.c.spec,
    OBJECTS.c.status,
    OBJECTS.c.sequence,
)
"""In the order in which `record` reads them; the last one is no part of a record: it numbers its transitions."""

_OBJECT_NAMES: Final = tuple(column.name for column in OBJECT_COLUMNS)
SPEC: Final = _OBJECT_NAMES.index("spec")
"""Where a row of `OBJECT_COLUMNS` has the spec."""
in_order: Final[Callable[[Mapping[str, Any]], tuple[Any, ...]]] = operator.itemgetter(*_OBJECT_NAMES)
"""Column values (of `object_row`) as a row of `OBJECT_COLUMNS`."""

CHANGE_COLUMNS: Final = (
    CHANGES.c.revision,
    CHANGES.c.type,
    CHANGES.c.kind,
    CHANGES.c.name,
    CHANGES.c.uid,
    CHANGES.c.document,
)
OUTBOX_COLUMNS: Final = (OUTBOX.c.id, OUTBOX.c.event_id, OUTBOX.c.subject, OUTBOX.c.body, OUTBOX.c.order_key)
DESIRED_COLUMNS: Final = (
    DESIRED.c.key,
    DESIRED.c.kind,
    DESIRED.c.name,
    DESIRED.c.uid,
    DESIRED.c.generation,
    DESIRED.c.epoch,
    DESIRED.c.revision,
    DESIRED.c.digest,
    DESIRED.c.payload,
    DESIRED.c.deleted,
    DESIRED.c.traceparent,
)
CLAIM_COLUMNS: Final = (
    CLAIMS.c.api_version,
    CLAIMS.c.namespace,
    CLAIMS.c.method,
    CLAIMS.c.shape,
    CLAIMS.c.path,
    CLAIMS.c.uid,
    CLAIMS.c.module,
    CLAIMS.c.revision,
    CLAIMS.c.at,
)
CONTEST_COLUMNS: Final = (
    CONTESTS.c.api_version,
    CONTESTS.c.namespace,
    CONTESTS.c.method,
    CONTESTS.c.shape,
    CONTESTS.c.path,
    CONTESTS.c.uid,
    CONTESTS.c.module,
    CONTESTS.c.at,
)


def record(row: Sequence[Any]) -> Record:
    """A row of `OBJECT_COLUMNS` as a record."""
    kind, name, uid, generation, revision, created, deleted, labels, annotations, finalizers, managed, spec, status = (
        row[:13]
    )
    return Record(
        kind=kind,
        name=name,
        uid=uid,
        generation=generation,
        revision=revision,
        created_at=moment(created),
        deleted_at=None if deleted is None else moment(deleted),
        labels=load(labels),
        annotations=load(annotations),
        finalizers=tuple(load(finalizers)),
        managed_fields=load(managed),
        spec=load(spec),
        status=load(status),
    )


def object_row(stored: Record, sequence: int) -> dict[str, Any]:
    """A record as column values; ``about`` is the module of a ModuleEvent, or the organisation of a ModuleAccess."""
    return {
        "kind": stored.kind,
        "name": stored.name,
        "uid": stored.uid,
        "generation": stored.generation,
        "revision": stored.revision,
        "created_at": now_text(stored.created_at),
        "deleted_at": None if stored.deleted_at is None else now_text(stored.deleted_at),
        "labels": dump(stored.labels),
        "annotations": dump(stored.annotations),
        "finalizers": dump(list(stored.finalizers)),
        "managed_fields": dump(stored.managed_fields),
        "spec": dump(stored.spec),
        "status": dump(stored.status),
        "sequence": sequence,
        "about": _about(stored),
    }


def about_organisation(name: str) -> str:
    """What ``about`` says of an organisation's accesses; no module has such a name."""
    return f"organisation/{name}"


def _about(stored: Record) -> str | None:
    if stored.kind == EVENT_KIND:
        return stored.spec.get("module")
    return about_organisation(str(stored.spec.get("organisation", ""))) if stored.kind == "ModuleAccess" else None


def is_row(row: Sequence[Any], values: Mapping[str, Any]) -> bool:
    """Whether a row of `OBJECT_COLUMNS` says what ``values`` (of `object_row`) say."""
    return tuple(row) == in_order(values)


def change(row: Sequence[Any]) -> Change:
    """A row of `CHANGE_COLUMNS` as a change."""
    revision, type_, kind, name, uid, document = row
    return Change(revision, type_, kind, name, uid, load(document))


def change_row(entry: Change, at: str) -> dict[str, Any]:
    """A change as column values."""
    return {
        "revision": entry.revision,
        "type": entry.type,
        "kind": entry.kind,
        "name": entry.name,
        "uid": entry.uid,
        "document": dump(entry.document),
        "at": at,
    }


def outbox_row(row: Sequence[Any]) -> OutboxRow:
    """A row of `OUTBOX_COLUMNS` as an outbox row."""
    return OutboxRow(*row)


def desired_row(row: Sequence[Any]) -> DesiredRow:
    """A row of `DESIRED_COLUMNS` as a desired row."""
    key, kind, name, uid, generation, epoch, revision, digest, payload, deleted, trace = row
    return DesiredRow(key, kind, name, uid, generation, epoch, revision, digest, payload, bool(deleted), trace)


def claim(row: Sequence[Any]) -> Claim:
    """A row of `CLAIM_COLUMNS` as a claim."""
    return Claim._make((*row[:-1], moment(row[-1])))


def claim_row(entry: Claim) -> dict[str, Any]:
    """A claim as column values."""
    return {**dict(zip(entry._fields, entry, strict=True)), "at": now_text(entry.at), "stem": paths.stem(entry.path)}


def contest(row: Sequence[Any]) -> Contest:
    """A row of `CONTEST_COLUMNS` as a contest."""
    api_version, namespace, method, shape, path, uid, module, at = row
    return Contest(api_version, namespace, method, shape, path, uid, module, moment(at))


def contest_row(entry: Contest) -> dict[str, Any]:
    """A contest as column values."""
    return {**values(entry), "at": now_text(entry.at)}


def values(entry: Any) -> dict[str, Any]:
    """A flat record as column values: field names are column names."""
    return {name: getattr(entry, name) for name in entry.__slots__}
