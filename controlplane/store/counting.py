"""The counters of organisation_modules: what workers have counted, added once however often it is told.

What always holds: of each boot the highest count that was told is remembered, and only what goes beyond it is added, in
the same transaction; a count of an access that is gone is remembered and added nowhere.  Takes no revision: counters
are columns of the mirror, not fields of objects.  Called by `controlplane.store.transactions`.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import TextClause, bindparam, select, text

from controlplane.store import encoding
from controlplane.store.ledgers import Ledger
from controlplane.store.tables import ACCESS_COUNTS, ACCESS_ROWS, PAIR_NAMES
from schemas.measures import Measures

_SEEN: Final = select(ACCESS_COUNTS.c.organisation, ACCESS_COUNTS.c.module, ACCESS_COUNTS.c.count).where(
    ACCESS_COUNTS.c.boot == bindparam("boot")
)
_REMEMBER: Final = text(
    "INSERT INTO access_counts (boot, organisation, module, count, at)"
    " VALUES (:boot, :organisation, :module, :count, :at)"
    " ON CONFLICT (boot, organisation, module) DO UPDATE SET count = excluded.count, at = excluded.at"
)


def _adding(last: str) -> TextClause:
    return text(
        "UPDATE organisation_modules SET access_count = access_count + :more, last_accessed_at ="  # noqa: S608 (ours)
        f" CASE WHEN last_accessed_at > {last} THEN last_accessed_at ELSE {last} END"
        f" WHERE {PAIR_NAMES[0]} = :organisation AND {PAIR_NAMES[1]} = :module"
    )


_ADD: Final = {"sqlite": _adding(":last"), "postgresql": _adding("CAST(:last AS TIMESTAMP WITH TIME ZONE)")}


def count(ledger: Ledger, report: Measures) -> int:
    """Add what a boot has counted beyond what it told before; how many calls that are."""
    boot = f"{report.worker}.{report.boot}"
    seen = {(organisation, module): told for organisation, module, told in ledger.ask(_SEEN, {"boot": boot})}
    added = 0
    for each in report.accesses:
        pair = {"organisation": each.organisation, "module": each.module}
        more = each.calls - seen.get((each.organisation, each.module), 0)
        if more <= 0:
            continue
        added += more
        ledger.run(ACCESS_COUNTS, _REMEMBER, {**pair, "boot": boot, "count": each.calls, "at": ledger.at})
        last = encoding.sql_time(datetime.fromtimestamp(each.last, UTC))
        ledger.run(ACCESS_ROWS, _ADD[ledger.connection.dialect.name], {**pair, "more": more, "last": last})
    return added
