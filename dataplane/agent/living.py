"""What lives on the agent's loop: one boot of a worker, from what the last one left to the last report.

It restores what the last boot left (`saving`), and only then dials NATS: it follows (`following`), believes
(`holding`), applies (`applying`), keeps (`saving`) and reports (`reporting`), and measures the serving loop while it
does.  What it reports as applied is on disk.  Made, started and ended by `dataplane.agent.agents`.
"""

import asyncio
import contextlib
import resource
from collections.abc import Callable
from pathlib import Path

import structlog

from dataplane.agent import (
    applying,
    carrying,
    checking,
    counting,
    crossing,
    following,
    holding,
    keeping,
    loading,
    reporting,
    saving,
    standings,
    states,
    striking,
    suspecting,
    telling,
    tracking,
)
from dataplane.agent.keeping import Place, Slot
from dataplane.gateway import tenants, watching
from dataplane.runtime import hosts
from dataplane.telemetry.lines import Lines
from schemas import names
from schemas.documents import DesiredDocument
from schemas.kits.clocks import Clock
from schemas.kits.natslink import NatsLink
from schemas.kits.signatures import TrustedKeys
from schemas.kits.storing import Storing
from schemas.kits.tasks import Tasks
from schemas.kits.tracing import Tracer
from schemas.reports import Pending, Rejected, WorkerReport, WorkerState

logger = structlog.get_logger("dataplane.agent.living")

STRAGGLER_SECONDS = 5.0
"""The worker opens its door even if modules are not loaded yet, when none was within so many seconds."""
MEETING_SECONDS = 2.0
"""With a last good state loaded, how long a NATS that is neither there nor plainly away keeps the door shut."""
_MEETING_STEP = 0.02
_LAG_SECONDS = 1.0
_LATE_SECONDS = 0.25


