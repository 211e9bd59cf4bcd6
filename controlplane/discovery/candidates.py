"""What modules the code of a source offers: asked once per digest and host, then kept in the store and in memory.

Always holds: code whose inspection takes its time holds up no scan, and takes only a few of the inspector's places;
what had no answer (it crashed, it ran out of time) is asked again a few times.  Called by
`controlplane.discovery.discovering` for sources without a manifest; `deriving` makes manifests of the answers.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog
from pydantic import ValidationError

from controlplane import errors
from controlplane.store import stores
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from schemas.kits import places
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.discovery.candidates")

AT_ONCE: Final = 4
"""How many sources are asked at a time, so that the inspections of what people applied find a place."""

HOLD: Final = 0.5
"""Seconds for which one counts there, so that code that hangs keeps no other from being asked."""

ATTEMPTS: Final = 3
"""How many times code is asked about that crashes or runs out of time, until it changes or somebody asks for a scan."""

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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What asking about one source has come to."""

    digest: str
    report: InspectionReport
    failures: int = 0
    """How many times in a row there was no answer."""
    next_try: float = 0.0
    """When it may be asked again, on the monotonic clock."""


class Candidates:
    """Asks for candidates in the background, a few at a time, and remembers; ``done`` is told of each report."""

    def __init__(
        self, store: stores.Store, clock: Clock, inspector: Inspector, code_root: Path, done: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._inspector = inspector
        self._code_root = code_root
        self._done = done
        self._backoff = Backoff(base=5.0, cap=60.0)
        self._places = places.Places(AT_ONCE, HOLD)
        self._told: dict[str, _Attempt] = {}
        self._asking: dict[str, tuple[str, asyncio.Task[None]]] = {}

    async def reports(
        self, packed: Mapping[str, str], patience: float, *, anew: bool = False
    ) -> dict[str, InspectionReport]:
        """The reports on sources, by path, as far as there are any after ``patience`` seconds.

        ``packed``: their digests.  Those that are asked now are waited for.  ``anew``: those that were asked before as
        well, and what had no answer is asked again at once.  What is not asked for is forgotten.
        """
        self._forget(packed)
        now = self._clock.monotonic()
        fresh = []
        for path, digest in packed.items():
            told = self._told.get(path)
            due = told is None or (told.failures > 0 and (anew or told.next_try <= now))
            if due and path not in self._asking:
                task = asyncio.get_running_loop().create_task(self._ask(path, digest), name=f"candidates of {path}")
                self._asking[path] = (digest, task)
                fresh.append(task)
        waited = [task for _, task in self._asking.values()] if anew else fresh
        if waited:
            await asyncio.wait(waited, timeout=patience)
        return {path: self._told[path].report for path in packed if path in self._told}

    def asking(self) -> list[str]:
        """The paths of the sources that are being inspected now, or wait for it, in order."""
        return sorted(self._asking)

    def due(self) -> float | None:
        """In how many seconds somebody is to be asked again; None: nobody is."""
        waits = [told.next_try for path, told in self._told.items() if told.failures and path not in self._asking]
        soonest = min(waits, default=math.inf)
        return max(soonest - self._clock.monotonic(), 0.0) if soonest < math.inf else None

    def close(self) -> None:
        """Ask no further."""
        self._forget({})

    def _forget(self, packed: Mapping[str, str]) -> None:
        self._told = {path: told for path, told in self._told.items() if packed.get(path) == told.digest}
        for path, (digest, task) in list(self._asking.items()):
            if packed.get(path) != digest:
                del self._asking[path]
                task.cancel()

    async def _ask(self, path: str, digest: str) -> None:
        try:
            report = await self._places.run(self._report(path, digest))
        except errors.ModplaneError as error:
            report = InspectionReport(
                id="", outcome=InspectionOutcome.CRASHED, reason="InspectionUnavailable", message=error.message
            )
        finally:
            if self._asking.get(path, ("", None))[1] is asyncio.current_task():
                del self._asking[path]
        told = self._told.get(path)
        failures = 0 if is_answer(report) else 1 + (0 if told is None else told.failures)
        wait = 0.0 if not failures else self._backoff.ceiling(failures) if failures < ATTEMPTS else math.inf
        self._told[path] = _Attempt(digest, report, failures, self._clock.monotonic() + wait)
        self._done()

    async def _report(self, path: str, digest: str) -> InspectionReport:
        key = hashlib.sha256(f"candidates|{digest}|{self._inspector.host_version}".encode()).hexdigest()
        kept = await self._store.read(lambda reading: reading.inspection(key))
        if kept is not None:
            try:
                return InspectionReport.model_validate(kept)
            except ValidationError:
                logger.warning("kept inspection unreadable", path=path, digest=digest)
        root = self._code_root / digests.folder_name(digest)
        request = InspectionRequest(id=key, root=str(root), source_path=path, digest=digest)
        report = await self._inspector.inspect(request)
        if is_answer(report):
            await self._store.write(lambda tx: tx.put_inspection(key, report.wire()))
        return report


def is_answer(report: InspectionReport) -> bool:
    """Whether asking again would say the same."""
    return report.outcome in _ANSWERS
