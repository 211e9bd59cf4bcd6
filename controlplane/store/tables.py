"""The tables, as SQLModel classes; statements elsewhere are Core over their `Table` objects.

What always holds: JSON and moments are text (one spelling each, see `controlplane.store.encoding`), so that both
databases hold the same bytes; only the two mirrors, which people read and write, use native types.  Migrations
(`controlplane.store.migrations`) build the same schema, and a test keeps the two equal.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlmodel import Field, SQLModel

ID_NAME = "replace(id, '_', '-')"
"""A mirror row's object name as SQL: hyphens and underscores are one spelling."""
PAIR_NAMES = ("replace(organisation_id, '_', '-')", "replace(module_id, '_', '-')")

_NUMBER = BigInteger().with_variant(Integer(), "sqlite")
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte on both databases, so that names and moments sort alike."""


def _default(value: str) -> dict[str, Any]:
    return {"server_default": text(f"'{value}'")}


_NOW = {"server_default": text("CURRENT_TIMESTAMP")}


class Row(SQLModel):
    """Base of our tables: a registry of our own, so that nobody else's tables are migrated or created."""

    metadata: ClassVar[MetaData] = MetaData()


class Meta(Row, table=True):
    """One row: which store this is, its newest revision, and how far the change log was cut."""

    id: int = Field(primary_key=True, sa_type=Integer, sa_column_kwargs={"autoincrement": False})
    store_id: str = Field(sa_type=_TEXT)
    revision: int = Field(sa_type=BigInteger)
    compacted: int = Field(sa_type=BigInteger)


class Object(Row, table=True):
    """Every object of every kind, as it is now."""

    __tablename__ = "objects"
    __table_args__ = (Index("objects_about", "about", "revision"),)

    kind: str = Field(primary_key=True, sa_type=_TEXT)
    name: str = Field(primary_key=True, sa_type=_TEXT)
    uid: str = Field(sa_type=_TEXT, unique=True)
    generation: int = Field(sa_type=BigInteger)
    revision: int = Field(sa_type=BigInteger)
    created_at: str = Field(sa_type=_TEXT)
    deleted_at: str | None = Field(sa_type=_TEXT)
    labels: str = Field(sa_type=_TEXT)
    annotations: str = Field(sa_type=_TEXT)
    finalizers: str = Field(sa_type=_TEXT)
    managed_fields: str = Field(sa_type=_TEXT)
    spec: str = Field(sa_type=_TEXT)
    status: str = Field(sa_type=_TEXT)
    about: str | None = Field(sa_type=_TEXT)
    sequence: int = Field(sa_type=BigInteger)


class Change(Row, table=True):
    """The watch log."""

    __tablename__ = "changes"
    __table_args__ = (Index("changes_at", "at"),)

    revision: int = Field(primary_key=True, sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False})
    type: str = Field(sa_type=_TEXT)
    kind: str = Field(sa_type=_TEXT)
    name: str = Field(sa_type=_TEXT)
    uid: str = Field(sa_type=_TEXT)
    document: str = Field(sa_type=_TEXT)
    at: str = Field(sa_type=_TEXT)


class Outbox(Row, table=True):
    """Events that are committed; ``id`` is a revision, so that their order is that of the commits."""

    __table_args__ = (Index("outbox_published_at", "published_at", "id"),)

    id: int = Field(primary_key=True, sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False})
    event_id: str = Field(sa_type=_TEXT, unique=True)
    subject: str = Field(sa_type=_TEXT)
    body: str = Field(sa_type=_TEXT)
    order_key: str = Field(sa_type=_TEXT)
    published_at: str | None = Field(sa_type=_TEXT)


class History(Row, table=True):
    """The last generations of each object's spec."""

    uid: str = Field(primary_key=True, sa_type=_TEXT)
    generation: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    spec: str = Field(sa_type=_TEXT)
    manager: str = Field(sa_type=_TEXT)
    reason: str = Field(sa_type=_TEXT)
    at: str = Field(sa_type=_TEXT)


class RouteClaim(Row, table=True):
    """Which module holds which route; ``stem`` finds the routes that may catch the same requests."""

    __tablename__ = "claims"
    __table_args__ = (Index("claims_uid", "uid"), Index("claims_stem", "api_version", "namespace", "stem"))

    api_version: str = Field(primary_key=True, sa_type=_TEXT)
    namespace: str = Field(primary_key=True, sa_type=_TEXT)
    shape: str = Field(primary_key=True, sa_type=_TEXT)
    method: str = Field(primary_key=True, sa_type=_TEXT)
    path: str = Field(sa_type=_TEXT)
    stem: str = Field(sa_type=_TEXT)
    uid: str = Field(sa_type=_TEXT)
    module: str = Field(sa_type=_TEXT)
    revision: int = Field(sa_type=BigInteger)
    at: str = Field(sa_type=_TEXT)


