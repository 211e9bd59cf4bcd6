"""Every change has its trace: what brought a module's newest generation, and the steps that were taken since."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make room for the trace of a desired row, and the tables of traces and their steps."""
    op.add_column("desired", sa.Column("traceparent", _TEXT, nullable=False, server_default=sa.text("''")))
    op.create_table(
        "traces",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("uid", _TEXT, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("trace_id", "traceparent", "at")),
    )
    op.create_index("traces_trace_id", "traces", ["trace_id"])
    op.create_table(
        "trace_steps",
        *(sa.Column(name, _TEXT, primary_key=True) for name in ("trace_id", "id")),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("parent", "name", "who", "module")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("start", "micros")),
        sa.Column("error", _TEXT, nullable=False),
    )
