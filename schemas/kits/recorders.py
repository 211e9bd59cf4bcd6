"""A recorder: takes what happened in a microsecond, and puts it into a spool from a thread of its own.

    note ──▶ queue (bounded) ──thread, every quarter of a second──▶ records ──▶ `schemas.kits.spools`

Always: `note` neither waits nor fails; what there is no room for is counted, and told as a record of kind ``gap`` as
soon as there is; while there is none, `full` says so, for those who would rather refuse than act unseen.  Who notes
does so in one thread.  Knows nothing of what is recorded.
"""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from schemas.kits.chains import Json
from schemas.kits.spools import END, GAP, START, Record, Spool, SpoolError

logger = logging.getLogger(__name__)

SPOOL_FULL: Final = "SpoolFull"
UNREADABLE: Final = "NotEncoded"
STOPPED: Final = "Stopped"
WAITING: Final = 20_000
"""How many notes wait for the thread at most."""
INTERVAL_SECONDS: Final = 0.25
"""How long a note waits until it is on the disk, at most, where the disk is quick."""
_AGAIN: Final = 0.9
"""From this share of its limit on a spool that was full has room again."""


class Recorder:
    """The notes of one boot."""

    def __init__(
        self,
        make: Callable[[], Spool],
        encode: Callable[[Any], Record],
        *,
        first: Json,
        limit: int,
        waiting: int = WAITING,
        interval: float = INTERVAL_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``make`` the spool, raising SpoolError if that cannot be yet; ``limit``: its bytes.

        ``first``: what the record says that opens the chain.  ``encode`` runs in the thread.
        """
        self.spool: Spool | None = None
        """Once it could be made."""
        self.full = False
        """Whether what is noted now cannot be kept."""
        self.trouble = ""
        """Why nothing can be written, for people."""
        self._make = make
        self._first = first
        self._encode = encode
        self._limit = limit
        self._most = waiting
        self._interval = interval
        self._now = now
        self._waiting: deque[Any] = deque()
        self._noted = 0
        self._missed = 0
        self._missed_told = 0
        self._since = 0.0
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="modplane-recorder", daemon=True)
        self._counted: memoryview | list[int] = [0]
        """Where each note is counted, for whoever finds the spool of a process that was killed."""

    def start(self) -> None:
        """Write the record that opens the chain, as soon as that can be, and begin."""
        try:
            self._open()
        except SpoolError as error:
            self._failing(str(error))
        self._thread.start()

    def note(self, entry: Any) -> None:
        """Something happened; never waits."""
        self._noted += 1
        self._counted[0] = self._noted
        if self.full:
            if self._missed == self._missed_told:
                self._since = self._now()
            self._missed += 1
            return
        self._waiting.append(entry)
        if len(self._waiting) >= self._most:
            self.full = True
            self._wake.set()

    @property
    def missed(self) -> int:
        """How many notes there was no room for."""
        return self._missed

    def wire(self) -> Json:
        """How it stands, for people and programs."""
        return {
            "noted": self._noted,
            "waiting": len(self._waiting),
            "missed": self._missed,
            "spoolBytes": 0 if self.spool is None else self.spool.bytes,
            "spoolBytesMax": self._limit,
            "full": self.full,
            "reason": self.trouble,
        }

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, and that this is the end; nothing may be noted any more."""
        self._ending = True
        self._wake.set()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            ending = self._ending
            try:
                self._write(ending)
            except SpoolError as error:
                self._failing(str(error))
                ending = ending and not self._waiting
            except Exception:
                logger.exception("recorder failed")
            if ending:
                return

    def _open(self) -> Spool:
        if self.spool is not None:
            return self.spool
        spool = self._make()
        try:
            spool.append([{"kind": START, "at": moment_text(self._now())} | self._first], 0)
        except SpoolError:
            spool.close()
            raise
        self._counted = spool.counter.cell
        self.spool = spool
        return spool

    def _write(self, ending: bool) -> None:
        spool = self._open()
        if self.full and spool.bytes >= self._limit * _AGAIN and not ending:
            return
        due = len(self._waiting)
        while due > 0 or self._missed > self._missed_told or ending:
            last = ending and not self._waiting
            due -= self._flush(spool, last)
            if last:
                return
            if spool.bytes >= self._limit and not ending:
                self._failing(f"{spool.path} has {spool.bytes:,} bytes, as many as it may")
                return
            if due <= 0 and not ending:
                break  # what came meanwhile has its own turn; else groups would be as small as a flush is short
        if self.full:
            logger.info("records are kept again", extra={"spool": str(spool.path)})
        self.full, self.trouble = False, ""

    def _flush(self, spool: Spool, last: bool) -> int:
        """One group of notes; they go only when they are on the disk.  Returns how many they were."""
        entries = [self._waiting[place] for place in range(min(len(self._waiting), 2_000))]
        records, broken = self._records(entries)
        missed = self._missed
        if gone := missed - self._missed_told:
            records.append(self._gap(SPOOL_FULL, gone, self._since))
        if broken:
            records.append(self._gap(UNREADABLE, broken, self._now()))
        if last:
            records.append({"kind": END, "at": moment_text(self._now()), "reason": STOPPED})
        spool.append(records, spool.accounted + len(entries) + gone, closed=last)
        self._missed_told = missed
        for _ in entries:
            self._waiting.popleft()
        return len(entries)

    def _records(self, entries: list[Any]) -> tuple[list[Record], int]:
        records, broken = list[Record](), 0
        for entry in entries:
            try:
                records.append(self._encode(entry))
            except Exception:
                logger.exception("a record cannot be encoded")
                broken += 1
        return records, broken

    def _gap(self, reason: str, count: int, since: float) -> Json:
        now = self._now()
        return {"kind": GAP, "at": moment_text(now), "reason": reason, "count": count, "since": moment_text(since)}

    def _failing(self, trouble: str) -> None:
        if not self.trouble:
            logger.error("records cannot be kept", extra={"reason": trouble})
        self.full, self.trouble = True, trouble


def moment_text(moment: float) -> str:
    """A unix time as RFC 3339, in UTC, to the millisecond; one that no calendar has becomes the first."""
    milli = int(moment * 1000)
    return f"{_second_text(milli // 1000)}.{milli % 1000:03d}Z"


@functools.lru_cache(maxsize=4)
def _second_text(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00"
