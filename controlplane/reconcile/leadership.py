"""Who may reconcile: one leader at a time, under an epoch that every one of its writes is checked against.

    watch the lease → take it (epoch + 1) when it is released, unclaimed, or silent for 6 s on *our* clock,
    or at once when its holder's lock is free → renew every second → give up 4 s after the last renewal

What always holds: nobody compares wall clocks or trusts another machine's; a leader gives up before anybody else
may take over; a renewal counts from before it was sent; giving up resigns and never ends the process; the lease is
released last, when nothing of the leader's runs any more.

`step` is the pure core; `Leadership` runs it against the store.  Called by `controlplane.app`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random

import structlog

from controlplane import errors
from controlplane.reconcile import locks
from controlplane.store.records import Lease
from controlplane.store.stores import Store
from controlplane.store.transactions import Transaction
from schemas.kits.backoffs import jittered
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.reconcile.leadership")

LEASE_SECONDS = 6.0
"""Silence of a lease after which others may take it."""
RENEW_DEADLINE = 4.0
"""Seconds since the last renewal after which its holder gives up."""
RETRY_SECONDS = 1.0
"""Seconds between looks at the lease, ± 20 %."""
_LOCKED = "/locked"
"""Ends the holder's name when it leads with the lock: only then does a free lock prove it dead."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one candidate knows: pure data, on its own monotonic clock."""

    identity: str
    seen: Lease | None = None
    seen_at: float = 0.0
    """When ``seen`` was first seen as it is."""
    epoch: int | None = None
    """Under which epoch this candidate leads; None: it does not."""
    renewed_at: float = 0.0

    @property
    def leads(self) -> bool:
        """Whether this candidate leads."""
        return self.epoch is not None

    def expires_in(self, now: float) -> float:
        """Seconds until a leader has to give up."""
        return self.renewed_at + RENEW_DEADLINE - now


def step(standing: Standing, row: Lease | None, now: float, *, locked: bool) -> tuple[Standing, Lease | None]:
    """What a candidate makes of the lease as it stands: its new standing, and the lease to write or None.

    ``now`` is from before the row was read.  The new standing holds only if the write gets through.
    """
    standing = _observed(standing, row, now)
    if standing.leads:
        return _renewal(standing, row, now, locked=locked)
    if not _is_free(standing, row, now, locked=locked):
        return standing, None
    lease = Lease(_name(standing.identity, locked), 1 if row is None else row.epoch + 1, 1)
    return replace(standing, seen=lease, seen_at=now, epoch=lease.epoch, renewed_at=now), lease


def resigned(standing: Standing, now: float) -> Standing:
    """The standing of one that leads no more; the lease counts as seen just now, so it waits its turn."""
    return replace(standing, epoch=None, seen_at=now)


def _observed(standing: Standing, row: Lease | None, now: float) -> Standing:
    return standing if row == standing.seen else replace(standing, seen=row, seen_at=now)


def _renewal(standing: Standing, row: Lease | None, now: float, *, locked: bool) -> tuple[Standing, Lease | None]:
    ours = row is not None and _identity(row.holder) == standing.identity and not row.released
    if row is None or not ours or standing.expires_in(now) <= 0:
        return resigned(standing, now), None
    lease = Lease(_name(standing.identity, locked), row.epoch, row.beat + 1)
    # Messaging may have raised the epoch under our name, over a bucket that had seen more than the database.
    return replace(standing, seen=lease, seen_at=now, epoch=row.epoch, renewed_at=now), lease


def _is_free(standing: Standing, row: Lease | None, now: float, *, locked: bool) -> bool:
    if row is None or row.released:
        return True
    if locked and row.holder.endswith(_LOCKED):
        return True
    return now - standing.seen_at >= LEASE_SECONDS


def _name(identity: str, locked: bool) -> str:
    return identity + _LOCKED if locked else identity


def _identity(holder: str) -> str:
    return holder.removesuffix(_LOCKED)


