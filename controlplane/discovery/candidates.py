"""What modules the code of a source offers: asked once per digest and host, then kept in the store and in memory.

Called by `controlplane.discovery.discovering` for sources without a manifest; `deriving` makes manifests of the
answers.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from controlplane import errors
from controlplane.store import stores
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

logger = structlog.get_logger("controlplane.discovery.candidates")

_ANSWERS = (InspectionOutcome.OK, InspectionOutcome.FAILED)


class Inspector(Protocol):
    """Who imports code in a child and tells what it is; see `controlplane.inspection`."""

    @property
    def host_version(self) -> str:
        """The version of the host that inspects."""
        ...

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """The report; a broken module is a report, not an exception."""
        ...


class Candidates:
    """Asks for candidates, and remembers."""

    def __init__(self, store: stores.Store, inspector: Inspector, code_root: Path) -> None:
        self._store = store
        self._inspector = inspector
        self._code_root = code_root
        self._told: dict[str, tuple[str, InspectionReport]] = {}

    async def reports(self, packed: Mapping[str, str]) -> dict[str, InspectionReport]:
        """The report on each source, by path; ``packed``: their digests.  What is not asked for is forgotten."""
        reports = await asyncio.gather(*(self._report(path, digest) for path, digest in packed.items()))
        found = dict(zip(packed, reports, strict=True))
        self._told = {path: (packed[path], report) for path, report in found.items() if is_answer(report)}
        return found

    async def _report(self, path: str, digest: str) -> InspectionReport:
        told = self._told.get(path)
        if told is not None and told[0] == digest:
            return told[1]
        key = hashlib.sha256(f"candidates|{digest}|{self._inspector.host_version}".encode()).hexdigest()
        kept = await self._store.read(lambda reading: reading.inspection(key))
        if kept is not None:
            try:
                return InspectionReport.model_validate(kept)
            except ValidationError:
                logger.warning("kept inspection unreadable", path=path, digest=digest)
        root = self._code_root / digests.folder_name(digest)
        request = InspectionRequest(id=key, root=str(root), source_path=path, digest=digest)
        try:
            report = await self._inspector.inspect(request)
        except errors.ModplaneError as error:
            return InspectionReport(
                id=key, outcome=InspectionOutcome.CRASHED, reason="InspectionUnavailable", message=error.message
            )
        if is_answer(report):
            await self._store.write(lambda tx: tx.put_inspection(key, report.wire()))
        return report


def is_answer(report: InspectionReport) -> bool:
    """Whether asking again would say the same."""
    return report.outcome in _ANSWERS
