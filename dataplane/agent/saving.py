"""What is on disk, and so may be acknowledged: saves each newly proven set before the worker reports it.

A new proof is saved at once, one transaction for everything that came meanwhile; what serves in place of the newest
is only tidied up, a little later.  When the disk refuses, the file keeps what it held, the worker serves on, says why,
acknowledges nothing new, and tries again with back-off.

Blocking work runs in a thread of the agent's own, so that a disk that hangs holds up neither requests nor reports.
Driven by `dataplane.agent.living`; goes to `dataplane.agent.keeping`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog

from dataplane.agent import keeping
from dataplane.agent.holding import MODULE, Proof
from dataplane.agent.keeping import Place, Slot
from dataplane.errors import LastGoodRefused, SaveFailed
from schemas.documents import DesiredDocument
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.reports import LastGood, LastGoodState, Pending

logger = structlog.get_logger("dataplane.agent.saving")

T = TypeVar("T")

TIDY_SECONDS: Final = 0.5
"""How long a change waits that acknowledges nothing new."""
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    failures: int
    since: datetime
    next_retry: datetime


class Saver:
    """Keeps one worker's last good state."""

    def __init__(
        self,
        file: keeping.File,
        clock: Clock,
        *,
        changed: Callable[[], None],
        backoff: Backoff | None = None,
        tidy_seconds: float = TIDY_SECONDS,
    ) -> None:
        """``changed`` is called when something was saved, or could not be."""
        self.proof = Proof()
        """What is on disk."""
        self._file = file
        self._clock = clock
        self._changed = changed
        self._backoff = backoff or Backoff(base=1.0, cap=30.0)
        self._tidy_seconds = tidy_seconds
        self._wanted = Proof()
        self._changes: dict[Slot, DesiredDocument | None] = {}
        self._unsaved: dict[str, DesiredDocument] = {}
        self._saved: dict[str, DesiredDocument] = {}
        """The newest documents on disk; as objects, shared with the held set."""
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: _Failure | None = None
        self._saved_at: datetime | None = None
        self._restored = False
        self._refusal = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modplane-keeper")

    @property
    def busy(self) -> bool:
        """Whether a proof is on its way to disk: news for the control plane is only a moment away."""
        return self._wanted != self.proof and self._failure is None

    @property
    def failing(self) -> str:
        """Why the last save failed; empty when it did not."""
        return "" if self._failure is None else self._failure.message

    @property
    def last_good(self) -> LastGood:
        """How the file stands."""
        if self._failure is not None:
            state = LastGoodState.FAILING
        elif self._saved_at is not None:
            state = LastGoodState.SAVED
        else:
            state = LastGoodState.REFUSED if self._refusal else LastGoodState.NONE
        return LastGood(
            state=state,
            restored=self._restored,
            epoch=self.proof.order[0],
            revision=self.proof.order[1],
            saved_at=self._saved_at,
            message=self.failing or self._refusal,
        )

    def pending(self) -> list[Pending]:
        """The modules that are not acknowledged because they cannot be saved."""
        failure = self._failure
        if failure is None:
            return []
        return [
            Pending(
                module=document.name,
                generation=document.generation,
                since=failure.since,
                next_retry=failure.next_retry,
                reason="NotSaved",
                message=failure.message,
            )
            for document in self._unsaved.values()
        ]

    async def restore(self) -> keeping.Kept | None:
        """What the last boot left; None, with the reason in `last_good`, if that is nothing or not to be believed."""
        try:
            kept = await self._over(self._file.load)
        except LastGoodRefused as error:
            logger.error("last good state refused", reason=error.reason, error=error.message)
            self._refusal = f"{error.message}; this worker waits for NATS"
            return None
        except Exception as error:
            logger.exception("last good state not read")
            self._refusal = f"the last good state cannot be read: {type(error).__name__}: {error}"
            return None
        if kept is not None:
            self.proof = self._wanted = kept.proof
            self._saved_at, self._restored = kept.saved_at, True
            self._saved = {key: document for key, (document, _) in kept.entries.items()}
            logger.info(
                "last good state restored", documents=len(kept.entries), epoch=kept.proof.order[0],
                revision=kept.proof.order[1], saved_at=kept.saved_at.isoformat(),
            )  # fmt: skip
        return kept

    def offer(self, proof: Proof, changes: Mapping[Slot, DesiredDocument | None]) -> None:
        """From now on this is to be on disk; nothing is before a first set was proven."""
        for slot, document in changes.items():
            self._changes[slot] = document
            if slot[1] is Place.NEWEST:
                self._unsaved.pop(slot[0], None)
                if document is None:
                    self._saved.pop(slot[0], None)
                elif document.kind == MODULE and self._saved.get(slot[0]) is not document:
                    self._unsaved[slot[0]] = document
        self._wanted = proof
        if not proof.store:
            return
        if proof != self.proof:
            self._hurry.set()
        if changes or proof != self.proof:
            self._news.set()

    async def run(self) -> None:
        """Save what is offered until cancelled."""
        while True:
            await self._news.wait()
            if not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._tidy_seconds):
                        await self._hurry.wait()
            self._news.clear()
            self._hurry.clear()
            await self._save()
            if self._failure is not None:
                await self._clock.sleep((self._failure.next_retry - self._clock.now()).total_seconds())
                self._news.set()
                self._hurry.set()

    async def close(self) -> None:
        """Save what is still to be saved, once, and end."""
        if self._wanted.store:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._save()
        self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)

    async def _save(self) -> None:
        proof, changes, unsaved = self._wanted, self._changes, dict(self._unsaved)
        self._changes = {}
        now = self._clock.now()
        try:
            await self._over(self._file.save, proof, changes, now)
        except SaveFailed as error:
            self._fail(error.message)
        except Exception as error:
            logger.exception("last good state not saved")
            self._fail(f"the last good state cannot be written: {type(error).__name__}: {error}")
        else:
            self._failure = None
            if proof != self.proof:
                self.proof, self._saved_at, self._refusal = proof, now, ""
            for key, document in unsaved.items():
                if self._unsaved.get(key) is document:
                    self._saved[key] = self._unsaved.pop(key)
        self._changed()

    def _fail(self, message: str) -> None:
        before, now = self._failure, self._clock.now()
        failures = 1 if before is None else before.failures + 1
        delay = self._backoff.delay(failures)
        if before is None:
            logger.error("last good state not saved", error=message, retry_in=round(delay, 3))
        self._failure = _Failure(
            f"{message}; nothing new is acknowledged until it can be: free space, or repair the disk or its rights",
            failures,
            now if before is None else before.since,
            now + timedelta(seconds=delay),
        )

    async def _over(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