class RouteContest(Row, table=True):
    """Which module was refused which route."""

    __tablename__ = "contests"
    __table_args__ = (Index("contests_uid", "uid"),)

    api_version: str = Field(primary_key=True, sa_type=_TEXT)
    namespace: str = Field(primary_key=True, sa_type=_TEXT)
    shape: str = Field(primary_key=True, sa_type=_TEXT)
    method: str = Field(primary_key=True, sa_type=_TEXT)
    uid: str = Field(primary_key=True, sa_type=_TEXT)
    path: str = Field(sa_type=_TEXT)
    module: str = Field(sa_type=_TEXT)
    at: str = Field(sa_type=_TEXT)


class LeaseRow(Row, table=True):
    """Who leads."""

    __tablename__ = "leases"

    name: str = Field(primary_key=True, sa_type=_TEXT)
    holder: str = Field(sa_type=_TEXT)
    epoch: int = Field(sa_type=BigInteger)
    beat: int = Field(sa_type=BigInteger)
    released: bool


class Desired(Row, table=True):
    """What each key of the desired bucket should hold."""

    __table_args__ = (Index("desired_revision", "revision"),)

    key: str = Field(primary_key=True, sa_type=_TEXT)
    kind: str = Field(sa_type=_TEXT)
    name: str = Field(sa_type=_TEXT)
    uid: str = Field(sa_type=_TEXT)
    generation: int = Field(sa_type=BigInteger)
    epoch: int = Field(sa_type=BigInteger)
    revision: int = Field(sa_type=BigInteger)
    digest: str = Field(sa_type=_TEXT)
    payload: str = Field(sa_type=_TEXT)
    deleted: bool
    traceparent: str = Field(sa_type=_TEXT, sa_column_kwargs=_default(""))


class DesiredHeadRow(Row, table=True):
    """One row: the proof of the living desired set."""

    __tablename__ = "desired_head"

    id: int = Field(primary_key=True, sa_type=Integer, sa_column_kwargs={"autoincrement": False})
    epoch: int = Field(sa_type=BigInteger)
    revision: int = Field(sa_type=BigInteger)
    count: int = Field(sa_type=BigInteger)
    hash: str = Field(sa_type=_TEXT)


class Inspection(Row, table=True):
    """Kept inspection reports, by what was inspected."""

    __tablename__ = "inspections"

    key: str = Field(primary_key=True, sa_type=_TEXT)
    report: str = Field(sa_type=_TEXT)
    at: str = Field(sa_type=_TEXT)


