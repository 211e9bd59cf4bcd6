"""Scan the modules path and make what is there so in the store.

    look until quiet → scan → pack sources → inspect those without a manifest → apply by modplane-discovery → conclude

Always holds: nothing is forced, a person's fields and pinned digests stay; one bad source or manifest is reported and
holds up no other; what is being written waits until it is quiet; what is deleted is `concluding`'s word.  Only a
leader scans: by itself (`watching`), and when the API is asked (its ``Discoverer`` port), one scan at a time.  Disk
is read in threads.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from controlplane import errors, writing
from controlplane.discovery import (
    candidates,
    carrying,
    concluding,
    deriving,
    looking,
    newcomers,
    noting,
    results,
    scanning,
    sources,
)
from controlplane.discovery.scanning import Failure
from controlplane.store import stores
from schemas import names
from schemas.documents import canonical_json
from schemas.inspections import InspectionOutcome, InspectionReport
from schemas.kits.clocks import Clock
from schemas.meta import Json

logger = structlog.get_logger("controlplane.discovery.discovering")

QUIET: Final = 0.25
"""Seconds for which a file has to be left alone before it is read."""
RESTLESS: Final = 2.0
"""Seconds after which what is still being written is left for later, so that it holds up no other."""
PATIENCE: Final = 2.0
"""Seconds for which code has to be gone before that means anything: a folder that is replaced is gone for a moment."""
SOON: Final = 1.0
"""Seconds for which a scan waits for inspections; those that take longer are the next one's."""
ASKED: Final = 10.0
"""The same for a scan that somebody asked for, who is told what is still being inspected then."""
NEWCOMER: Final = 2.0
"""Seconds for which code that belongs to no module waits for a person to apply a manifest of their own, which then
comes first.  Not waited for when somebody asks for a scan."""
UNKEPT: Final = 5.0
"""In how many seconds code is packed again for which our own disk had no room."""
BACKSTOP: Final = 60.0
"""Seconds until the next scan when nothing is told that anything moved."""
_BUSY: Final = f"is being written; it is taken when nobody has touched it for {QUIET:g} s"


@dataclass(slots=True)
class _Item:
    """One manifest to apply, and where it comes from."""

    key: str
    """Of the place in the modules path that it stands for."""
    token: str
    """What it was made of: the same again needs no second apply."""
    path: str
    document: Json
    beside: scanning.Beside | None = None

    def failures(self, error: errors.ModplaneError | None) -> Iterable[Failure]:
        """Why it was refused, by line where there is a file."""
        if self.beside is not None and isinstance(error, errors.Invalid) and error.violations:
            return scanning.places(self.path, self.beside.document, error.violations)
        return [Failure(self.path, str(error))]


class Writers(NamedTuple):
    """The write paths of code that lies in the modules path."""

    everybody: writing.Writer
    """Of whoever asks for a module by its manifest."""
    own: writing.Writer
    """Of what is found."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody asked for a scan."""

    prune: bool


