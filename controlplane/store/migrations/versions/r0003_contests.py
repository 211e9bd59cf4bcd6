"""Claims by path shape, with the time they were taken at and what finds their neighbours; and refused claims."""

import re
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_PARAMETER = re.compile(r"\{[a-zA-Z_][a-zA-Z0-9_]*(?::[a-zA-Z_][a-zA-Z0-9_]*)?\}")


def upgrade() -> None:
    """Make both tables, the first one anew with what it held; older claims were taken now at the latest."""
    columns = ("api_version", "namespace", "method", "shape", "path", "uid", "module", "revision")
    old = sa.table("claims", *(sa.column(name) for name in columns))
    held = [dict(row) for row in op.get_bind().execute(sa.select(old)).mappings()]
    op.drop_index("claims_uid", "claims")
    op.drop_table("claims")
    claims = op.create_table(
        "claims",
        *(_text(name, key=True) for name in ("api_version", "namespace", "shape", "method")),
        *(_text(name) for name in ("path", "stem", "uid", "module")),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        _text("at"),
    )
    op.create_index("claims_uid", "claims", ["uid"])
    op.create_index("claims_stem", "claims", ["api_version", "namespace", "stem"])
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if held:
        op.bulk_insert(claims, [{**row, "stem": _stem(row["path"]), "at": now} for row in held])
    op.create_table(
        "contests",
        *(_text(name, key=True) for name in ("api_version", "namespace", "shape", "method", "uid")),
        *(_text(name) for name in ("path", "module", "at")),
    )
    op.create_index("contests_uid", "contests", ["uid"])


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False, primary_key=key)


def _stem(path: str) -> str:
    found = _PARAMETER.search(path)
    return path if found is None else path[: path.rfind("/", 0, found.start()) + 1]
