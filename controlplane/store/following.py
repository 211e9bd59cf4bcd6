"""The store's changes as a stream: first what the log holds, then each commit, with no gap and no repeat.

A feed hears of every batch from the moment it is made; a follower reads the log up to a snapshot and then drops
from its feed what the snapshot held already.  A feed that overflows, because its reader is slow, is emptied, and
the follower goes back to the log.  Used by `controlplane.store.stores` for ``follow``, and by
`controlplane.store.writers` to learn what other processes committed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import Final

from sqlalchemy import Connection, bindparam, select

from controlplane import errors
from controlplane.store import encoding, executing
from controlplane.store.readings import Reading
from controlplane.store.records import Batch, Change
from controlplane.store.tables import CHANGES, DESIRED, META, OUTBOX

PAGE: Final = 500
"""How many changes are read from the log at once."""

CAPACITY: Final = 5_000
"""How many changes wait for one slow follower before it has to go back to the log."""

_REVISION: Final = select(META.c.revision)
_CHANGES: Final = (
    select(*encoding.CHANGE_COLUMNS)
    .where(CHANGES.c.revision > bindparam("after"), CHANGES.c.revision <= bindparam("upto"))
    .order_by(CHANGES.c.revision)
)
_OUTBOX: Final = (
    select(*encoding.OUTBOX_COLUMNS)
    .where(OUTBOX.c.id > bindparam("after"), OUTBOX.c.id <= bindparam("upto"))
    .order_by(OUTBOX.c.id)
)
_DESIRED: Final = (
    select(*encoding.DESIRED_COLUMNS)
    .where(DESIRED.c.revision > bindparam("after"), DESIRED.c.revision <= bindparam("upto"))
    .order_by(DESIRED.c.revision)
)


def newest(connection: Connection) -> int:
    """The newest revision that a connection sees."""
    return int(executing.rows(connection, _REVISION, {})[0][0])


def missed(connection: Connection, after: int, upto: int) -> Batch:
    """What other processes committed between two revisions, as one batch."""
    span = {"after": after, "upto": upto}
    return Batch(
        upto,
        tuple(encoding.change(row) for row in executing.rows(connection, _CHANGES, span)),
        tuple(encoding.outbox_row(row) for row in executing.rows(connection, _OUTBOX, span)),
        tuple(encoding.desired_row(row) for row in executing.rows(connection, _DESIRED, span)),
    )


class Feed:
    """Batches on their way to one follower; on the event loop only."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._waiting = 0
        self._overflowed = False
        self._closed = False
        self._wake = asyncio.Event()

    def push(self, batch: Batch) -> None:
        """Add a commit."""
        self._batches.append(batch)
        self._waiting += max(1, len(batch.changes))
        if self._waiting > CAPACITY:
            self._batches.clear()
            self._waiting = 0
            self._overflowed = True
        self._wake.set()

    def close(self) -> None:
        """Let the follower end."""
        self._closed = True
        self._wake.set()

    async def next(self) -> Batch | None:
        """The next commit; None: some were dropped, read the log.  errors.StoreClosed."""
        while not (self._batches or self._overflowed):
            if self._closed:
                raise errors.StoreClosed
            self._wake.clear()
            await self._wake.wait()
        if self._overflowed:
            self._overflowed = False
            return None
        batch = self._batches.popleft()
        self._waiting -= max(1, len(batch.changes))
        return batch


Read = Callable[[Callable[[Reading], tuple[list[Change], int]]], Awaitable[tuple[list[Change], int]]]


async def follow(
    read: Read, feed: Feed, kinds: Collection[str] | None, after: int
) -> AsyncGenerator[list[Change], None]:
    """Changes of ``kinds`` after a revision, for ever, in revision order.

    errors.Compacted: the log does not hold them all, or ``after`` is ahead of this database (a restored backup).
    """
    wanted = None if kinds is None else frozenset(kinds)
    position = after
    while True:
        page, top = await read(lambda reading: (reading.changes(position, wanted, PAGE), reading.revision))  # noqa: B023
        if position > top:
            raise errors.Compacted(top)
        if page:
            yield page
            position = page[-1].revision
        if len(page) == PAGE:
            continue
        position = max(position, top)
        while (batch := await feed.next()) is not None:
            changes = [
                change
                for change in batch.changes
                if change.revision > position and (wanted is None or change.kind in wanted)
            ]
            position = max(position, batch.revision)
            if changes:
                yield changes
