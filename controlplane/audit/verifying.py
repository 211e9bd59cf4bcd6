"""Whether somebody touched the audit trail: a walk along every chain, held against what is signed of it.

Reads the file only; one that nobody holds open may be verified where it lies, also from a folder that may not be
written.  Blocking.  Called by `controlplane.audit.archives` for a control plane that runs, by `controlplane.auditing`
for a file.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane import errors
from controlplane.audit import trails
from controlplane.audit.sealing import Sealed, Seals
from schemas.kits import walks
from schemas.kits.chains import Chain, Json, Statement

SEAL: Final = "SignatureInvalid"


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


def verify(database: sqlite3.Connection, seals: Seals, elsewhere: Iterable[Sealed] = ()) -> Verified:
    """Walk along every chain; ``elsewhere``: checkpoints of the second place."""
    gaps = [0]

    def look(record: Json) -> None:
        count = record.get("count")
        if record.get("kind") == "gap" and isinstance(count, int):
            gaps[0] += count

    kept, forged = _opened(_checkpoints(database), seals)
    walk = walks.Walk(kept, look)
    for row in rows(database):
        walk.step(row)
    copies = (seals.opened(each) for each in elsewhere)
    faults = walk.end(each for each in copies if each is not None)
    known = {each.chain for each in forged}
    faults = forged + [each for each in faults if each.chain not in known]
    return Verified(walk.records, faults, [_told(each) for each in kept.values()], gaps[0])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A file as it lies there, changed in nothing; StoreUnusable."""
    # Without a journal nobody has it open: SQLite need not make the files beside it that writers share.
    more = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{more}", uri=True)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != trails.FORMAT:
                raise errors.StoreUnusable(
                    f"{path} is no audit trail of format {trails.FORMAT}, which this program reads"
                )
            database.execute("BEGIN")
            yield database
    except sqlite3.Error as error:
        raise errors.StoreUnusable(f"the audit trail {path} cannot be read: {error}") from error


def rows(database: sqlite3.Connection) -> Iterator[walks.Row]:
    """Every record, in the order in which it is kept."""
    names = {row[0]: Chain(row[1], row[2]) for row in database.execute("SELECT id, writer, boot FROM chains")}
    for place, chain, seq, digest, body in database.execute(
        "SELECT id, chain, seq, hash, CAST(body AS BLOB) FROM records ORDER BY id"
    ):
        whose = names.get(chain, Chain("unknown", str(chain)))
        yield walks.Row(place, whose, seq, bytes(digest), bytes(body))


def _checkpoints(database: sqlite3.Connection) -> list[tuple[Chain, Sealed]]:
    """What is signed of each chain."""
    found = database.execute("SELECT writer, boot, said, kid, sig FROM chains ORDER BY id")
    return [(Chain(row[0], row[1]), Sealed(*row[2:])) for row in found]


def _opened(
    checkpoints: Iterable[tuple[Chain, Sealed]], seals: Seals
) -> tuple[dict[Chain, Statement], list[walks.Fault]]:
    """What is signed of each chain, and the chains whose checkpoint somebody touched."""
    kept, forged = dict[Chain, Statement](), list[walks.Fault]()
    for chain, sealed in checkpoints:
        statement = seals.opened(sealed)
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
