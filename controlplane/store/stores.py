"""The store: what every other room holds in its hand.

Writes go to the one writer thread as units, reads run on a few threads on snapshots of their own; nothing here
blocks the event loop.  After a commit its batch goes to listeners and followers, in revision order, before the
unit's caller goes on.  Made by `open_store`; ended by ``close``.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from controlplane import errors
from controlplane.store import engines, following, opening, writers
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, Change
from controlplane.store.transactions import Transaction
from controlplane.telemetry import tracing
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.store.stores")

T = TypeVar("T")

CHECKPOINT: Final = 2.0
"""Seconds after a commit until the log is brought into the database file, beside what is written then."""


async def open_store(url: str, *, clock: Clock, data_dir: Path | None = None) -> "Store":
    """Open a database, check it, bring its schema up to date.

    ``data_dir`` is made if it is not there.  errors.StoreUnusable: with what to do about it.
    """
    opened = await asyncio.to_thread(opening.open_database, url, data_dir)
    return Store(opened, clock)


class Store:
    """One database; belongs to the event loop on which it was opened."""

    def __init__(self, opened: opening.Opened, clock: Clock) -> None:
        self.id = opened.store_id
        """Identifies this database for ever, also in its copies."""
        self.revision = opened.revision
        """The newest committed revision that this process has seen."""
        self.clock = clock
        self._doors = opened.doors
        self._loop = asyncio.get_running_loop()
        self._writer = writers.Writer(opened.doors, clock, opened.revision, self._loop, self._deliver)
        self._readers = ThreadPoolExecutor(engines.READERS, thread_name_prefix="store-reader")
        self._listeners: dict[object, Callable[[Batch], None]] = {}
        self._feeds: set[following.Feed] = set()
        self._checkpoint: asyncio.TimerHandle | None = None
        self._closed = False
        self._writer.start()

    @property
    def url(self) -> str:
        """Where the database is, without its password."""
        return self._doors.url.render_as_string(hide_password=True)

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits

    async def write(self, unit: Callable[[Transaction], T], *, epoch: int | None = None) -> T:
        """Run a unit and return its result once it is committed and on disk.

        ``unit`` is short, synchronous, and does nothing but use the transaction: it runs on the writer thread,
        perhaps twice.  With ``epoch`` it runs only while the lease stands at that epoch, else errors.Fenced.  A
        caller that is cancelled leaves it open whether the unit ran.
        """
        if self._closed:
            raise errors.StoreClosed
        future: asyncio.Future[T] = self._loop.create_future()
        with tracing.span("store write") as at:
            self._writer.submit(writers.Job(unit, epoch, future, "" if at is None else str(at)))
            return await future

    async def read(self, query: Callable[[Reading], T]) -> T:
        """Run a query on a snapshot that holds at least every write whose caller has gone on."""
        if self._closed:
            raise errors.StoreClosed
        return await self._loop.run_in_executor(self._readers, self._query, query)

    def listen(self, callback: Callable[[Batch], None]) -> Callable[[], None]:
        """Call ``callback`` on the event loop after each commit that took a revision; returns how to stop that."""
        token = object()
        self._listeners[token] = callback

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    async def follow(self, *, kinds: Collection[str] | None = None, after: int) -> AsyncGenerator[list[Change], None]:
        """Changes after a revision: the log, then each commit; in order, no gap, no repeat.

        errors.Compacted: list anew, and follow from there.  errors.StoreClosed at the end of the store.
        """
        if self._closed:
            raise errors.StoreClosed
        feed = following.Feed()
        self._feeds.add(feed)
        try:
            async with aclosing(following.follow(self.read, feed, kinds, after)) as changes:
                async for page in changes:
                    yield page
        finally:
            self._feeds.discard(feed)

    async def close(self) -> None:
        """Finish the writes that were asked for, end followers, let the database go."""
        if self._closed:
            return
        self._closed = True
        if self._checkpoint is not None:
            self._checkpoint.cancel()
        await asyncio.to_thread(self._writer.stop)
        await asyncio.to_thread(self._readers.shutdown)
        for feed in list(self._feeds):
            feed.close()
        await asyncio.to_thread(self._doors.dispose)

    def _query(self, query: Callable[[Reading], T]) -> T:
        try:
            with self._doors.reader.connect() as connection, connection.begin():
                reading = Reading(connection)
                try:
                    return query(reading)
                finally:
                    reading.close()
        except SQLAlchemyError as error:
            raise engines.translated(error, self._doors.url) from error

    def _tidy(self) -> None:
        self._checkpoint = None
        if not self._closed:
            self._readers.submit(self._tidied)

    def _tidied(self) -> None:
        try:
            self._doors.checkpoint()
        except (sqlite3.Error, SQLAlchemyError) as error:
            logger.warning("the log of the database could not be checkpointed yet", error=str(error))

    def _deliver(self, batches: Sequence[Batch], done: Sequence[writers.Done]) -> None:
        if self._checkpoint is None and not self._closed:
            self._checkpoint = self._loop.call_later(CHECKPOINT, self._tidy)
        for batch in batches:
            self.revision = max(self.revision, batch.revision)
            for feed in self._feeds:
                feed.push(batch)
            for callback in list(self._listeners.values()):
                try:
                    callback(batch)
                except Exception:
                    logger.exception("a listener failed", revision=batch.revision)
        for entry in done:
            future = entry.job.future
            if future.done():
                continue
            if entry.error is None:
                future.set_result(entry.result)
            else:
                future.set_exception(entry.error)
