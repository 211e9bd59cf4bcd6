"""The one writer: a thread that runs units, all that wait in one database transaction.

What always holds: a unit's result leaves after the commit (and its fsync), or its error after the rollback; units
commit in the order in which they came; a unit that fails does so alone.  It fails inside its group when it had
not written yet; else the group is rolled back and each unit runs again in a transaction of its own.

Fed by `controlplane.store.stores`; what was committed, here or by another process, is handed back to it on the
event loop.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from controlplane.store import engines, following
from controlplane.store.ledgers import Ledger
from controlplane.store.records import Batch
from controlplane.store.transactions import Transaction
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.store.writers")

GROUP: Final = 128
"""How many units share one commit at most."""

LOOK_SECONDS: Final = 1.0
"""How often an idle writer looks for commits of other processes."""


@dataclass(slots=True)
class Job:
    """A unit and who waits for it."""

    unit: Callable[[Transaction], Any]
    epoch: int | None
    future: "asyncio.Future[Any]"
    trace: str = ""
    """The ``traceparent`` of who asked for it; empty: nobody traces it."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a unit."""

    job: Job
    result: Any = None
    error: BaseException | None = None


Deliver = Callable[[Sequence[Batch], Sequence[Done]], None]
"""Called on the event loop: batches in revision order, then the units that they came from."""


class _Undone(Exception):  # noqa: N818 (a signal, not an error)
    """The group was rolled back for the failure of one of its units or statements."""

    def __init__(self, error: Exception) -> None:
        super().__init__(repr(error))
        self.error = error


class Writer:
    """The writer thread of one store."""

    def __init__(
        self, doors: engines.Engines, clock: Clock, revision: int, loop: asyncio.AbstractEventLoop, deliver: Deliver
    ) -> None:
        self._doors = doors
        self._clock = clock
        self._known = revision
        self._loop = loop
        self._deliver = deliver
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._connection: Connection | None = None
        """Kept from commit to commit as long as nothing fails on it."""
        self.commits = 0
        """How many database transactions were committed."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand in a unit."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was handed in and end; blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                jobs = [self._jobs.get(timeout=LOOK_SECONDS)]
            except queue.Empty:
                self._look()
                continue
            while len(jobs) < GROUP and not self._jobs.empty():
                jobs.append(self._jobs.get())
            stopping = None in jobs
            self._group([job for job in jobs if job is not None and not job.future.cancelled()])
        self._hang_up()

    def _group(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            self._commit(jobs)
        except _Undone as undone:
            if len(jobs) == 1:
                self._fail(jobs, undone.error)
                return
            logger.debug("group undone, its units run alone", units=len(jobs), error=repr(undone.error))
            for job in jobs:
                self._group([job])
        except Exception as error:  # noqa: BLE001 (the database failed, not a unit: everybody has to know)
            self._fail(jobs, error)

    def _commit(self, jobs: list[Job]) -> None:
        try:
            batches, done = self._committed(self._connected(), jobs)
        except BaseException:
            self._hang_up()
            raise
        self.commits += 1
        if batches:
            self._known = batches[-1].revision
        self._send(batches, done)

    def _committed(self, connection: Connection, jobs: list[Job]) -> tuple[list[Batch], list[Done]]:
        transaction = self._begin(connection)
        try:
            batches, done = self._work(connection, jobs)
        except Exception as error:
            transaction.rollback()
            raise _Undone(error) from error
        transaction.commit()
        return batches, done

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._doors.writer.connect()
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _begin(self, connection: Connection) -> RootTransaction:
        """Begin to write; once more, if the server has hung up since the last time."""
        try:
            return connection.begin()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return connection.begin()

    def _work(self, connection: Connection, jobs: list[Job]) -> tuple[list[Batch], list[Done]]:
        ledger = Ledger(connection, self._clock.now())
        batches = []
        if ledger.first > self._known:
            batches.append(following.missed(connection, self._known, ledger.first))
        done = [self._unit(ledger, job) for job in jobs]
        batch = ledger.finish()
        if batch.revision > ledger.first:
            batches.append(batch)
        return batches, done

    def _unit(self, ledger: Ledger, job: Job) -> Done:
        before = ledger.writes
        ledger.trace = job.trace
        transaction = Transaction(ledger)
        try:
            if job.epoch is not None:
                transaction.check_epoch(job.epoch)
            result = job.unit(transaction)
            transaction.settle()
            return Done(job, result)
        except Exception as error:
            if ledger.writes == before and not ledger.spoiled and not isinstance(error, SQLAlchemyError):
                return Done(job, error=error)
            raise
        finally:
            transaction.close()

    def _look(self) -> None:
        """Notice commits of other processes."""
        try:
            with self._doors.reader.connect() as connection, connection.begin():
                revision = following.newest(connection)
                if revision <= self._known:
                    return
                batch = following.missed(connection, self._known, revision)
        except SQLAlchemyError as error:
            logger.warning("the database does not answer", error=str(error))
            return
        self._known = revision
        self._send([batch], ())

    def _send(self, batches: Sequence[Batch], done: Sequence[Done]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, batches, done)
        except RuntimeError:
            logger.warning("the event loop is gone, results are dropped", units=len(done))

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        if isinstance(error, SQLAlchemyError):
            error = engines.translated(error, self._doors.url)
        self._send((), [Done(job, error=error) for job in jobs])