class ModuleDiscovery:
    """Finds modules in the modules path and writes their manifests."""

    def __init__(
        self,
        store: stores.Store,
        clock: Clock,
        inspector: candidates.Inspector,
        *,
        modules_path: Path,
        data_dir: Path,
        epoch: Callable[[], int | None] | None = None,
        quiet: float = QUIET,
    ) -> None:
        """``epoch``: under which this process leads, None while it does not; ``quiet``: see `QUIET`."""
        self._store = store
        self._clock = clock
        self._epoch = epoch
        self._quiet = quiet
        self._sources = sources.Sources(modules_path, data_dir)
        self._scanner = scanning.Scanner(self._sources.modules_path)
        self._candidates = candidates.Candidates(store, clock, inspector, self._sources.code_root, self._answered)
        self._one = asyncio.Lock()
        self._tree = looking.Tree(looking.Root.MISSING)
        self._due = 0.0
        self._found: dict[str, sources.Found] = {}
        self._settled: dict[str, str] = {}
        self._newcomers = newcomers.Newcomers()
        self._refused: set[Failure] = set()
        self.writer = writing.Writer(store, clock, self)
        """The write path, which asks us in turn for digests (`resolve_all`)."""
        fence = None if epoch is None else self._fence
        self._own = writing.Writer(store, clock, _Scanned(self), epoch=fence)
        self.carrier = carrying.Carrier(store, clock, self._own, self._sources, self._newcomers, fence)
        self.stirred: Callable[[], None] = lambda: None
        """Called when another `catch_up` has more to do, before it said so."""

    async def resolve_all(self, paths: Collection[str]) -> Mapping[str, writing.Digest]:
        """The digests of the packed sources at ``paths``, see `sources.Sources.resolve_all`."""
        return await self._sources.resolve_all(paths)

    async def resolve_scanned(self, paths: Collection[str]) -> Mapping[str, writing.Digest]:
        """The same, but what the scan under way has found: what came after it is for the next one."""
        scanned = {path: self._found[path] for path in paths if path in self._found}
        known = {path: found.digest for path, found in scanned.items() if not found.problem}
        rest = [path for path in paths if path not in known]
        return {**known, **(await self.resolve_all(rest) if rest else {})}

    @property
    def writers(self) -> Writers:
        """The write paths that ask us for digests."""
        return Writers(self.writer, self._own)

    @property
    def folders(self) -> Mapping[str, tuple[int, int]]:
        """The folders that the last look saw, see `looking.Tree.folders`."""
        return self._tree.folders

    async def discover(self, *, prune: bool = False) -> Json:
        """Scan everything now; ``prune``: delete what discovery made and whose code is gone, however much that is.

        ``{scanned, applied, unchanged, updated, pinned, missing, prunable, deleted, held, inspecting, failed:
        [{path, message}], durationSeconds}``: module names, but for ``failed``, ``held`` and ``inspecting``.
        ``updated``: new code was taken; ``pinned``: newer code lies there, but somebody pinned the digest;
        ``missing``: their code is gone, they stay and serve on;
        ``prunable``: those of them that a prune deletes; ``held``: why none of them was deleted by itself;
        ``inspecting``: the sources whose code has not answered yet, which the next scan takes.
        """
        return await self._everything(_Asked(prune))

    async def begin(self) -> None:
        """The first scan of a leader: everything, as far as it does not take its time."""
        await self._everything(None)

    async def catch_up(self) -> float:
        """Scan what moved since the last scan; in how many seconds another look is due."""
        async with self._one:
            self._check_leading()
            started = self._clock.monotonic()
            tree, busy = await self._look()
            before = self._tree
            touched = await asyncio.to_thread(lambda: looking.places(looking.moved(before, tree)) - busy)
            if touched or tree.root is not before.root or started >= self._due:
                result = await self._scan(tree, busy, touched, None)
                self._told(result, self._clock.monotonic() - started, quietly=not touched)
            self._tree.folders = tree.folders
            return max(self._due - self._clock.monotonic(), 0.0)

    def rest(self) -> None:
        """What goes on between scans ends."""
        self._candidates.close()

    async def _everything(self, asked: _Asked | None) -> Json:
        async with self._one:
            self._check_leading()
            started = self._clock.monotonic()
            tree, busy = await self._look()
            self._settled = {}
            result = await self._scan(tree, busy, None, asked)
            return self._told(result, self._clock.monotonic() - started)

    def _answered(self) -> None:
        self._due = 0.0
        self.stirred()

    def _check_leading(self) -> None:
        if self._epoch is not None and self._epoch() is None:
            raise errors.Unreachable(
                "this control plane does not lead (yet), and only the leader discovers; try again soon"
            )

    def _fence(self) -> int:
        epoch = self._epoch() if self._epoch is not None else None
        return -1 if epoch is None else epoch

    async def _look(self) -> tuple[looking.Tree, set[str]]:
        """The modules path when nobody writes there any more, and what is still being written after a while."""
        place = self._sources.modules_path
        tree = await asyncio.to_thread(looking.look, place)
        if tree.newest < time.time_ns() - int(self._quiet * 1e9):
            return tree, set()
        deadline = self._clock.monotonic() + RESTLESS
        while True:
            await self._clock.sleep(self._quiet)
            again = await asyncio.to_thread(looking.look, place)
            moving, tree = looking.moved(tree, again), again
            if not moving or self._clock.monotonic() > deadline:
                return tree, looking.places(moving)

    async def _scan(
        self, tree: looking.Tree, busy: set[str], touched: Collection[str] | None, asked: _Asked | None
    ) -> results.Result:
        """``touched``: what moved since the last scan; None: everything is looked at anew.

        When it is ``asked`` for, it waits longer for inspections, and for nothing to come back.
        """
        result = results.Result()
        scan = await asyncio.to_thread(self._scanner.scan, tree, busy)
        result.scanned = len(scan.sources) + len(scan.manifests)
        result.failed += scan.failures
        modules = await self._store.read(noting.known)
        self._found = await self._find(tree, busy, touched, {*scan.named, *(module.path for module in modules)})
        bare = await asyncio.to_thread(self._bare, scan, modules, result, every=touched is None)
        reports = await self._candidates.reports(bare, ASKED if asked else SOON, anew=asked is not None)
        result.inspecting = self._candidates.asking()
        self._due = self._clock.monotonic() + BACKSTOP
        if asked is None and (due := self._candidates.due()) is not None:
            result.look_again(due)
        await self._apply(await asyncio.to_thread(self._items, scan, reports, result), result)
        await self.carrier.carry_out(
            None if result.applied else modules,
            self._found,
            tree.root,
            result,
            prune=asked is not None and asked.prune,
            patience=0.0 if asked else PATIENCE,
        )
        if busy or any(found.busy for found in self._found.values()):
            result.look_again(self._quiet)
        if any(found.unkept for found in self._found.values()):
            result.look_again(UNKEPT)
        self._tree = await asyncio.to_thread(looking.without, tree, busy)
        if result.again is not None:
            self._due = min(self._due, self._clock.monotonic() + result.again)
        return result

    async def _find(
        self, tree: looking.Tree, busy: Collection[str], touched: Collection[str] | None, paths: set[str]
    ) -> dict[str, sources.Found]:
        """What lies at ``paths``, as far as ``tree`` and the disk agree: if not, somebody is at it."""
        still = paths - set(busy)

        def missing() -> set[str]:
            return still - looking.places([*tree.files, *tree.unreadable])

        absent = await asyncio.to_thread(missing)
        moved = still if touched is None else {path for path in still if path in touched} | absent
        found = await self._sources.find(still, lambda path: path not in moved)
        for path in absent:
            found[path] = sources.Found(busy=found[path].digest is not None)
        return {**found, **dict.fromkeys(paths - still, sources.Found(busy=True, problem=_BUSY))}

    def _items(
        self,
        scan: scanning.Scan,
        reports: Mapping[str, InspectionReport],
        result: results.Result,
    ) -> list[_Item]:
        """Every manifest there is, but for those whose code is being written: written by people, and derived."""
        items = []
        for beside in scan.manifests:
            found = self._found.get(beside.source() or "", sources.Found())
            if not found.busy:
                token = f"{found.digest} {found.problem} {canonical_json(beside.value)}"
                items.append(_Item(f"{beside.path}#{beside.document.index}", token, beside.path, beside.value, beside))
        owners: dict[str, str] = {}
        for path, report in reports.items():
            if report.outcome is not InspectionOutcome.OK:
                result.failed.append(Failure(path, f"{report.reason}: {report.message}"))
            for candidate in report.candidates:
                first = owners.setdefault(names.object_name(candidate.module_id), candidate.entry_point)
                if first == candidate.entry_point:
                    token = self._found[path].digest or ""
                    items.append(_Item(candidate.entry_point, token, path, deriving.manifest(candidate, path)))
                else:
                    result.failed.append(Failure(path, deriving.double(candidate, first)))
        return items

    def _bare(
        self, scan: scanning.Scan, modules: Sequence[concluding.Known], result: results.Result, *, every: bool
    ) -> dict[str, str]:
        """The digests of sources for which manifests are to be derived.

        That is: no manifest lies beside them, and no person described them alone; and, unless ``every`` one is meant,
        they have not just come, and no person deleted what was derived of this very code.
        """
        for path in scan.sources:
            if problem := self._found[path].problem:
                result.failed.append(Failure(path, problem))
        standing = self._newcomers.standing(modules)
        if any(each.deleting and self._found[each.path].digest not in (None, each.digest) for each in standing):
            result.look_again(carrying.AGAIN)  # other code lies where a module still has to go
        described = {each.path for each in standing} - {each.path for each in standing if each.declared}
        digests = {path: self._found[path].digest for path in scan.sources}
        young = self._newcomers.young(digests, standing, self._clock.monotonic(), NEWCOMER)
        soonest = min(young.values(), default=math.inf)
        if soonest < math.inf and not every:
            result.look_again(soonest)
        left_out = scan.covered | described | (set() if every else young.keys())
        if scan.waiting:
            return {}
        return {path: digest for path, digest in digests.items() if digest is not None and path not in left_out}

    async def _apply(self, items: Sequence[_Item], result: results.Result) -> None:
        """Apply the items that are not settled yet."""
        due = [item for item in items if self._settled.get(item.key) != item.token]
        self._settled = {item.key: item.token for item in items if self._settled.get(item.key) == item.token}
        for start in range(0, len(due), carrying.BATCH):
            batch = due[start : start + carrying.BATCH]
            outcomes = await self._own.apply(
                [item.document for item in batch], manager=names.MANAGER_DISCOVERY, reason="found in the modules path"
            )
            for item, outcome in zip(batch, outcomes, strict=True):
                if outcome.error is not None and outcome.error.retryable:
                    result.look_again(carrying.AGAIN)
                else:
                    self._settled[item.key] = item.token
                if outcome.error is not None or outcome.record is None:
                    result.failed += item.failures(outcome.error)
                elif outcome.verb == "unchanged":
                    result.unchanged.append(outcome.record.name)
                else:
                    result.applied.append(outcome.record.name)

    def _told(self, result: results.Result, seconds: float, *, quietly: bool = False) -> Json:
        """The answer, and in the log what is new about it."""
        answer = result.wire(seconds)
        (logger.debug if quietly else logger.info)(
            "modules path scanned",
            path=str(self._sources.modules_path),
            scanned=result.scanned,
            **{word: len(answer[word]) for word in (*results.LISTS, "failed")},
            seconds=answer["durationSeconds"],
        )
        for failure in result.failed:
            if failure not in self._refused:
                logger.warning("discovery refused", path=failure.path, error=failure.message)
        self._refused = set(result.failed)
        return answer


class _Scanned:
    """The sources as the scan under way has found them."""

    def __init__(self, discovery: ModuleDiscovery) -> None:
        self._discovery = discovery

    async def resolve_all(self, paths: Collection[str]) -> Mapping[str, writing.Digest]:
        return await self._discovery.resolve_scanned(paths)


Discovery = ModuleDiscovery
"""The short name, for wiring."""
