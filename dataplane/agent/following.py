"""Follows the desired bucket: snapshot and tail, checked against head and beat.

A quiet watch is not trusted.  The leader's beat says every two seconds what the set is; when three are missed, or what
is held differs from it for two seconds in which nothing newer is proven, or it names a bucket made anew, then the
connection itself is dropped and everything begins again with a snapshot.  While nobody beats (the control plane is
away) the patience doubles.

What arrives is only queued; everything is decided in `Follower.run`, on the agent's loop, and the serving loop gets
its turn after each document.  Comes from NATS through `schemas.kits.buckets`, which counts every message; goes to
`dataplane.agent.holding`.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from dataplane.agent import holding
from dataplane.agent.holding import Standing
from dataplane.runtime import turns
from schemas import names
from schemas.documents import Beat
from schemas.kits import buckets, hearing
from schemas.kits.backoffs import Backoff, jittered
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session

logger = structlog.get_logger("dataplane.agent.following")

_QUIETEST: Final = 60.0
"""However long nobody beats, a new snapshot is taken after so many seconds."""


class Follower:
    """One worker's watch over the desired bucket."""

    def __init__(
        self,
        link: NatsLink,
        held: holding.Held,
        clock: Clock,
        *,
        changed: Callable[[], None],
        arrived: Callable[[buckets.Entry], None] = lambda entry: None,
        beat_seconds: float = 2.0,
        source: random.Random | None = None,
    ) -> None:
        """``changed`` is called after anything was read that may matter, ``arrived`` with each entry before that."""
        self._link = link
        self._held = held
        self._clock = clock
        self._changed = changed
        self._arrived = arrived
        self._beat_seconds = beat_seconds
        self._random = source or random.Random()  # noqa: S311 - jitter, no secret
        self._backoff = Backoff(base=0.1, cap=2.0, source=self._random)
        self._inbox: deque[buckets.Entry | None] = deque()
        self._beats: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._beat: Beat | None = None
        self._created = ""
        self._sequence = 0
        self._beat_at = 0.0
        self._doubt_since: float | None = None
        self._proven = held.proof
        self._patience = 3 * beat_seconds
        self._lenience = beat_seconds
        self.standing = Standing.UNPROVEN
        """How the bucket stands to what is held."""
        self.synced = False
        """Whether a whole snapshot was proven in this boot."""
        self.foreign = False
        """Whether the bucket was last seen to belong to another store."""
        self.doubted = False
        """Whether what is held has differed from the beat, or from the head, for longer than two beats."""
        self.snapshots = 0
        """How many snapshots were begun."""

    @property
    def beat_age(self) -> float | None:
        """Seconds since the last beat was heard; None: never."""
        return self._clock.monotonic() - self._beat_at if self._beat is not None else None

    @property
    def midway(self) -> bool:
        """Whether documents have come whose head is still to come: news is only a moment away."""
        return self.synced and self.standing in (Standing.UNPROVEN, Standing.OLDER) and not self.doubted

    async def run(self) -> None:
        """Follow, session after session, until cancelled."""
        failures = 0
        while True:
            session = await self._link.session()
            try:
                await self._follow(session)
                failures = 0
            except (NatsError, LinkError, buckets.GapError, OSError) as error:
                failures += 1
                logger.info("watch of the desired bucket ended", reason=f"{type(error).__name__}: {error}")
            await self._clock.sleep(self._backoff.delay(max(failures, 1)))

    async def _follow(self, session: Session) -> None:
        """From a snapshot on, until the watch breaks, the session ends, or what is held is doubted."""
        self._inbox.clear()
        self._beats.clear()
        self._beat, self._created, self._doubt_since, self._sequence = None, "", None, 0
        self._beat_at = self._clock.monotonic()
        self._held.begin()
        self.snapshots += 1
        async with hearing.subscribed(session, names.SUBJECT_BEAT, self._beaten):
            pump = asyncio.create_task(self._pump(session), name="watch the desired bucket")
            try:
                while not pump.done():
                    self._take_in()
                    reason = self._doubt()
                    if reason is not None:
                        logger.warning("desired state read anew", reason=reason)
                        self._link.abandon(reason, session.generation)
                        return
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._beat_seconds / 8):
                            await self._news.wait()
                pump.result()
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, session: Session) -> None:
        async with contextlib.aclosing(buckets.follow(session, names.BUCKET_DESIRED)) as entries:
            async for entry in entries:
                self._inbox.append(entry)
                self._news.set()

    async def _beaten(self, message: Msg) -> None:
        self._beats.append(message.data)
        self._news.set()

    def _take_in(self) -> None:
        read = bool(self._inbox or self._beats)
        while self._inbox:
            entry = self._inbox.popleft()
            if entry is None:
                self._settle(self._held.finish())
                continue
            self._sequence = entry.sequence
            self._arrived(entry)
            value = entry.value if entry.operation is buckets.Operation.PUT else None
            self._settle(self._held.read(entry.key, value))
            if self._inbox:
                turns.rest()
        while self._beats:
            self._hear(self._beats.popleft())
        if read:
            self._changed()

    def _settle(self, standing: Standing) -> None:
        self.standing = standing
        self.synced = self.synced or standing is Standing.PROVEN
        if standing is not Standing.UNPROVEN:
            self.foreign = standing is Standing.FOREIGN

    def _hear(self, data: bytes) -> None:
        try:
            beat = Beat.model_validate_json(data)
        except ValidationError:
            logger.warning("beat not readable")
            return
        if not self._held.trusts(beat):
            return
        self._beat, self._beat_at = beat, self._clock.monotonic()
        self._patience = 3 * self._beat_seconds
        self._created = self._created or beat.created
        self._held.hear(beat)

    def _doubt(self) -> str | None:
        """Why to begin anew, or None; called often."""
        now = self._clock.monotonic()
        if now - self._beat_at > self._patience:
            self._patience = min(jittered(2 * self._patience, 0.2, self._random), _QUIETEST)
            return "three beats missed"
        if self._beat is not None and self._beat.created != self._created:
            return "the bucket was made anew"
        moves = self._moves()
        if moves or self._agrees():
            self._doubt_since, self._lenience = None, self._beat_seconds
            if self.doubted:
                self.doubted = False
                self._changed()
            return None
        if self._doubt_since is None:
            self._doubt_since = now
        if now - self._doubt_since <= self._beat_seconds:
            return None
        if not self.doubted:
            self.doubted = True
            self._changed()
        if now - self._doubt_since <= self._lenience:
            return None
        # a doubt that the next snapshot does not settle is no fault of the watch: look less and less often
        self._lenience = min(jittered(2 * self._lenience, 0.2, self._random), _QUIETEST)
        return f"what is held differs from what the leader says ({self.standing.value})"

    def _moves(self) -> bool:
        """Whether a newer set was proven since this was asked last.

        Then the watch works, and a beat that says otherwise is of before: in a stream of changes it always is.
        """
        before, self._proven = self._proven, self._held.proof
        return self._proven != before

    def _agrees(self) -> bool:
        if self.standing is not Standing.PROVEN or self._beat is None:
            return self.standing is Standing.PROVEN
        # a sequence that went back is a bucket that was restored or made anew, whatever it holds
        rewound = 0 < self._beat.sequence < self._sequence
        return self._held.agrees(self._beat) and not rewound
