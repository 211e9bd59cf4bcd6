"""Scan the modules path and make what is there so in the store.

    scan → pack each source → inspect those without a manifest → apply all by modplane-discovery → follow new code

Always holds: nothing is forced, a person's fields and pinned digests stay; one bad source or manifest is reported and
holds up no other; nothing is deleted.  Called by `controlplane.app` at start and by the API on demand (its
``Discoverer`` port); scans run one at a time.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog
from pydantic import ValidationError

from controlplane import errors, writing
from controlplane.admission import owning
from controlplane.discovery import deriving, scanning, sources
from controlplane.discovery.scanning import Failure
from controlplane.store import stores
from controlplane.store.records import Record
from schemas import digests, names
from schemas.inspections import CandidateReport, InspectionOutcome, InspectionReport, InspectionRequest
from schemas.kits.clocks import Clock
from schemas.meta import Json

logger = structlog.get_logger("controlplane.discovery.discovering")

BATCH: Final = 200
"""Manifests per transaction, so that other writers get their turn."""


class Inspector(Protocol):
    """Who imports code in a child and tells what it is; see `controlplane.inspection`."""

    @property
    def host_version(self) -> str:
        """The version of the host that inspects."""
        ...

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """The report; a broken module is a report, not an exception."""
        ...


@dataclass(slots=True)
class _Item:
    """One manifest to apply, and where it comes from."""

    path: str
    document: Json
    beside: scanning.Beside | None = None

    def failures(self, error: errors.ModplaneError | None) -> Iterable[Failure]:
        """Why it was refused, by line where there is a file."""
        if self.beside is not None and isinstance(error, errors.Invalid) and error.violations:
            return scanning.places(self.path, self.beside.document, error.violations)
        return [Failure(self.path, str(error))]


@dataclass(slots=True)
class _Result:
    """What a scan came to."""

    scanned: int = 0
    applied: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def wire(self, seconds: float) -> Json:
        return {
            "scanned": self.scanned,
            "applied": sorted(self.applied),
            "unchanged": sorted(self.unchanged),
            "updated": sorted(self.updated),
            "pinned": sorted(self.pinned),
            "missing": sorted(self.missing),
            "failed": [{"path": failure.path, "message": failure.message} for failure in self.failed],
            "durationSeconds": round(seconds, 3),
        }


class ModuleDiscovery:
    """Finds modules in the modules path and writes their manifests."""

    def __init__(
        self,
        store: stores.Store,
        clock: Clock,
        inspector: Inspector,
        *,
        modules_path: Path,
        data_dir: Path,
        writer: writing.Writer | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._inspector = inspector
        self._sources = sources.Sources(modules_path, data_dir)
        self._one = asyncio.Lock()
        self.writer = writer or writing.Writer(store, clock, self)
        """The write path, which asks us in turn for digests (`resolve`)."""

    async def resolve(self, path: str) -> str | None:
        """The digest of the packed source at ``path``, see `sources.Sources.resolve`."""
        return await self._sources.resolve(path)

    async def discover(self) -> Json:
        """Scan now.

        ``{scanned, applied, unchanged, updated, pinned, missing, failed: [{path, message}], durationSeconds}``:
        module names, but for ``failed``.  ``updated``: modules whose new code was taken; ``pinned``: newer code lies
        there, but somebody pinned the digest; ``missing``: made by discovery, their source is gone (they stay
        and serve on).
        """
        async with self._one:
            started = self._clock.monotonic()
            result = await self._discover()
            answer = result.wire(self._clock.monotonic() - started)
        logger.info(
            "modules path scanned",
            path=str(self._sources.modules_path),
            scanned=result.scanned,
            applied=len(result.applied),
            unchanged=len(result.unchanged),
            failed=len(result.failed),
            missing=len(result.missing),
            seconds=answer["durationSeconds"],
        )
        for failure in result.failed:
            logger.warning("discovery refused", path=failure.path, error=failure.message)
        return answer

    async def _discover(self) -> _Result:
        result = _Result()
        scan = await asyncio.to_thread(scanning.scan, self._sources.modules_path)
        result.scanned = len(scan.sources) + len(scan.manifests)
        result.failed += scan.failures
        packed = await self._packed(scan.sources, result)
        items = [_Item(beside.path, beside.value, beside) for beside in scan.manifests]
        bare = {path: digest for path, digest in packed.items() if path not in scan.covered}
        items += await self._derived(bare, result)
        await self._apply(items, result)
        await self._follow({*result.applied, *result.unchanged}, result)
        return result

    async def _packed(self, paths: Iterable[str], result: _Result) -> dict[str, str]:
        packed: dict[str, str] = {}
        for path in paths:
            digest = await self._sources.resolve(path)
            if digest is not None:
                packed[path] = digest
            elif (problem := self._sources.problem(path)) is not None:
                result.failed.append(Failure(path, problem))
        return packed

    async def _derived(self, packed: dict[str, str], result: _Result) -> list[_Item]:
        """Manifests of sources that have none beside them."""
        reports = await asyncio.gather(*(self._candidates(path, digest) for path, digest in packed.items()))
        items: list[_Item] = []
        owners: dict[str, str] = {}
        for path, report in zip(packed, reports, strict=True):
            if report.outcome is not InspectionOutcome.OK:
                result.failed.append(Failure(path, f"{report.reason}: {report.message}"))
            for candidate in report.candidates:
                first = owners.setdefault(names.object_name(candidate.module_id), candidate.entry_point)
                if first == candidate.entry_point:
                    items.append(_Item(path, deriving.manifest(candidate, path)))
                else:
                    result.failed.append(Failure(path, _double(candidate, first)))
        return items

    async def _candidates(self, path: str, digest: str) -> InspectionReport:
        """What the code offers; asked once per digest and host, then kept in the store."""
        key = hashlib.sha256(f"candidates|{digest}|{self._inspector.host_version}".encode()).hexdigest()
        kept = await self._store.read(lambda reading: reading.inspection(key))
        if kept is not None:
            try:
                return InspectionReport.model_validate(kept)
            except ValidationError:
                logger.warning("kept inspection unreadable", path=path, digest=digest)
        root = self._sources.code_root / digests.folder_name(digest)
        request = InspectionRequest(id=key, root=str(root), source_path=path, digest=digest)
        try:
            report = await self._inspector.inspect(request)
        except errors.ModplaneError as error:
            return InspectionReport(
                id=key, outcome=InspectionOutcome.CRASHED, reason="InspectionUnavailable", message=error.message
            )
        if report.outcome in (InspectionOutcome.OK, InspectionOutcome.FAILED):
            await self._store.write(lambda tx: tx.put_inspection(key, report.wire()))
        return report

    async def _apply(self, items: Sequence[_Item], result: _Result) -> None:
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            outcomes = await self.writer.apply(
                [item.document for item in batch], manager=names.MANAGER_DISCOVERY, reason="found in the modules path"
            )
            for item, outcome in zip(batch, outcomes, strict=True):
                if outcome.error is not None or outcome.record is None:
                    result.failed += item.failures(outcome.error)
                elif outcome.verb == "unchanged":
                    result.unchanged.append(outcome.record.name)
                else:
                    result.applied.append(outcome.record.name)

    async def _follow(self, seen: set[str], result: _Result) -> None:
        """Modules that no manifest here speaks of follow their code too, unless somebody pinned it."""
        for record in await self._store.read(lambda reading: reading.list("Module")):
            source = record.spec.get("source") or {}
            digest = await self._sources.resolve(source.get("path") or "")
            if digest is None:
                if _made_by_discovery(record) and self._sources.problem(source.get("path") or "") is None:
                    result.missing.append(record.name)
            elif digest != source.get("digest") and not record.deleting:
                await self._take(record, digest, seen, result)

    async def _take(self, record: Record, digest: str, seen: set[str], result: _Result) -> None:
        if _pinned(record.managed_fields):
            result.pinned.append(record.name)
            return

        def change(document: Json) -> Json:
            if _pinned(document["metadata"].get("managedFields", [])):
                return document
            source = {**(document["spec"].get("source") or {}), "digest": digest}
            return {**document, "spec": {**document["spec"], "source": source}}

        try:
            await self.writer.edit(
                "Module", record.name, change, manager=names.MANAGER_DISCOVERY, reason="new code in the modules path"
            )
        except errors.ModplaneError as error:
            result.failed.append(Failure(record.spec["source"]["path"], f"{record.name}: {error.message}"))
            return
        if record.name not in seen:
            result.updated.append(record.name)


Discovery = ModuleDiscovery
"""The short name, for wiring."""


def _pinned(managed_fields: Iterable[Json]) -> bool:
    return any(owner != names.MANAGER_DISCOVERY for owner in owning.owners_of(managed_fields, owning.DIGEST))


def _made_by_discovery(record: Record) -> bool:
    return names.MANAGER_DISCOVERY in owning.owners_of(record.managed_fields, "spec.entryPoint")


def _double(candidate: CandidateReport, first: str) -> str:
    return (
        f"{candidate.entry_point} says module_id {candidate.module_id!r}, which {first} has already; "
        "give one of them another module_id"
    )
