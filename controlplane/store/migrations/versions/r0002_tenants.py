"""Tenants are alive: an organisation's accesses are found by its name, and what workers counted is remembered."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_ORGANISATION = {"sqlite": "json_extract(spec, '$.organisation')", "postgresql": "(spec::json ->> 'organisation')"}


def upgrade() -> None:
    """Write whose each access is; make the table of counts."""
    dialect = op.get_bind().dialect.name
    op.execute(
        f"UPDATE objects SET about = 'organisation/' || {_ORGANISATION[dialect]}"  # noqa: S608 (our own words)
        " WHERE kind = 'ModuleAccess'"
    )
    op.create_table(
        "access_counts",
        *(sa.Column(name, _TEXT, primary_key=True) for name in ("boot", "organisation", "module")),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("at", _TEXT, nullable=False),
    )
    op.create_index("access_counts_at", "access_counts", ["at"])
