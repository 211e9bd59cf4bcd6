"""Inspections in the background: each code with each configuration once, some at a time, kept in the store.

What always holds: an answer (good, or wrong code) is kept under its key and never asked for again; what crashed
or ran out of time is tried again with back-off, and counts as the answer, for this generation only, after three
attempts; when the inspector itself is broken nothing is held against the module.

`loading` looks here what is known, the loop starts what `deciding` asks for, `acting` stores the answers; when an
inspection ends the modules that wait for it are woken.
"""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pydantic
import structlog

from controlplane.reconcile import accepting
from controlplane.reconcile.facts import ATTEMPTS, Examination
from controlplane.store.readings import Reading
from controlplane.store.records import Record
from controlplane.telemetry import tracing
from schemas import digests
from schemas.documents import canonical_json
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from schemas.kits import places
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.meta import Json
from schemas.module import ModuleSpec

logger = structlog.get_logger("controlplane.reconcile.examining")

AT_ONCE = 16
"""How many inspections are asked for at a time; the inspector spreads them over a few processes."""

HOLD = 0.5
"""Seconds for which one counts there, so that code that hangs keeps nobody else's from being asked for."""

_REPORTS = 512
"""How many kept reports are remembered as read; one has a few KB, and a module's is read with each decision."""


class Inspector(Protocol):
    """Who imports code in a child and tells what it is; see `controlplane.inspection`."""

    @property
    def host_version(self) -> str:
        """The version of the host that inspects: another one may come to another answer."""
        ...

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """The report; a broken module is a report, not an exception."""
        ...


class Generation(Protocol):
    """Whose code it is: a record, or a sighting."""

    @property
    def name(self) -> str:
        """Of the module."""
        ...

    @property
    def uid(self) -> str:
        """Of the object."""
        ...

    @property
    def generation(self) -> int:
        """Which one."""
        ...


@dataclass(slots=True)
class _Job:
    started: float | None = None
    """When its turn came."""
    waiting: set[tuple[str, str]] = field(default_factory=set)
    """(module name, trial key) of everybody who wants the answer."""


@dataclass(slots=True)
class _Trial:
    """Attempts of one generation that brought no answer."""

    attempts: int = 0
    failures: int = 0
    due: float = 0.0
    report: InspectionReport | None = None


