"""What workers counted, merged and kept in a file of its own: by the minute for a day, by the hour for thirty.

Kept are readings: the sums of one series of one boot of a worker as they stood in a minute.  What came in between two
moments is the difference of two readings, and the total of a route the sum over its boots.  So taking the same message
twice, or an older one after a newer, changes nothing, and nothing has to be remembered beside the readings.

    take (messaging) ──▶ file ──▶ `controlplane.telemetry.totals` (api)

Always: one thread of its own does all of it, so neither merging nor reading holds up the loop.  What a worker may take
of the file is bounded by `controlplane.telemetry.bounding` and by the moments it may tell of, whatever it tells.  It is
no truth: a file that cannot be used is put aside and begun anew.  `PATH` lies beside the store.
"""

import asyncio
import functools
import operator
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import structlog
from pydantic import ValidationError

from controlplane import errors
from controlplane.telemetry import bounding, instruments
from schemas.kits import sketches
from schemas.measures import AccessMeasure, Measures, RouteMeasure

logger = structlog.get_logger("controlplane.telemetry.measurements")

PATH: Final = "metrics.db"
"""The file's name, in the data folder."""
MINUTE: Final = 60
HOUR: Final = 3_600
FINE_SECONDS: Final = 24 * HOUR
"""For how long every minute is kept."""
KEPT_SECONDS: Final = 30 * FINE_SECONDS
"""For how long every hour is kept, and a boot that tells nothing any more."""
LATE_SECONDS: Final = 7 * FINE_SECONDS
"""What comes later than this is refused: nobody may know any more what was counted of it already."""
AHEAD_SECONDS: Final = FINE_SECONDS
"""What was counted later than so long from now is refused: a worker's clock may be wrong, but there is an end to it."""
PRUNE_SECONDS: Final = 600.0
_SHAPE: Final = 2
_KNOWN_SIZE: Final = 200_000
_NONE: Final = sketches.text({})

P = ParamSpec("P")
T = TypeVar("T")

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS boots (
    id INTEGER PRIMARY KEY, worker TEXT NOT NULL, boot TEXT NOT NULL, heard REAL NOT NULL, UNIQUE (worker, boot));
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL, number INTEGER NOT NULL, organisation TEXT NOT NULL,
    module TEXT NOT NULL, uid TEXT NOT NULL, version TEXT NOT NULL, method TEXT NOT NULL, route TEXT NOT NULL,
    UNIQUE (boot, number, organisation, module));
