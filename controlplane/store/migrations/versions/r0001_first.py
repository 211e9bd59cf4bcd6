"""The first schema: objects and their log, claims, desired state, leases, and the mirrors with their triggers."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_EDITED = {
    "analytics_modules": (
        *("id", "name", "description", "version", "module_type", "status", "entry_point"),
        *("config_schema", "default_config", "dependencies", "api_endpoints", "created_by", "spec"),
    ),
    "organisation_modules": ("id", "organisation_id", "module_id", "is_enabled", "configuration", "created_by", "spec"),
}
"""The columns of each mirror that a person's edit is about; counters and our own notes are not among them."""


def upgrade() -> None:
    """Make every table, the one row of ``meta`` and of ``desired_head``, and the triggers."""
    _make_objects()
    _make_desired()
    _make_mirrors()
    op.execute(
        sa.text("INSERT INTO meta (id, store_id, revision, compacted) VALUES (1, :store_id, 0, 0)").bindparams(
            store_id=str(uuid.uuid4())
        )
    )
    op.execute(
        sa.text(
            "INSERT INTO desired_head (id, epoch, revision, count, hash)"
            " VALUES (1, 0, 0, 0, '00000000000000000000000000000000')"
        )
    )
    make_triggers = _sqlite_triggers if op.get_bind().dialect.name == "sqlite" else _postgres_triggers
    for table, columns in _EDITED.items():
        make_triggers(table, columns)


def _text(name: str, *, nullable: bool = False, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable, primary_key=key)


