"""Makes the gateway serve what is wanted, and knows what is not there yet and why.

Each module goes its own way: building is one after the other (`dataplane.agent.loading`), starting is side by side on
the serving loop, and a slow or broken one holds up no other.  What will fail again is quarantined and `rejected`; what
may heal is tried again with back-off and is `pending`.  Until something newer serves, the last good generation
of the same uid does, also the one that an earlier boot left on disk; where there is none, the module's known routes
answer 503.

Runs on the agent's loop; called by `dataplane.agent.living`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog

from dataplane.agent import failing, loading, planning, ports, striking, suspecting
from dataplane.agent.holding import Wanted
from dataplane.errors import DataPlaneError, LoadFailed, StartFailed
from dataplane.gateway import serving
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.kits.tasks import Tasks
from schemas.reports import Pending, Rejected

logger = structlog.get_logger("dataplane.agent.applying")

Served: TypeAlias = serving.Served
Trouble: TypeAlias = serving.Trouble

_MOMENT_SECONDS = 1.0


class Applier:
    """One worker's modules on their way in and out."""

    def __init__(
        self,
        gateway: ports.Gateway,
        loader: loading.Loader,
        clock: Clock,
        *,
        host_version: str,
        labels: Mapping[str, str],
        changed: Callable[[], None],
        backoff: Backoff | None = None,
        suspects: suspecting.Suspects | None = None,
        strikes: striking.Strikes | None = None,
        tracks: ports.Tracks | None = None,
    ) -> None:
        """``changed`` is called whenever `pending`, `rejected` or `serving` may have changed."""
        self._gateway = gateway
        self._loader = loader
        self._clock = clock
        self._labels = dict(labels)
        self._changed = changed
        self._suspects = suspects
        self._strikes = strikes
        self._tracks = tracks or ports.NoTracks()
        self._charges: dict[str, str] = {}
        self._alone = asyncio.Lock()
        self._tasks = Tasks(clock)
        self._wanted: dict[str, Wanted] = {}
        self._placed: dict[str, planning.Placed] = {}
        self._good: dict[str, Wanted] = {}
        self._earlier: dict[str, Wanted] = {}
        self._moved: set[str] = set()
        self._since: dict[str, datetime] = {}
        self._failures = failing.Failures(self._wanted, clock, backoff or Backoff(base=1.0, cap=60.0), host_version)
        self._busy: dict[str, tuple[Wanted, datetime]] = {}
        self._draining: dict[tuple[str, str], datetime] = {}
        self._rebuilding: set[str] = set()
        self._untried: set[str] = set()
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at: float | None = None

    @property
    def serving(self) -> int:
        """How many modules serve."""
        return len(self._since)

    @property
    def busy(self) -> bool:
        """Whether a module is on its way in: ``changed`` is called when it is through."""
        return bool(self._busy)

    @property
    def settled(self) -> bool:
        """Whether every wanted module was tried at least once."""
        return not self._untried

    @property
    def untried(self) -> int:
        """How many wanted modules were not tried yet."""
        return len(self._untried)

    @property
    def troubled(self) -> bool:
        """Whether something that is wanted failed, or takes longer than a moment."""
        if self._failures.any_latest:
            return True
        moment = self._clock.now() - timedelta(seconds=_MOMENT_SECONDS)
        return any(since < moment for _, since in self._busy.values())

    def good(self, name: str) -> Wanted | None:
        """The module that serves under a name, or is to serve until the newest can."""
        return self._good.get(name) or self._earlier.get(name)

    def take_moved(self) -> set[str]:
        """The names whose `good` changed since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def restore(self, earlier: Mapping[str, Wanted]) -> None:
        """What served in an earlier boot in place of the newest: it comes first, once its name is wanted."""
        self._earlier = {name: module for name, module in earlier.items() if planning.selects(module, self._labels)}

    async def cover(self) -> None:
        """Let the routes of modules that were not tried yet say so, instead of being unknown."""
        for name in sorted(self._untried - self._placed.keys()):
            await self._block(
                self._wanted[name], StartFailed("Loading", f"module {name} is still being loaded; try again shortly")
            )

    def want(self, changes: Mapping[str, Wanted | None]) -> None:
        """From now on serve these (those that placement selects), and no longer those that are None."""
        for name, module in changes.items():
            if module is not None and planning.selects(module, self._labels):
                self._wanted[name] = module
                if name not in self._placed and name not in self._failures:
                    self._untried.add(name)
            else:
                self._wanted.pop(name, None)
                self._failures.forget(name)
                self._untried.discard(name)
                self._tracks.gone(name)
            earlier = self._earlier.get(name)
            if earlier is not None and (module is None or module.uid != earlier.uid):
                del self._earlier[name]
        if changes:
            self._step(changes)

    def pending(self) -> list[Pending]:
        """The modules whose latest document is not applied yet but may be."""
        found = {
            name: Pending(module=name, generation=module.generation, since=since, reason="Loading")
            for name, (module, since) in self._busy.items()
        }
        found |= self._failures.pending()
        for (name, _), since in self._draining.items():
            if name not in self._wanted:
                found[name] = Pending(module=name, generation=0, since=since, reason="Draining")
        return [found[name] for name in sorted(found)]

    def rejected(self) -> list[Rejected]:
        """The modules whose latest document is refused for good, and since when an older one serves instead."""
        return self._failures.rejected(self._since)

    async def blocked(self, name: str, uid: str, code: str, place: str) -> None:
        """Code of a module held the serving loop: on repeat it serves no longer, until something of it changes.

        Without a name: a process before this one ended of it, so it counts for the module that will have this code.
        """
        if not name:
            self._charges[code] = place
        known = (self._good.get(name), self._wanted.get(name))
        module = next((each for each in known if each and (each.uid, each.desired.digest) == (uid, code)), None)
        if module is None or self._strikes is None:
            return
        verdict = self._strikes.add(module, place)
        placed = self._placed.get(name)
        if verdict is None or placed is None or not placed.serving or placed.uid != uid:
            return
        self._placed[name] = replace(placed, serving=False)
        error = LoadFailed(striking.REASON, verdict)
        if self._superseded(module):
            await self._block(module, error, instead=True)
        else:
            await self._record(module, error, instead=True)
        self._moved.add(name)
        self._changed()

    async def stop(self) -> None:
        """Begin nothing more; what serves keeps serving."""
        self._wanted.clear()
        await self._tasks.stop()
        self._loader.close()

    def _step(self, among: Iterable[str]) -> None:
        busy = self._busy.keys() | self._rebuilding
        plan = planning.plan(among, self._wanted, self._placed, self._failures.facts(), busy, self._clock.monotonic())
        for placed in plan.remove:
            self._forget(placed)
            self._tasks.start(self._remove(placed), f"remove {placed.name}")
        for module in plan.load:
            self._busy[module.name] = (module, self._clock.now())
            self._tasks.start(self._load(module), f"load {module.name}")
        self._wake_at(plan.wake_at)

    def _forget(self, placed: planning.Placed) -> None:
        self._placed.pop(placed.name, None)
        self._since.pop(placed.name, None)
        self._good.pop(placed.name, None)
        if placed.serving:
            self._draining[placed.name, placed.uid] = self._clock.now()

    def _wake_at(self, moment: float | None) -> None:
        if moment is None or (self._alarm_at is not None and self._alarm_at <= moment):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = moment
        self._alarm = self._tasks.start(self._ring(moment), "retry")

    async def _ring(self, moment: float) -> None:
        await self._clock.sleep(max(moment - self._clock.monotonic(), 0.0))
        self._alarm = self._alarm_at = None
        self._step(self._failures.names())

    async def _remove(self, placed: planning.Placed) -> None:
        try:
            await self._gateway.remove(placed.name, placed.uid)
        finally:
            self._draining.pop((placed.name, placed.uid), None)
            self._changed()

    async def _load(self, module: Wanted) -> None:
        try:
            await self._place_earlier(module.name)
            await self._try(module)
            self._tracks.placed(module.name, module.order)
        except DataPlaneError as error:
            self._tracks.placed(module.name, module.order, getattr(error, "reason", type(error).__name__))
            await self._record(module, error)
        except Exception as error:
            logger.exception("module could not be placed", module=module.name)
            await self._record(module, StartFailed("Unexpected", f"{type(error).__name__}: {error}"))
        finally:
            self._busy.pop(module.name, None)
            self._untried.discard(module.name)
            self._step([module.name])
            self._changed()

    async def _place_earlier(self, name: str) -> None:
        """The one that served before this boot, until the newest is there: what it was chosen over may still fail."""
        earlier = self._earlier.get(name)
        if earlier is None:
            return
        try:
            await self._try(earlier)
        except LoadFailed as error:
            logger.warning("earlier generation is gone", module=name, reason=error.reason, error=error.message)
            self._earlier.pop(name, None)
            self._moved.add(name)
        except StartFailed as error:
            logger.warning("earlier generation not served", module=name, reason=error.reason, error=error.message)
        else:
            self._earlier.pop(name, None)

    async def _try(self, module: Wanted) -> None:
        """Place a module; one that an earlier boot died of gets no other suspect beside it, or no try at all."""
        suspects = self._suspects
        if suspects is None or not suspects.suspected(module):
            return await self._place(module)
        async with self._alone:
            verdict = suspects.verdict(module)
            if verdict is not None:
                raise LoadFailed(suspecting.REASON, verdict)
            try:
                await self._place(module)
            finally:
                suspects.acquit(module)

    async def _place(self, module: Wanted) -> None:
        if (since := await self._renewed(module)) is not None:
            self._serves(module, since)
            return
        if (known := self._failures.quarantined(module)) is not None:
            raise LoadFailed(*known)
        if (verdict := self._struck(module)) is not None:
            raise LoadFailed(striking.REASON, verdict)
        try:
            with self._tracks.step(module.name, "load"):
                served = await self._loader.load(module)
            self._tracks.split(module.name, "warm", self._loader.built_at)
        except LoadFailed as error:
            if planning.fails_alike(module):
                self._failures.quarantine(module, error.reason, error.message)
            raise
        assert served.instance is not None, "a loaded module has an instance"
        if self._superseded(module):
            served.instance.unload()
            return
        await self._install(module, served)
        self._serves(module, served.since)

    async def _install(self, module: Wanted, served: Served) -> None:
        assert served.instance is not None, "a loaded module has an instance"
        try:
            watched = contextlib.nullcontext() if self._suspects is None else self._suspects.watching(module)
            with watched, self._tracks.step(module.name, "start"):
                await self._gateway.install(served)
        except BaseException:
            served.instance.unload()
            raise
        self._tracks.split(module.name, "swap", round(served.since.timestamp() * 1e9))

    async def rebuild(self, name: str, uid: str, trouble: Trouble | None) -> bool:
        """Put a fresh instance of what serves in its place, in ``trouble`` if that is given; whether that went well.

        What serves stays when it does not.  Nothing else happens to the module meanwhile.
        """
        module, placed = self._good.get(name), self._placed.get(name)
        if module is None or module.uid != uid or placed is None or not placed.serving or name in self._busy:
            return False
        self._rebuilding.add(name)
        try:
            served = await self._loader.load(module)
            served.trouble = trouble
            await self._install(module, served)
        except DataPlaneError as error:
            logger.warning("fresh instance not served", module=name, reason=error.reason, error=error.message)
            return False
        finally:
            self._rebuilding.discard(name)
            self._step([name])
        logger.info("fresh instance serves", module=name, generation=module.generation)
        return True

    async def _renewed(self, module: Wanted) -> datetime | None:
        """Since when the module serves with the instance that is there already; None: it needs one of its own."""
        placed, good = self._placed.get(module.name), self._good.get(module.name)
        if placed is None or good is None or not placed.serving or not planning.keeps_instance(good, module):
            return None
        with self._tracks.step(module.name, "swap"):
            return await self._gateway.renew(module)

    def _serves(self, module: Wanted, since: datetime) -> None:
        self._placed[module.name] = _placed(module, serving=True)
        self._since[module.name] = since
        self._good[module.name] = module
        self._moved.add(module.name)
        if self._earlier.get(module.name) is not module:
            self._failures.forget(module.name)

    def _struck(self, module: Wanted) -> str | None:
        """Why a module that held the serving loop is not to serve any more."""
        if self._strikes is None:
            return None
        place = self._charges.pop(module.desired.digest, None)
        return self._strikes.verdict(module) if place is None else self._strikes.add(module, place)

    def _superseded(self, module: Wanted) -> bool:
        wanted = self._wanted.get(module.name)
        if wanted is not None and self._earlier.get(module.name) is module:
            return False
        return wanted is None or (wanted.uid, wanted.digest) != (module.uid, module.digest)

    async def _record(self, module: Wanted, error: DataPlaneError, *, instead: bool = False) -> None:
        if self._superseded(module):
            return
        # while the earlier generation waits for another try, so does this one
        again = error.retryable or module.name in self._earlier
        delay = self._failures.note(module, error, again=again)
        logger.warning(
            "module not served", module=module.name, generation=module.generation, reason=error.reason,
            error=error.message, retry_in=delay,
        )  # fmt: skip
        placed = self._placed.get(module.name)
        if placed is None or placed.uid != module.uid or not placed.serving:
            await self._block(module, error, instead=instead)

    async def _block(self, module: Wanted, error: DataPlaneError, *, instead: bool = False) -> None:
        """Nothing good of this uid serves: its routes say so instead of falling through to another module."""
        trouble = serving.Trouble(error.reason, error.message, error.retryable)
        try:
            served = serving.broken(
                module.name, module.uid, module.generation, module.desired, self._clock.now(), trouble
            )
        except ValueError:
            served = None
        if served is not None:
            await self._gateway.block(served, instead=instead)
            placed = self._placed.get(module.name)
            if placed is not None and placed.serving and placed.uid == module.uid:
                return
            self._placed[module.name] = _placed(module, serving=False)
            self._since.pop(module.name, None)
            self._good.pop(module.name, None)


def _placed(module: Wanted, *, serving: bool) -> planning.Placed:
    return planning.Placed(module.name, module.uid, module.generation, module.digest, serving=serving)
