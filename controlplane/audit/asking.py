"""Which records of the audit trail somebody asks for.  Reads the file only."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from schemas.kits.chains import Json

_FIELDS: Final = ("module", "subject", "organisation", "outcome", "kind", "writer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records; empty words leave it open."""

    module: str = ""
    subject: str = ""
    organisation: str = ""
    outcome: str = ""
    kind: str = ""
    writer: str = ""
    since: str = ""
    """RFC 3339 in UTC to the millisecond, as records have it; the record's own time counts."""
    until: str = ""
    after: int = 0
    """Only what came behind this id."""
    before: int = 0
    """Only what came before this id; 0: no such bound."""
    newest: bool = True
    """Which end a page begins at, when there are more than ``limit``."""
    limit: int = 100


def find(database: sqlite3.Connection, wanted: Wanted) -> tuple[list[Json], bool]:
    """The records of one page, the oldest first, each with its ``id``; and whether there are more."""
    clauses, values = ["json_valid(body)"], list[Any]()

    def narrow(clause: str, value: Any) -> None:
        if value:
            clauses.append(clause)
            values.append(value)

    for name in _FIELDS:
        narrow(f"body ->> '$.{name}' = ?", getattr(wanted, name))
    narrow("at >= ?", wanted.since)
    narrow("at < ?", wanted.until)
    narrow("id > ?", wanted.after)
    narrow("id < ?", wanted.before)
    order = "DESC" if wanted.newest else "ASC"
    sql = f"SELECT id, body FROM records WHERE {' AND '.join(clauses)} ORDER BY id {order} LIMIT ?"  # noqa: S608 (ours)
    rows = database.execute(sql, (*values, wanted.limit + 1)).fetchall()
    found = [{"id": place, **json.loads(body)} for place, body in rows[: wanted.limit]]
    return (found[::-1] if wanted.newest else found), len(rows) > wanted.limit
