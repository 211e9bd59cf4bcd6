"""What was called how often, how long that took and how it ended, out of what `measurements` keeps.

`read` finds what came to each series within a range; `merged` adds up series that belong together, in any grouping,
since sums and sketches only add.  Called by `controlplane.api.measuring`.
"""

import sqlite3
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from controlplane.telemetry.measurements import MINUTE
from schemas.kits import sketches

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Total:
    """Calls of one series, or of several together."""

    calls: int = 0
    client_errors: int = 0
    server_errors: int = 0
    refused: int = 0
    timeouts: int = 0
    seconds: float = 0.0
    received: int = 0
    sent: int = 0
    last: float = 0.0
    """When the last call ended, in seconds since 1970; 0: there was none."""
    inside: int = 0
    buckets: sketches.Sketch = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Calls that did not end well, whoever is to blame."""
        return self.client_errors + self.server_errors + self.refused + self.timeouts

    def add(self, other: "Total") -> None:
        """Take in another one."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last = max(self.last, other.last)
        for index, count in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + count

    def less(self, earlier: "Total") -> "Total":
        """What came since ``earlier``."""
        left = {name: max(getattr(self, name) - getattr(earlier, name), 0) for name in _SUMS}
        return Total(**left, last=self.last, buckets=sketches.grown(self.buckets, earlier.buckets))


_SUMS: Final = (
    "calls", "client_errors", "server_errors", "refused", "timeouts", "seconds", "received", "sent", "inside",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """Whose calls they are."""

    worker: str
    organisation: str
    """Empty for the calls of a route; else ``module`` alone says the rest."""
    module: str
    uid: str
    version: str
    method: str
    route: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted: an empty field says anything."""

    module: str = ""
    worker: str = ""
    since: float | None = None
    """Seconds since 1970, taken down to a whole minute; None: from the beginning."""
    until: float | None = None
    """Seconds since 1970, taken up to a whole minute; None: to this moment."""
    organisations: bool = False
    """Calls by organisation, rather than by route."""


_COLUMNS: Final = (
    "readings.calls, client_errors, server_errors, refused, timeouts, seconds, received, sent, last, buckets"
)
_NEWEST: Final = (
    f"SELECT series.id, worker, organisation, module, uid, version, method, route, {_COLUMNS}"  # noqa: S608 - ours
    " FROM series JOIN boots ON boots.id = series.boot JOIN readings ON readings.series = series.id"
    " WHERE readings.at = (SELECT max(at) FROM readings AS newest WHERE newest.series = series.id AND newest.at < ?1)"
    " AND (?2 = '' OR module = ?2) AND (?3 = '' OR worker = ?3) AND (organisation != '') = ?4"
)
_EVER: Final = 2**53


def read(connection: sqlite3.Connection, asked: Asked) -> list[tuple[int, Series, Total]]:
    """What came to each series in the range, with its number in the file; those to which nothing came are left out."""
    until = _EVER if asked.until is None else -(-int(asked.until) // MINUTE) * MINUTE
    rest = (asked.module, asked.worker, int(asked.organisations))
    earlier: dict[int, Total] = {}
    if asked.since is not None:
        since = int(asked.since) // MINUTE * MINUTE
        earlier = {row[0]: _total(row) for row in connection.execute(_NEWEST, (since, *rest))}
    found = []
    for row in connection.execute(_NEWEST, (until, *rest)):
        total = _total(row)
        if row[0] in earlier:
            total = total.less(earlier[row[0]])
        if total.calls or asked.since is None:
            found.append((row[0], Series(*row[1:8]), total))
    return found


def _total(row: tuple[Any, ...]) -> Total:
    """Of a row of `_NEWEST`."""
    total = Total()
    (*sums, total.last, buckets) = row[8:]
    for name, amount in zip(_SUMS, sums, strict=False):
        setattr(total, name, amount)
    total.buckets = sketches.of_text(buckets)
    return total


def merged(found: Iterable[tuple[Series, Total]], key: Callable[[Series], K]) -> dict[K, Total]:
    """Totals by ``key``, in the order of its first series."""
    totals: dict[K, Total] = {}
    for series, total in found:
        totals.setdefault(key(series), Total()).add(total)
    return totals