CREATE INDEX IF NOT EXISTS series_module ON series (module);
CREATE TABLE IF NOT EXISTS readings (
    series INTEGER NOT NULL, at INTEGER NOT NULL, sequence INTEGER NOT NULL, calls INTEGER NOT NULL,
    client_errors INTEGER NOT NULL, server_errors INTEGER NOT NULL, refused INTEGER NOT NULL,
    timeouts INTEGER NOT NULL, seconds REAL NOT NULL, received INTEGER NOT NULL, sent INTEGER NOT NULL,
    last REAL NOT NULL, buckets BLOB NOT NULL, PRIMARY KEY (series, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pruned (through INTEGER NOT NULL);
"""
_IS_KNOWN: Final = "SELECT 1 FROM boots WHERE worker = ? AND boot = ?"
_BOOT: Final = (
    "INSERT INTO boots (worker, boot, heard) VALUES (?, ?, ?)"
    " ON CONFLICT (worker, boot) DO UPDATE SET heard = max(heard, excluded.heard) RETURNING id"
)
_SERIES: Final = (
    "INSERT INTO series (boot, number, organisation, module, uid, version, method, route)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"
)
_REOPEN: Final = "UPDATE pruned SET through = ?1 WHERE through > ?1"
"""What comes late is thinned out as well, the next time."""
_OVER: Final = (
    "DELETE FROM readings WHERE series IN (SELECT id FROM series WHERE boot = ?)",
    "DELETE FROM series WHERE boot = ?",
    "DELETE FROM boots WHERE id = ?",
)
_KNOWN: Final = "SELECT id FROM series WHERE boot = ? AND number = ? AND organisation = ? AND module = ?"
_READING: Final = (
    "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (series, at) DO UPDATE SET sequence = excluded.sequence, calls = excluded.calls,"
    " client_errors = excluded.client_errors, server_errors = excluded.server_errors, refused = excluded.refused,"
    " timeouts = excluded.timeouts, seconds = excluded.seconds, received = excluded.received, sent = excluded.sent,"
    " last = excluded.last, buckets = excluded.buckets WHERE excluded.sequence > readings.sequence"
)
_COUNTS: Final = operator.attrgetter(
    "calls", "client_errors", "server_errors", "refused", "timeouts", "seconds", "received", "sent", "last", "durations"
)
"""Of the measure of a route, in the order of the columns."""
_Row = tuple[int, int, int, int, int, int, int, int, float, int, int, float, str]


class Measurements:
    """The file, behind one thread."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._connection: sqlite3.Connection | None = None
        self._boots: set[tuple[str, str]] = set()
        self._series: dict[tuple[int, int, str, str], int] = {}
        self._inside: dict[tuple[str, str], dict[int, int]] = {}
        self._room = bounding.Room()

    async def take(self, messages: Sequence[tuple[str, bytes]]) -> list[Measures]:
        """Merge messages, each with the worker whose subject it came on; returns what was taken of those.

        StoreBusy: nothing was merged, try again.
        """
        return await self._run(Measurements._take, messages)

    async def ask(self, question: "Callable[[sqlite3.Connection], T]") -> T:
        """Run a question in the thread of the file; StoreBusy."""
        return await self._run(lambda self: question(self._open()))

    async def inside(self) -> dict[int, int]:
        """How many calls are under way in each series, as it was told last."""
        return await self._run(lambda self: {key: n for told in self._inside.values() for key, n in told.items()})

    async def prune(self) -> None:
        """Thin out what is old; StoreBusy."""
        await self._run(Measurements._prune)

    async def close(self) -> None:
        """Close the file."""
        await self._run(Measurements._close)
        self._thread.shutdown()

    async def _run(self, work: "Callable[Concatenate[Measurements, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(work, self, *args, **kwargs)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (sqlite3.DatabaseError, OSError) as error:
            raise errors.StoreBusy(f"the measurements in {self._path} cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = _opened(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                aside = self._path.with_name(self._path.name + ".refused")
                logger.error("measurements cannot be read, beginning anew", kept_as=str(aside), error=str(error))
                self._path.replace(aside)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._connection = _opened(self._path)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take(self, messages: Sequence[tuple[str, bytes]]) -> list[Measures]:
        connection = self._open()
        understood = [report for worker, body in messages if (report := _read(worker, body)) is not None]
        rows: dict[tuple[int, int], _Row] = {}
        if len(self._series) > _KNOWN_SIZE:
            self._series.clear()
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                taken = [kept for report in understood if (kept := self._rows(connection, report, rows)) is not None]
                connection.executemany(_READING, rows.values())
                if rows:
                    connection.execute(_REOPEN, (min(at for _, at in rows) // HOUR * HOUR,))
        except sqlite3.DatabaseError:
            self._forget()
            self._close()
            raise
        return taken

    def _forget(self) -> None:
        """What is known of the file beside it is not true any more."""
        self._series.clear()
        self._boots.clear()
        self._room.forget()

    def _rows(
        self, connection: sqlite3.Connection, report: Measures, rows: dict[tuple[int, int], _Row]
    ) -> Measures | None:
        """Add the readings of one message; returns what of it is kept, None if nothing is."""
        boot = self._boot_of(connection, report)
        if boot is None:
            return None
        at = int(report.at) // MINUTE * MINUTE
        inside = self._inside_of((report.worker, report.boot))
        for route in report.routes:
            if (series := self._series_of(connection, report.worker, boot, route)) is not None:
                inside[series] = route.inside
                _keep(rows, (series, at, report.sequence, *_COUNTS(route)))
        accesses = list[AccessMeasure]()
        for access in report.accesses:
            if (series := self._series_of(connection, report.worker, boot, access)) is not None:
                _keep(rows, (series, at, report.sequence, access.calls, 0, 0, 0, 0, 0.0, 0, 0, access.last, _NONE))
                accesses.append(access)
        return report.model_copy(update={"accesses": accesses})

    def _boot_of(self, connection: sqlite3.Connection, report: Measures) -> int | None:
        """The number of the message's boot, heard once more; None if its message is refused."""
        name, now = (report.worker, report.boot), self._now().timestamp()
        if report.at > now + AHEAD_SECONDS:
            _refuse("ahead", report.worker, f"counted {report.at - now:.0f} s from now: its clock is wrong")
            return None
        if name not in self._boots and connection.execute(_IS_KNOWN, name).fetchone() is None:
            if report.at < now - LATE_SECONDS:
                _refuse("late", report.worker, f"counted {now - report.at:.0f} s ago in boot {report.boot}")
                return None
            if not self._room.has_boot(connection, report.worker):
                return None
        self._boots.add(name)
        (boot,) = connection.execute(_BOOT, (*name, now)).fetchone()
        return int(boot)

    def _inside_of(self, name: tuple[str, str]) -> dict[int, int]:
        """What is under way in a boot; an older boot of the same slot is over."""
        if name not in self._inside:
            self._inside = {other: told for other, told in self._inside.items() if other[0] != name[0]}
        return self._inside.setdefault(name, {})

    def _series_of(
        self, connection: sqlite3.Connection, worker: str, boot: int, measure: RouteMeasure | AccessMeasure
    ) -> int | None:
        """The number of a series; None if there is no room for it."""
        if isinstance(measure, RouteMeasure):
            key = (boot, measure.number, "", measure.module)
            rest = (measure.uid, measure.version, measure.method, measure.route)
        else:
            key = (boot, 0, measure.organisation, measure.module)
            rest = ("", "", "", "")
        if key not in self._series:
            found = connection.execute(_KNOWN, key).fetchone()
            if found is None:
                if not self._room.has_series(connection, worker, boot, measure.module):
                    return None
                found = connection.execute(_SERIES, (*key, *rest)).fetchone()
            self._series[key] = int(found[0])
        return self._series[key]

    def _prune(self) -> None:
        connection, now = self._open(), int(self._now().timestamp())
        fine = (now - FINE_SECONDS) // HOUR * HOUR
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            over = connection.execute("SELECT id FROM boots WHERE heard < ?", (now - KEPT_SECONDS,)).fetchall()
            over += [(boot,) for boot in bounding.making_room(connection, now)]
            for statement in _OVER:
                connection.executemany(statement, over)
        if over:
            self._forget()
        found = connection.execute("SELECT through FROM pruned").fetchone()
        if found is not None and found[0] >= fine:
            return
        for (series,) in connection.execute("SELECT id FROM series").fetchall():
            with connection:
                connection.execute(_THIN, (series, 0 if found is None else found[0], fine))
                connection.execute(_DROP, (series, now - KEPT_SECONDS))
        with connection:
            connection.execute("DELETE FROM pruned")
            connection.execute("INSERT INTO pruned VALUES (?)", (fine,))


_THIN: Final = (
    "DELETE FROM readings WHERE series = ?1 AND at >= ?2 AND at < ?3 AND EXISTS (SELECT 1 FROM readings AS later"
    " WHERE later.series = ?1 AND later.at > readings.at AND later.at / 3600 = readings.at / 3600)"
)
_DROP: Final = (
    "DELETE FROM readings WHERE series = ?1 AND at < ?2 AND EXISTS (SELECT 1 FROM readings AS later"
    " WHERE later.series = ?1 AND later.at > readings.at AND later.at < ?2)"
)


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout = 2000")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (shape,) = connection.execute("PRAGMA user_version").fetchone()
        if shape not in {0, _SHAPE}:
            raise sqlite3.DatabaseError(f"it has shape {shape}, this program knows {_SHAPE}")
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA user_version = {_SHAPE}")
    except BaseException:
        connection.close()
        raise
    return connection


def _read(worker: str, body: bytes) -> Measures | None:
    """A message; None if it is none, or speaks for another worker."""
    try:
        report = Measures.model_validate_json(body)
    except ValidationError as error:
        _refuse("unreadable", worker, f"{error.error_count()} problems")
        return None
    if report.worker != worker:
        _refuse("foreign", worker, "it speaks for another worker")
        return None
    return report


def _refuse(reason: str, worker: str, problem: str) -> None:
    """Count and say that a message is not taken."""
    instruments.COUNTS_REFUSED.labels(reason).inc()
    logger.warning("counts refused", worker=worker, reason=reason, problem=problem)


def _keep(rows: dict[tuple[int, int], _Row], row: _Row) -> None:
    """Of several readings of one series and minute the newest counts."""
    known = rows.get(row[:2])
    if known is None or known[2] < row[2]:
        rows[row[:2]] = row