class RowEditRow(Row, table=True):
    """What people did to the mirrors, queued by triggers."""

    __tablename__ = "row_edits"
    __table_args__ = (
        Index("row_edits_settled_at", "settled_at", "id"),
        Index("row_edits_row", "table_name", "row_name", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(primary_key=True, sa_type=_NUMBER)
    table_name: str = Field(sa_type=_TEXT)
    operation: str = Field(sa_type=_TEXT)
    row_id: str = Field(sa_type=_TEXT)
    row_name: str = Field(sa_type=_TEXT)
    old: str | None = Field(sa_type=_TEXT)
    new: str | None = Field(sa_type=_TEXT)
    at: datetime = Field(sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW)
    settled_at: str | None = Field(sa_type=_TEXT)
    error: str | None = Field(sa_type=_TEXT)


class AnalyticsModule(Row, table=True):
    """The editable mirror of Modules: one row is one manifest."""

    __tablename__ = "analytics_modules"
    __table_args__ = (Index("analytics_modules_name", literal_column(ID_NAME), unique=True),)

    id: str = Field(primary_key=True, sa_type=Text)
    name: str = Field(sa_type=Text)
    description: str = Field(sa_type=Text, sa_column_kwargs=_default(""))
    version: str = Field(sa_type=Text, sa_column_kwargs=_default("0.0.0"))
    module_type: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text, sa_column_kwargs=_default("development"))
    entry_point: str = Field(sa_type=Text)
    config_schema: str = Field(sa_type=Text, sa_column_kwargs=_default("{}"))
    default_config: str = Field(sa_type=Text, sa_column_kwargs=_default("{}"))
    dependencies: str = Field(sa_type=Text, sa_column_kwargs=_default("[]"))
    api_endpoints: str = Field(sa_type=Text, sa_column_kwargs=_default("[]"))
    created_by: str = Field(sa_type=Text, sa_column_kwargs=_default(""))
    created_at: datetime = Field(sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW)
    updated_at: datetime = Field(sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW)
    spec: str = Field(sa_type=Text, sa_column_kwargs=_default("{}"))
    synced_revision: int | None = Field(sa_type=BigInteger)
    sync_error: str | None = Field(sa_type=Text)


class OrganisationModule(Row, table=True):
    """The editable mirror of ModuleAccesses; the counters live only here."""

    __tablename__ = "organisation_modules"
    __table_args__ = (
        UniqueConstraint("organisation_id", "module_id", name="organisation_modules_pair"),
        Index("organisation_modules_name", literal_column(ID_NAME), unique=True),
        Index("organisation_modules_pair_name", *(literal_column(column) for column in PAIR_NAMES), unique=True),
    )

    id: str = Field(primary_key=True, sa_type=Text)
    organisation_id: str = Field(sa_type=Text)
    module_id: str = Field(sa_type=Text)
    is_enabled: bool = Field(sa_column_kwargs={"server_default": text("true")})
    configuration: str = Field(sa_type=Text, sa_column_kwargs=_default("{}"))
    access_count: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    last_accessed_at: datetime | None = Field(sa_type=DateTime(timezone=True))
    created_by: str = Field(sa_type=Text, sa_column_kwargs=_default(""))
    created_at: datetime = Field(sa_type=DateTime(timezone=True), sa_column_kwargs=_NOW)
    spec: str = Field(sa_type=Text, sa_column_kwargs=_default("{}"))
    synced_revision: int | None = Field(sa_type=BigInteger)
    sync_error: str | None = Field(sa_type=Text)


class AccessCount(Row, table=True):
    """How many calls of an organisation each boot of a worker has told of: a repeated message counts once."""

    __tablename__ = "access_counts"
    __table_args__ = (Index("access_counts_at", "at"),)

    boot: str = Field(primary_key=True, sa_type=_TEXT)
    organisation: str = Field(primary_key=True, sa_type=_TEXT)
    module: str = Field(primary_key=True, sa_type=_TEXT)
    count: int = Field(sa_type=BigInteger)
    at: str = Field(sa_type=_TEXT)


class Trace(Row, table=True):
    """In whose trace each module's newest generation came."""

    __tablename__ = "traces"
    __table_args__ = (Index("traces_trace_id", "trace_id"),)

    name: str = Field(primary_key=True, sa_type=_TEXT)
    uid: str = Field(sa_type=_TEXT)
    generation: int = Field(sa_type=BigInteger)
    trace_id: str = Field(sa_type=_TEXT)
    traceparent: str = Field(sa_type=_TEXT)
    at: str = Field(sa_type=_TEXT)


class TraceStep(Row, table=True):
    """What was done in those traces, and how long it took."""

    __tablename__ = "trace_steps"

    trace_id: str = Field(primary_key=True, sa_type=_TEXT)
    id: str = Field(primary_key=True, sa_type=_TEXT)
    parent: str = Field(sa_type=_TEXT)
    name: str = Field(sa_type=_TEXT)
    who: str = Field(sa_type=_TEXT)
    module: str = Field(sa_type=_TEXT)
    start: int = Field(sa_type=BigInteger)
    micros: int = Field(sa_type=BigInteger)
    error: str = Field(sa_type=_TEXT)


metadata = Row.metadata


def table(name: str) -> Table:
    """The Core table called ``name``."""
    return metadata.tables[name]


META = table("meta")
OBJECTS = table("objects")
CHANGES = table("changes")
OUTBOX = table("outbox")
HISTORY = table("history")
CLAIMS = table("claims")
CONTESTS = table("contests")
LEASES = table("leases")
DESIRED = table("desired")
DESIRED_HEAD = table("desired_head")
INSPECTIONS = table("inspections")
ROW_EDITS = table("row_edits")
ACCESS_COUNTS = table("access_counts")
TRACES = table("traces")
TRACE_STEPS = table("trace_steps")
MODULE_ROWS = table("analytics_modules")
ACCESS_ROWS = table("organisation_modules")
