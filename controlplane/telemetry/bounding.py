"""How much room one worker may take in the file of measurements, whatever it tells.

A worker that runs as it should has as many series as routes times methods and organisations times modules.  One that is
in somebody else's hands may make up modules, organisations, routes and boots, and each of them would be kept for a
month.

    message ─▶ `Room.has_boot` ─▶ `Room.has_series` of each ─▶ kept, or refused: counted, and said once

Always: a worker uses up its own room only, and a module of a boot the module's only.  What is refused is made good by a
later message once there is room, for all numbers are sums.  `making_room` sees to that: where a worker's room is
scarce, boots that are over go before their time.

Called by `controlplane.telemetry.measurements`, in the thread of the file.
"""

import sqlite3
from collections import Counter
from typing import Final

import structlog

from controlplane.telemetry import instruments

logger = structlog.get_logger("controlplane.telemetry.bounding")

BOOTS_OF_WORKER: Final = 1_000
"""Boots of one worker that are kept."""
SERIES_OF_WORKER: Final = 100_000
"""Series that these have together."""
SERIES_OF_MODULE: Final = 10_000
"""Series of one module, its organisations included, in one boot."""
SILENT_SECONDS: Final = 24 * 3_600
"""A boot that was not heard for so long is over, as far as others need its room."""
_SCARCE: Final = 0.9

_BOOTS: Final = "SELECT count(*) FROM boots WHERE worker = ?"
_SERIES: Final = "SELECT count(*) FROM series JOIN boots ON boots.id = series.boot WHERE worker = ?"
_MODULE: Final = "SELECT count(*) FROM series WHERE boot = ? AND module = ?"
_HELD: Final = (
    "SELECT worker, boots.id, heard, count(series.id) FROM boots LEFT JOIN series ON series.boot = boots.id"
    " GROUP BY boots.id ORDER BY heard DESC, boots.id DESC"
)


class Room:
    """What is left of it for each worker; counted in the file once, and from then on beside it."""

    def __init__(self) -> None:
        self._held: dict[tuple[object, ...], int] = {}
        self._said: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Count anew, for something was taken out of the file."""
        self._held.clear()
        self._said.clear()

    def has_boot(self, connection: sqlite3.Connection, worker: str) -> bool:
        """Whether there is room for one more boot; if so, it is taken."""
        if self._count(connection, _BOOTS, worker) < BOOTS_OF_WORKER:
            self._held[_BOOTS, worker] += 1
            return True
        instruments.COUNTS_REFUSED.labels("boots").inc()
        self._say("boots of a worker", BOOTS_OF_WORKER, worker, "")
        return False

    def has_series(self, connection: sqlite3.Connection, worker: str, boot: int, module: str) -> bool:
        """Whether there is room for one more series; if so, it is taken."""
        if self._count(connection, _SERIES, worker) >= SERIES_OF_WORKER:
            instruments.SERIES_REFUSED.labels("worker").inc()
            self._say("series of a worker", SERIES_OF_WORKER, worker, "")
            return False
        if self._count(connection, _MODULE, boot, module) >= SERIES_OF_MODULE:
            instruments.SERIES_REFUSED.labels("module").inc()
            self._say("series of a module", SERIES_OF_MODULE, worker, module)
            return False
        self._held[_SERIES, worker] += 1
        self._held[_MODULE, boot, module] += 1
        return True

    def _count(self, connection: sqlite3.Connection, question: str, *of: object) -> int:
        key = (question, *of)
        if key not in self._held:
            (self._held[key],) = connection.execute(question, of).fetchone()
        return self._held[key]

    def _say(self, bound: str, most: int, worker: str, module: str) -> None:
        if (bound, worker) not in self._said:
            self._said.add((bound, worker))
            logger.warning("too many counts of a worker", bound=bound, most=most, worker=worker, module=module)


def making_room(connection: sqlite3.Connection, now: float) -> list[int]:
    """The numbers of boots that are over, of workers whose room is scarce: the eldest, as many as is too many."""
    boots, series, over = Counter[str](), Counter[str](), list[int]()
    for worker, boot, heard, held in connection.execute(_HELD).fetchall():
        boots[worker] += 1
        series[worker] += held
        scarce = boots[worker] > _SCARCE * BOOTS_OF_WORKER or series[worker] > _SCARCE * SERIES_OF_WORKER
        if scarce and heard < now - SILENT_SECONDS:
            over.append(boot)
    return over