class Leadership:
    """Stands for election until cancelled, and tells when it is won and lost."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        identity: str,
        lock: locks.LeaderLock | None = None,
        rng: Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lock = lock or locks.NoLock()
        self._rng = rng or Random()  # noqa: S311 - spreads load, keeps no secret
        self._standing = Standing(identity)
        self._gaining: asyncio.Task[None] | None = None
        self._held: int | None = None
        self._failed = False
        """Whether the engines did not start: then somebody else shall lead."""

    @property
    def epoch(self) -> int:
        """Under which epoch this process leads; 0, which no write passes, when it does not."""
        return self._held or 0

    @property
    def leads(self) -> bool:
        """Whether this process leads."""
        return self._held is not None

    @property
    def remaining(self) -> float:
        """Seconds until our lease ends; 0: we have none."""
        return max(self._standing.expires_in(self._clock.monotonic()), 0.0) if self.leads else 0.0

    async def run(self, on_gain: Callable[[int], Awaitable[None]], on_loss: Callable[[], Awaitable[None]]) -> None:
        """Stand until cancelled: ``on_gain(epoch)`` starts the engines, ``on_loss()`` ends them.

        Renewals go on while ``on_gain`` runs; a loss cancels it first.  After a cancellation the engines are ended
        by `release`'s caller.
        """
        try:
            while True:
                await self._round()
                if self._standing.leads and self._held is None:
                    self._gain(on_gain)
                elif not self._standing.leads and self._held is not None:
                    await self._lose(on_loss)
                self._held = self._standing.epoch
                await self._clock.sleep(self._pause())
        finally:
            await self._stop_gaining()

    async def release(self) -> None:
        """Hand the lease back, last of all at a shutdown; whoever waits takes it at once."""
        standing, self._held = self._standing, None
        self._standing = resigned(standing, self._clock.monotonic())

        def hand_back(tx: Transaction) -> None:
            row = tx.lease()
            if row is not None and _identity(row.holder) == standing.identity and row.epoch == standing.epoch:
                tx.put_lease(replace(row, released=True))

        try:
            if standing.leads:
                async with asyncio.timeout(RENEW_DEADLINE):
                    await self._store.write(hand_back)
        except (errors.ModplaneError, TimeoutError) as problem:
            logger.warning("lease not handed back", error=str(problem))
        finally:
            await self._lock.release()

    async def _round(self) -> None:
        """One look at the lease; afterwards the standing says where we are."""
        now = self._clock.monotonic()
        before = self._standing
        patience = before.expires_in(now) if before.leads else RENEW_DEADLINE
        try:
            if patience <= 0:
                raise TimeoutError
            async with asyncio.timeout(patience):
                locked = await self._lock.acquire()
                self._standing = await self._stepped(before, now, locked=locked)
        except (errors.ModplaneError, TimeoutError) as problem:
            if before.leads and before.expires_in(self._clock.monotonic()) <= 0:
                self._standing = resigned(before, self._clock.monotonic())
            logger.warning("lease not reached", error=str(problem) or "no answer in time", leads=self._standing.leads)
        failed, self._failed = self._failed, False
        if self._standing.leads and (failed or self._standing.expires_in(self._clock.monotonic()) <= 0):
            self._standing = resigned(self._standing, self._clock.monotonic())
        if not self._standing.leads and before.leads:
            # Without it the lock would prove nothing to others, and hold them up.
            await self._lock.release()

    async def _stepped(self, before: Standing, now: float, *, locked: bool) -> Standing:
        row = await self._store.read(lambda reading: reading.lease())
        standing, lease = step(before, row, now, locked=locked)
        if lease is None:
            return standing

        def compare_and_swap(tx: Transaction) -> tuple[bool, Lease | None]:
            found = tx.lease()
            if found == row:
                tx.put_lease(lease)
                return True, lease
            return False, found

        done, found = await self._store.write(compare_and_swap)
        if done:
            return standing
        if before.leads:
            # Somebody wrote in between: the next step says whether it was a raise of our own epoch or a successor.
            after, _ = step(before, found, now, locked=locked)
            return replace(before, seen=found, epoch=after.epoch) if after.leads else after
        return _observed(before, found, now)

    def _gain(self, on_gain: Callable[[int], Awaitable[None]]) -> None:
        epoch = self._standing.epoch
        assert epoch is not None
        self._held = epoch
        logger.info("leadership gained", holder=self._standing.identity, epoch=epoch)
        self._gaining = asyncio.get_running_loop().create_task(self._run_gain(on_gain, epoch))

    async def _run_gain(self, on_gain: Callable[[int], Awaitable[None]], epoch: int) -> None:
        try:
            await on_gain(epoch)
        except Exception:
            logger.exception("engines did not start", epoch=epoch)
            self._failed = True

    async def _lose(self, on_loss: Callable[[], Awaitable[None]]) -> None:
        logger.warning("leadership lost", holder=self._standing.identity, epoch=self._held)
        self._held = None
        await self._stop_gaining()
        try:
            await on_loss()
        except Exception:
            logger.exception("engines did not end cleanly")

    async def _stop_gaining(self) -> None:
        task, self._gaining = self._gaining, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})  # and not the task itself: its cancellation would hide our own

    def _pause(self) -> float:
        wait = jittered(RETRY_SECONDS, 0.2, self._rng)
        return max(min(wait, self._standing.expires_in(self._clock.monotonic())), 0.0) if self._standing.leads else wait
