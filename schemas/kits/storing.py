"""Notices a NATS server that answers everything and stores nothing: so it is after a full disk, until it is restarted.

Whoever writes says so (`Storing.write`).  When for so long no write to a stream was acknowledged, on one connection
that is otherwise well, that is told: `modplane up` then starts its server again as soon as there is room.  A server
that is slow or frozen is none of this: its connection ends first, and every acknowledgement begins the count anew.
Each stream is counted by itself, since a full disk may have hit one alone; so each process watches what it writes
to.  Used by both planes; goes to their ``app``, which tells the supervisor.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Final

from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkAmbiguousError, NatsLink

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 10.0
"""How long writes go without any answer before that is told: two of their deadlines."""


class Storing:
    """Whether what is written is stored."""

    def __init__(self, link: NatsLink, clock: Clock, unstored: Callable[[str], None]) -> None:
        """``unstored`` hears why, each time that the patience is over."""
        self._link = link
        self._clock = clock
        self._unstored = unstored
        self._since: dict[str, tuple[int, float]] = {}
        """By stream: on which connection, and since when, nothing was acknowledged."""

    @contextlib.contextmanager
    def write(self, stream: str) -> Iterator[None]:
        """One write to a stream, which may fail in any way."""
        session, began = self._link.generation, self._clock.monotonic()
        try:
            yield
        except LinkAmbiguousError:
            self._unanswered(stream, session, began)
            raise
        self._since.pop(stream, None)

    def _unanswered(self, stream: str, session: int, began: float) -> None:
        known = self._since.get(stream)
        if known is None or known[0] != session:
            known = self._since[stream] = (session, began)
        silent = self._clock.monotonic() - known[1]
        if silent < PATIENCE_SECONDS or not self._link.connected or self._link.generation != session:
            return
        del self._since[stream]
        logger.error(
            "NATS answers but stores nothing, give its disk room and start it again",
            extra={"stream": stream, "seconds": round(silent, 1)},
        )
        self._unstored(f"no write to {stream} was acknowledged for {silent:.0f} s")
