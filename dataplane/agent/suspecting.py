"""Remembers across deaths which module a worker was loading when it died, so that it can start without it.

While a module is built or started its fingerprint stands in a small file, locked for as long as the process lives; it
goes when the module serves or fails in good order.  A file that nobody locks any more is a death: it is counted in
``<worker>.deaths.json``.  Two deaths for one fingerprint (code, configuration, routes, host version) condemn it:
it is rejected as `CrashedWorker` until one of them changes, and the others load.  Of several that were in the making
only those are blamed that were so at an earlier death too, if any; and suspects are loaded one after the other.

Files hold no secrets, only digests and names; a folder that cannot be written costs this protection and nothing else.
Called by `dataplane.agent.living` and `dataplane.agent.applying`.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from dataplane.agent import loading, planning
from dataplane.agent.holding import Wanted
from dataplane.gateway import serving
from schemas.kits.clocks import Clock
from schemas.meta import Model

logger = structlog.get_logger("dataplane.agent.suspecting")

DEATHS: Final = 2
"""So many deaths condemn: one may be anybody's kill or a lack of memory."""
REASON: Final = "CrashedWorker"
_KEPT: Final = 1_000
_MARKS: Final = 64


class _Entry(Model):
    """What was being loaded, or what is known to have been."""

    mark: str
    """SHA-256 of the fingerprint."""
    module: str
    uid: str
    digest: str
    """Of the code."""
    deaths: int = 0
    last: datetime | None = None


class _Marker(Model):
    """The file of one living process."""

    entries: list[_Entry] = []


class Suspects:
    """The modules that one worker slot has died of, or may die of now."""

    def __init__(self, folder: Path, *, worker: str, boot: str, host_version: str, clock: Clock) -> None:
        self._folder = folder
        self._worker = worker
        self._host_version = host_version
        self._clock = clock
        self._marker = folder / f"{worker}.{boot}.loading"
        self._record = folder / f"{worker}.deaths.json"
        self._lock = threading.Lock()
        self._known: dict[str, _Entry] = {}
        self._making: dict[int, _Entry] = {}
        self._next = 0
        self._descriptor: int | None = None
        self._failed = False
        self._marks: dict[str, str] = {}
        """By payload: all that makes a fingerprint stands in it, but for the host's version."""

    def recall(self) -> None:
        """Read what is known, and count the deaths since."""
        with contextlib.suppress(OSError, ValidationError):
            self._known = {
                entry.mark: entry for entry in _Marker.model_validate_json(self._record.read_bytes()).entries
            }
        found = False
        for marker in sorted(self._folder.glob(f"{self._worker}.*.loading")):
            entries = _left_behind(marker)
            if entries is not None:
                found = self._count(entries) or found
                marker.unlink(missing_ok=True)
        if found:
            self._save()

    def suspected(self, module: Wanted) -> bool:
        """Whether this process's predecessors died while they loaded it."""
        return bool(self._known) and self._mark(module) in self._known

    def verdict(self, module: Wanted) -> str | None:
        """Why the module is not to be loaded any more; None: it may be."""
        entry = self._known.get(self._mark(module))
        if entry is None or entry.deaths < DEATHS:
            return None
        when = "" if entry.last is None else f", last at {entry.last.isoformat(timespec='seconds')}"
        return (
            f"worker {self._worker} died {entry.deaths} times while it loaded this module{when}, so it goes on without "
            "it; change the code or its configuration, or, if the host was to blame, remove "
            f"{self._record.name} from {self._folder} and restart the worker"
        )

    @contextlib.contextmanager
    def watching(self, module: Wanted) -> Iterator[None]:
        """While this lasts a death is this module's; after it the module is innocent."""
        mark = self._mark(module)
        with self._lock:
            self._next += 1
            turn = self._next
            entry = _Entry(mark=mark, module=module.name, uid=module.uid, digest=module.desired.digest)
            self._making[turn] = entry
            self._write()
        try:
            yield
        finally:
            with self._lock:
                del self._making[turn]
                self._write()

    def acquit(self, module: Wanted) -> None:
        """It was loaded and started, or failed in good order: what died before did not die of it."""
        with self._lock:
            if self._known.pop(self._mark(module), None) is not None:
                self._save()

    def watched(self, build: loading.Build) -> loading.Build:
        """The same build, watched."""

        def watching(module: Wanted) -> serving.Loaded:
            with self.watching(module):
                return build(module)

        return watching

    def close(self) -> None:
        """The process ends in good order."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            self._failed = True
            if descriptor is not None:
                with contextlib.suppress(OSError):  # its folder may be gone or in the way by now
                    self._marker.unlink(missing_ok=True)
                os.close(descriptor)

    def _mark(self, module: Wanted) -> str:
        """The mark of a module's fingerprint; of one on its way it is asked for several times, so the last are kept."""
        mark = self._marks.get(module.digest)
        if mark is None:
            mark = hashlib.sha256(planning.fingerprint(module, self._host_version).encode()).hexdigest()
            if len(self._marks) >= _MARKS:
                self._marks.clear()
            self._marks[module.digest] = mark
        return mark

    def _count(self, entries: list[_Entry]) -> bool:
        again = [entry for entry in entries if entry.mark in self._known]
        for entry in again or entries:
            before = self._known.get(entry.mark)
            deaths = 1 if before is None else before.deaths + 1
            logger.error("worker died while loading", module=entry.module, digest=entry.digest, deaths=deaths)
            self._known = {mark: known for mark, known in self._known.items() if known.uid != entry.uid}
            self._known[entry.mark] = entry.model_copy(update={"deaths": deaths, "last": self._clock.now()})
        while len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known)))
        return bool(entries)

    def _save(self) -> None:
        fresh = self._record.with_suffix(".new")
        try:
            fresh.write_text(_Marker(entries=list(self._known.values())).model_dump_json(by_alias=True, indent=2))
            fresh.replace(self._record)
        except OSError as error:
            logger.warning("deaths not recorded", path=str(self._record), error=str(error))

    def _write(self) -> None:
        """What is in the making, in one write: a dying process leaves the old line or the new one."""
        if self._failed:
            return
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            line = _Marker(entries=list(self._making.values())).model_dump_json(by_alias=True).encode() + b"\n"
            os.pwrite(self._descriptor, line, 0)
        except OSError as error:
            self._failed = True
            logger.warning("what is loading cannot be noted", path=str(self._marker), error=str(error))

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._marker, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor


def _left_behind(marker: Path) -> list[_Entry] | None:
    """What a process that died was loading; None if it lives."""
    try:
        with marker.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _Marker.model_validate_json(file.readline()).entries
    except (OSError, ValidationError) as error:
        return None if isinstance(error, OSError) else []
