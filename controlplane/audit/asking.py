"""What is asked of the audit trail: which records, and whether somebody touched them.  Reads the file only."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.audit.sealing import Sealed, Sealer
from controlplane.audit.trails import Trail
from schemas.kits import walks
from schemas.kits.chains import Chain, Json, Statement

SEAL: Final = "SignatureInvalid"
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


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk along the whole trail found."""

    records: int
    faults: list[walks.Fault]
    chains: list[Json]
    """Of each: writer, boot, first and last number, whether it is closed, what it is known to lack."""
    lost: int
    """How many records are known to be missing, by gap records and breaks together."""

    def wire(self) -> Json:
        """For people and programs."""
        return {
            "ok": not self.faults,
            "records": self.records,
            "first_fault": self.faults[0].wire() if self.faults else None,
            "faults": [each.wire() for each in self.faults],
            "lost": self.lost,
            "chains": self.chains,
        }


def verify(trail: Trail, sealer: Sealer, elsewhere: Iterable[Sealed] = ()) -> Verified:
    """Walk along every chain; ``elsewhere``: checkpoints of the second place.  StoreBusy."""
    gaps = [0]

    def look(record: Json) -> None:
        count = record.get("count")
        if record.get("kind") == "gap" and isinstance(count, int):
            gaps[0] += count

    with trail.reading() as database:
        kept, forged = _opened(trail.checkpoints(database), sealer)
        walk = walks.Walk(kept, look)
        for row in trail.rows(database):
            walk.step(row)
    copies = (sealer.opened(each) for each in elsewhere)
    faults = walk.end(each for each in copies if each is not None)
    known = {each.chain for each in forged}
    faults = forged + [each for each in faults if each.chain not in known]
    return Verified(walk.records, faults, [_told(each) for each in kept.values()], gaps[0])


def _opened(
    checkpoints: Iterable[tuple[Chain, Sealed]], sealer: Sealer
) -> tuple[dict[Chain, Statement], list[walks.Fault]]:
    """What is signed of each chain, and the chains whose checkpoint somebody touched."""
    kept, forged = dict[Chain, Statement](), list[walks.Fault]()
    for chain, sealed in checkpoints:
        statement = sealer.opened(sealed)
        if statement is None or statement.chain != chain:
            forged.append(walks.Fault(chain, 1, None, SEAL, "the checkpoint of this chain is not one that we signed"))
        else:
            kept[chain] = statement
    return kept, forged


def _told(statement: Statement) -> Json:
    return {
        "writer": statement.chain.writer,
        "boot": statement.chain.boot,
        "first": statement.base.seq + 1,
        "last": statement.head.seq,
        "closed": statement.closed,
        "lost": [{"after": each.after, "before": each.before.seq + 1} for each in statement.breaks],
    }