class Examiner:
    """Knows and runs inspections."""

    def __init__(
        self,
        inspector: Inspector,
        clock: Clock,
        backoff: Backoff,
        code_root: Path,
        wake: Callable[[str], None],
    ) -> None:
        self._inspector = inspector
        self._clock = clock
        self._backoff = backoff
        self._code_root = code_root
        self._wake = wake
        self._places = places.Places(AT_ONCE, HOLD)
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[str, InspectionReport] = {}
        self._trials: dict[str, _Trial] = {}
        self._asked: dict[str, tuple[str, int]] = {}
        """By module, (uid, generation) of whom an inspection was last begun, until one ends."""

    @property
    def ahead(self) -> int:
        """How many inspections wait for their turn."""
        return max(len(self._jobs) - AT_ONCE, 0)

    def look(self, reading: Reading, record: Record, spec: ModuleSpec) -> Examination:
        """What is known about the code of this generation."""
        if spec.source.digest is None:
            return Examination()
        key = key_of(spec, self._inspector.host_version)
        if (answer := self._answers.get(key)) is not None:
            return Examination(key, answer, unsaved=True)
        if (kept := _report(reading.inspection_text(key))) is not None:
            return Examination(key, kept)
        trial_key = _trial_key(key, record)
        if (kept := _report(reading.inspection_text(trial_key))) is not None:
            return Examination(trial_key, kept, attempts=ATTEMPTS)
        return self._unanswered(key, trial_key)

    def keys(self, who: Generation, spec: ModuleSpec) -> tuple[str, str]:
        """Under which keys a generation's answer may be kept: as that of its code, or as its own alone."""
        key = key_of(spec, self._inspector.host_version)
        return key, _trial_key(key, who)

    def knows(self, keys: tuple[str, str], kept: Collection[str]) -> bool:
        """Whether anything is known under these keys; ``kept``: those that the store has an answer for."""
        key, trial_key = keys
        return key in kept or trial_key in kept or key in self._answers or trial_key in self._trials

    @property
    def inspected(self) -> AbstractSet[str]:
        """The names of modules whose code is being inspected."""
        return self._asked.keys()

    def inspects(self, who: Generation) -> bool:
        """Whether this generation's code is being inspected: its module is woken when that ends."""
        return self._asked.get(who.name) == (who.uid, who.generation)

    def start(self, who: Generation, spec: ModuleSpec) -> None:
        """Begin an inspection of this generation's code, or join the one that runs."""
        key, trial_key = self.keys(who, spec)
        waiter = (who.name, trial_key)
        self._asked[who.name] = (who.uid, who.generation)
        job = self._jobs.get(key)
        if job is not None:
            job.waiting.add(waiter)
            return
        job = self._jobs[key] = _Job(waiting={waiter})
        task = asyncio.get_running_loop().create_task(self._run(key, job, self._request(key, who.name, spec)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kept(self, examination: Examination) -> None:
        """The answer is in the store now: drop it from memory."""
        self._answers.pop(examination.key, None)
        self._trials.pop(examination.key, None)

    async def stop(self) -> None:
        """End every running inspection and forget what was not stored."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._jobs.clear()
        self._answers.clear()
        self._trials.clear()
        self._asked.clear()

    def _unanswered(self, key: str, trial_key: str) -> Examination:
        now = self._clock.monotonic()
        job, trial = self._jobs.get(key), self._trials.get(trial_key)
        running_for = None
        if job is not None and any(w[1] == trial_key for w in job.waiting):
            running_for = 0.0 if job.started is None else now - job.started
        if trial is None:
            return Examination(key, running_for=running_for, ahead=self.ahead)
        given_up = trial.attempts >= ATTEMPTS
        return Examination(
            trial_key if given_up else key,
            trial.report,
            trial.attempts,
            running_for,
            0.0 if given_up else max(trial.due - now, 0.0),
            given_up,
            self.ahead,
        )

    def _request(self, key: str, name: str, spec: ModuleSpec) -> InspectionRequest:
        assert spec.source.digest is not None
        return InspectionRequest(
            id=key,
            root=str(self._code_root / digests.folder_name(spec.source.digest)),
            source_path=accepting.top_name(spec),
            digest=spec.source.digest,
            entry_point=spec.entry_point,
            name=name,
            config=spec.config,
        )

    async def _run(self, key: str, job: _Job, request: InspectionRequest) -> None:
        try:
            report, blameless = await self._places.run(self._ask(job, request))
        finally:
            self._jobs.pop(key, None)
        if report.outcome in (InspectionOutcome.OK, InspectionOutcome.FAILED):
            self._answers[key] = report
        for name, trial_key in sorted(job.waiting):
            if key in self._answers:
                self._trials.pop(trial_key, None)
            else:
                self._failed(trial_key, report, blameless=blameless)
            self._asked.pop(name, None)
            self._wake(name)

    async def _ask(self, job: _Job, request: InspectionRequest) -> tuple[InspectionReport, bool]:
        """The report, and whether only the inspector is to blame for it."""
        job.started = self._clock.monotonic()
        try:
            with tracing.span("inspect", module=request.name, attributes={"modplane.digest": request.digest}):
                return await self._inspector.inspect(request), False
        except Exception as problem:
            logger.exception("inspection unavailable", module=request.name, digest=request.digest)
            message = f"the inspection could not be run: {problem}; see the control plane's log"
            report = InspectionReport(
                id=request.id, outcome=InspectionOutcome.CRASHED, reason="InspectionUnavailable", message=message
            )
            return report, True

    def _failed(self, trial_key: str, report: InspectionReport, *, blameless: bool) -> None:
        trial = self._trials.setdefault(trial_key, _Trial())
        trial.report = report
        trial.failures += 1
        trial.attempts += 0 if blameless else 1
        trial.due = self._clock.monotonic() + self._backoff.delay(trial.failures)


def key_of(spec: ModuleSpec, host_version: str) -> str:
    """Under which key the answer about a spec's code is kept: what the answer depends on, in one hash."""
    parts = [spec.source.digest or "", spec.entry_point, canonical_json(spec.config), host_version]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def stored(examination: Examination) -> Json:
    """The report of an examination as it is kept."""
    assert examination.report is not None
    return examination.report.wire()


def _trial_key(key: str, who: Generation) -> str:
    return hashlib.sha256(f"{key}|{who.uid}|{who.generation}".encode()).hexdigest()


@functools.lru_cache(maxsize=_REPORTS)
def _report(kept: str | None) -> InspectionReport | None:
    if kept is None:
        return None
    try:
        return InspectionReport.model_validate_json(kept)
    except pydantic.ValidationError:
        return None