class Life:
    """What lives on the agent's loop."""

    def __init__(
        self,
        identity: states.Identity,
        gateway: crossing.Crossing,
        link: NatsLink,
        loader: loading.Loader,
        file: keeping.File,
        clock: Clock,
        suspects: suspecting.Suspects,
        strikes: striking.Strikes,
        trusted: TrustedKeys,
        *,
        reveal: tenants.Reveal,
        tracer: Tracer,
        written: Lines,
        storage: Storing,
        publish: Callable[[states.Facts], None],
        audit: carrying.Source | None,
        beat_seconds: float,
        report_seconds: float,
    ) -> None:
        self._identity = identity
        self._gateway = gateway
        self._link = link
        self._clock = clock
        self._publish = publish
        self._held = holding.Held(trusted)
        self._tasks = Tasks(clock)
        self._tracks = tracking.Tracks(link, self._tasks, tracer, worker=identity.id, boot=identity.boot)
        self._telling = telling.Telling(link, clock, written, self._tasks, worker=identity.id, boot=identity.boot)
        self._follower = following.Follower(
            link, self._held, clock, changed=self._read, arrived=self._tracks.arrived, beat_seconds=beat_seconds
        )
        self._applier = applying.Applier(
            gateway,
            loader,
            clock,
            host_version=hosts.host_version(),
            labels=identity.labels,
            changed=self._changed,
            suspects=suspects,
            strikes=strikes,
            tracks=self._tracks,
        )
        self._checker = checking.Checker(gateway, self._applier.rebuild, clock, changed=self._saved)
        self._standings = standings.Standings(gateway.stand, clock, changed=self._saved, reveal=reveal)
        self._saver = saving.Saver(file, clock, changed=self._saved)
        self._acknowledged = holding.Proof()
        self._reporter = reporting.Reporter(
            link, clock, self._report, storage, interval=report_seconds, told=self._told
        )
        self._teller = counting.Teller(
            link,
            clock,
            gateway,
            storage,
            worker=identity.id,
            boot=identity.boot,
            file=file.path.with_name(f"{identity.id}.metrics.jsonl"),
        )
        self._carrier = None if audit is None else carrying.Carrier(link, clock, audit, storage)
        self._file = file
        self._news = asyncio.Event()
        self._first_read = asyncio.Event()
        self._loaded = False
        self._synced = False
        self._leaving = False
        self._lag = 0.0
        self._blocks = 0
        self._last_report: WorkerReport | None = None
        self._state = (WorkerState.NEVER_LOADED, clock.now())

    def start(self, opened: Callable[[], None]) -> None:
        """Begin everything; ``opened`` is called once a first set is applied."""
        self._tasks.supervise(self._watch_serving_loop, "watch the serving loop")
        self._tasks.start(self._begin(opened), "begin")

    def blocked(self, block: watching.Block) -> None:
        """Somebody held the serving loop."""
        self._blocks += 1
        self._tasks.start(self._applier.blocked(block.module, block.uid, block.digest, block.place), "count a block")
        self._changed()

    async def stop(self) -> None:
        """Say goodbye and end."""
        await self._tasks.stop()
        await self._checker.stop()
        await self._standings.stop()
        await self._applier.stop()
        self._keep()
        await self._saver.close()
        self._leaving = True
        await self._teller.finish()
        if self._carrier is not None:
            await self._carrier.finish()
        await self._reporter.send(deadline=1.0)
        await self._link.close()

    async def _begin(self, opened: Callable[[], None]) -> None:
        kept = await self._saver.restore()
        late = 0
        if kept is not None:
            self._held.restore(kept.proof, kept.entries)
            self._standings.note(self._held.take_notes())
            self._applier.restore(kept.serving)
            self._applier.want(self._held.take_changes())
            late = await self._tried()
        self._link.start()
        self._tasks.supervise(self._follower.run, "follow desired state")
        self._tasks.supervise(self._saver.run, "keep the last good state")
        self._tasks.supervise(self._reporter.run, "report")
        self._tasks.supervise(self._telling.run, "tell lines")
        self._tasks.supervise(self._teller.run, "tell what was counted")
        if self._carrier is not None:
            self._tasks.supervise(self._carrier.run, "carry the audit trail")
        self._tasks.supervise(self._checker.run, "check modules")
        await (self._first_read.wait() if kept is None else self._meet())
        late = await self._tried(late)
        await self._standings.settle()
        if late:
            logger.warning("door opens with modules still loading", modules=late)
            await self._applier.cover()
        self._loaded = True
        self._changed()
        opened()
        await self._first_read.wait()
        await self._tried(late)
        self._synced = True
        self._changed()

    async def _meet(self) -> None:
        """What changed while this worker was away comes before its door opens, if NATS is there to tell it."""
        waited = 0.0
        while not self._first_read.is_set() and not self._link.away and waited < MEETING_SECONDS:
            await self._clock.sleep(_MEETING_STEP)
            waited += _MEETING_STEP

    async def _tried(self, late: int = 0) -> int:
        """Wait until all that is wanted was tried, but for ``late`` modules that were waited for in vain before.

        Gives up when none was tried for so long; returns how many are left.
        """
        with contextlib.suppress(TimeoutError):
            while (left := self._applier.untried) > late:
                async with asyncio.timeout(STRAGGLER_SECONDS):
                    while self._applier.untried >= left:
                        self._news.clear()
                        await self._news.wait()
        return self._applier.untried

    def _read(self) -> None:
        """Something of the bucket was read."""
        self._standings.note(self._held.take_notes())
        self._applier.want(self._held.take_changes())
        if self._follower.synced:
            self._first_read.set()
        if not (self._follower.midway and self._applier.busy):
            self._changed()

    def _changed(self) -> None:
        self._news.set()
        self._keep()
        self._publish(self._facts())
        if not (self._saver.busy or self._standings.busy or self._follower.midway):
            self._reporter.due()

    def _saved(self) -> None:
        """Something more may be acknowledged, or cannot be: worth a report, whatever else is on its way to disk."""
        self._changed()
        self._reporter.due()

    def _keep(self) -> None:
        """Hand what changed to the saver."""
        moved = {names.module_key(name) for name in self._applier.take_moved()}
        changes: dict[Slot, DesiredDocument | None] = {}
        for key in self._held.take_touched() | moved:
            newest = self._held.document(key)
            changes[key, Place.NEWEST] = newest
            changes[key, Place.SERVING] = None if newest is None else self._in_place_of(newest)
        self._saver.offer(self._held.proof, changes)

    def _in_place_of(self, newest: DesiredDocument) -> DesiredDocument | None:
        """The document that serves while the newest does not."""
        good = self._applier.good(newest.name) if newest.kind == holding.MODULE else None
        if good is None or good.uid != newest.uid or good.digest == newest.digest:
            return None
        return good.document

    def _report(self, sequence: int) -> WorkerReport:
        identity, held, saved = self._identity, self._held, self._proven()
        report = WorkerReport(
            id=identity.id,
            boot=identity.boot,
            replaces=identity.replaces,
            labels=dict(identity.labels),
            address=identity.address,
            host_version=hosts.host_version(),
            store=saved.store,
            observed_epoch=held.observed[0],
            observed_revision=held.observed[1],
            applied_epoch=saved.order[0],
            applied_revision=saved.order[1],
            set_hash=saved.set_hash,
            modules=self._applier.serving,
            pinned=self._gateway.pinned,
            state=self._now().value,
            message=self._reason(),
            last_good=self._saver.last_good,
            synced=self._synced,
            leaving=self._leaving,
            pending=self._pending(),
            rejected=self._rejected(),
            ailing=self._checker.ailing(),
            checked=self._checker.checked(),
            trials=self._checker.trials(),
            sequence=sequence,
            loop_lag_seconds=round(self._lag, 6),
            loop_blocks=self._blocks,
            memory_bytes=_memory(),
            started_at=identity.started_at,
            reported_at=self._clock.now(),
        )
        self._last_report = report
        self._publish(self._facts())
        return report

    def _told(self, report: WorkerReport, made_at: int) -> None:
        if not self._leaving:
            self._tracks.told(report, made_at)

    def _proven(self) -> holding.Proof:
        """How far this worker is: on disk, and what decisions read is in place."""
        if not self._standings.busy:
            self._acknowledged = self._saver.proof
        return self._acknowledged

    def _pending(self) -> list[Pending]:
        pending = self._applier.pending()
        known = {entry.module for entry in pending}
        return pending + [entry for entry in self._saver.pending() if entry.module not in known]

    def _rejected(self) -> list[Rejected]:
        prefix = names.module_key("")
        refused = [
            Rejected(
                module=each.key.removeprefix(prefix),
                generation=each.generation,
                reason=each.reason,
                message=each.message,
            )
            for each in self._held.refused
            if each.key != names.KEY_HEAD
        ]
        return [*self._applier.rejected(), *refused]

    def _facts(self) -> states.Facts:
        return states.Facts(
            self._now(),
            self._state[1],
            self._synced,
            self._link.connected,
            self._link.trouble,
            self._follower.beat_age,
            self._last_report,
            self._reason(),
            self._saver.last_good,
        )

    def _now(self) -> WorkerState:
        state = self._judge()
        if state is not self._state[0]:
            logger.info("worker state", before=self._state[0].value, after=state.value, reason=self._reason())
            self._state = (state, self._clock.now())
        return state

    def _judge(self) -> WorkerState:
        if not self._loaded:
            return WorkerState.NEVER_LOADED
        if not self._follower.synced or self._follower.doubted or self._follower.foreign:
            return WorkerState.OUT_OF_SYNC
        if self._troubled or self._saver.failing:
            return WorkerState.DEGRADED
        return WorkerState.EMPTY if self._held.empty else WorkerState.SYNCED

    def _reason(self) -> str:
        """Why the state is not ``synced``, and what to do; no numbers that move by themselves."""
        waits = self._link.trouble or "waiting for the control plane"
        if not self._loaded:
            refusal = self._saver.last_good.message
            return f"no desired state was applied yet; {waits}" + (f"; {refusal}" if refusal else "")
        if self._follower.foreign:
            return (
                "NATS holds the desired state of another store than the one this worker serves, so it serves on what "
                "it has; correct --nats-url or --data-dir, or, if the new store is meant, stop the worker, remove "
                f"{self._file.path} and start it again"
            )
        if not self._follower.synced:
            saved_at = self._saver.last_good.saved_at
            since = "" if saved_at is None else f" of {saved_at.isoformat(timespec='seconds')}"
            return f"serves its last good state{since} from disk, not confirmed in this boot yet; {waits}"
        if self._follower.doubted:
            return f"the desired state cannot be verified ({self._follower.standing.value}); the last good one serves"
        if self._saver.failing:
            return self._saver.failing
        return self._refusal() if self._troubled else ""

    def _refusal(self) -> str:
        """What is not as it is wanted."""
        others = [each for each in self._held.refused if not each.key.startswith(names.module_key(""))]
        if others:
            return f"what was there before {others[0].key} still counts, since it is refused: {others[0].message}"
        return "not all modules are served as wanted; see pending and rejected of the report"

    @property
    def _troubled(self) -> bool:
        return self._applier.troubled or bool(self._held.refused)

    async def _watch_serving_loop(self) -> None:
        while True:
            self._lag = await self._gateway.lag()
            if self._lag > _LATE_SECONDS:
                logger.warning("serving loop was held", seconds=round(self._lag, 3))
            await self._clock.sleep(_LAG_SECONDS)


def _memory() -> int:
    """Resident bytes now, or the most there ever were where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