def _big(name: str, *, key: bool = False) -> sa.Column[int]:
    if key:
        return sa.Column(name, _NUMBER, primary_key=True, autoincrement=False)
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _make_objects() -> None:
    op.create_table(
        "meta",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        _text("store_id"),
        _big("revision"),
        _big("compacted"),
    )
    op.create_table(
        "objects",
        _text("kind", key=True),
        _text("name", key=True),
        _text("uid"),
        _big("generation"),
        _big("revision"),
        _text("created_at"),
        _text("deleted_at", nullable=True),
        *(_text(name) for name in ("labels", "annotations", "finalizers", "managed_fields", "spec", "status")),
        _text("about", nullable=True),
        _big("sequence"),
        sa.UniqueConstraint("uid"),
    )
    op.create_index("objects_about", "objects", ["about", "revision"])
    op.create_table(
        "changes", _big("revision", key=True), *(_text(n) for n in ("type", "kind", "name", "uid", "document", "at"))
    )
    op.create_index("changes_at", "changes", ["at"])
    op.create_table(
        "outbox",
        _big("id", key=True),
        *(_text(name) for name in ("event_id", "subject", "body", "order_key")),
        _text("published_at", nullable=True),
        sa.UniqueConstraint("event_id"),
    )
    op.create_index("outbox_published_at", "outbox", ["published_at", "id"])
    op.create_table(
        "history",
        _text("uid", key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(_text(name) for name in ("spec", "manager", "reason", "at")),
    )


def _make_desired() -> None:
    op.create_table(
        "claims",
        *(_text(name, key=True) for name in ("api_version", "namespace", "method", "shape")),
        *(_text(name) for name in ("path", "uid", "module")),
        _big("revision"),
    )
    op.create_index("claims_uid", "claims", ["uid"])
    op.create_table(
        "leases",
        _text("name", key=True),
        _text("holder"),
        _big("epoch"),
        _big("beat"),
        sa.Column("released", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "desired",
        _text("key", key=True),
        *(_text(name) for name in ("kind", "name", "uid")),
        *(_big(name) for name in ("generation", "epoch", "revision")),
        _text("digest"),
        _text("payload"),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )
    op.create_index("desired_revision", "desired", ["revision"])
    op.create_table(
        "desired_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        *(_big(name) for name in ("epoch", "revision", "count")),
        _text("hash"),
    )
    op.create_table("inspections", _text("key", key=True), _text("report"), _text("at"))


def _said(name: str, default: str | None = None) -> sa.Column[str]:
    given = None if default is None else sa.text(f"'{default}'")
    return sa.Column(name, sa.Text(), nullable=False, server_default=given)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("CURRENT_TIMESTAMP"))


def _make_mirrors() -> None:
    op.create_table(
        "row_edits",
        sa.Column("id", _NUMBER, primary_key=True),
        *(_text(name) for name in ("table_name", "operation", "row_id", "row_name")),
        _text("old", nullable=True),
        _text("new", nullable=True),
        _moment("at"),
        _text("settled_at", nullable=True),
        _text("error", nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("row_edits_settled_at", "row_edits", ["settled_at", "id"])
    op.create_index("row_edits_row", "row_edits", ["table_name", "row_name", "id"])
    op.create_table(
        "analytics_modules",
        sa.Column("id", sa.Text(), primary_key=True),
        _said("name"),
        _said("description", ""),
        _said("version", "0.0.0"),
        _said("module_type"),
        _said("status", "development"),
        _said("entry_point"),
        _said("config_schema", "{}"),
        _said("default_config", "{}"),
        _said("dependencies", "[]"),
        _said("api_endpoints", "[]"),
        _said("created_by", ""),
        _moment("created_at"),
        _moment("updated_at"),
        _said("spec", "{}"),
        sa.Column("synced_revision", sa.BigInteger()),
        sa.Column("sync_error", sa.Text()),
    )
    op.create_table(
        "organisation_modules",
        sa.Column("id", sa.Text(), primary_key=True),
        _said("organisation_id"),
        _said("module_id"),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        _said("configuration", "{}"),
        sa.Column("access_count", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_accessed_at", sa.DateTime(timezone=True)),
        _said("created_by", ""),
        _moment("created_at"),
        _said("spec", "{}"),
        sa.Column("synced_revision", sa.BigInteger()),
        sa.Column("sync_error", sa.Text()),
        sa.UniqueConstraint("organisation_id", "module_id", name="organisation_modules_pair"),
    )
    for table in ("analytics_modules", "organisation_modules"):
        op.create_index(f"{table}_name", table, [sa.literal_column("replace(id, '_', '-')")], unique=True)
    op.create_index(
        "organisation_modules_pair_name",
        "organisation_modules",
        [sa.literal_column(f"replace({column}, '_', '-')") for column in ("organisation_id", "module_id")],
        unique=True,
    )


def _sqlite_triggers(table: str, columns: tuple[str, ...]) -> None:
    def row(which: str) -> str:
        fields = ", ".join(f"'{column}', {which}.{column}" for column in columns)
        return f"json_object({fields})"

    def trigger(operation: str, event: str, condition: str, which: str, old: str, new: str) -> None:
        op.execute(
            f"CREATE TRIGGER {table}_{operation.lower()} AFTER {event} ON {table} WHEN {condition} BEGIN"  # noqa: S608
            " INSERT INTO row_edits (table_name, operation, row_id, row_name, old, new)"
            f" VALUES ('{table}', '{operation}', {which}.id, replace({which}.id, '_', '-'), {old}, {new}); END"
        )

    update = f"UPDATE OF {', '.join(columns)}"
    trigger("INSERT", "INSERT", "NEW.synced_revision IS NULL", "NEW", "NULL", row("NEW"))
    trigger("UPDATE", update, "NEW.synced_revision IS OLD.synced_revision", "NEW", row("OLD"), row("NEW"))
    trigger("DELETE", "DELETE", "OLD.synced_revision IS NOT -1", "OLD", row("OLD"), "NULL")


def _postgres_triggers(table: str, columns: tuple[str, ...]) -> None:
    def row(which: str) -> str:
        fields = ", ".join(f"'{column}', {which}.{column}" for column in columns)
        return f"json_build_object({fields})::text"

    def trigger(operation: str, event: str, condition: str, which: str, old: str, new: str) -> None:
        name = f"{table}_{operation.lower()}"
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"  # noqa: S608
            " INSERT INTO row_edits (table_name, operation, row_id, row_name, old, new)"
            f" VALUES ('{table}', '{operation}', {which}.id, replace({which}.id, '_', '-'), {old}, {new});"
            " RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()"
        )

    update = f"UPDATE OF {', '.join(columns)}"
    same = "NEW.synced_revision IS NOT DISTINCT FROM OLD.synced_revision"
    trigger("INSERT", "INSERT", "NEW.synced_revision IS NULL", "NEW", "NULL", row("NEW"))
    trigger("UPDATE", update, same, "NEW", row("OLD"), row("NEW"))
    trigger("DELETE", "DELETE", "OLD.synced_revision IS DISTINCT FROM -1", "OLD", row("OLD"), "NULL")
