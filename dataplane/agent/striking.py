"""Modules whose code holds the serving loop, again and again: the worker that they hold goes on without them.

One block may be bad luck (a cold cache, a slow disk); `STRIKES` within `WITHIN_SECONDS` are the module's way.  Then its
code, configuration and host version (`planning.fingerprint`) are refused as `LoopBlocked` on this worker until one of
them changes, also by later processes of the same slot: a file beside the last good state remembers.  It holds no
secrets, only digests, names and places; if it cannot be written, a restart forgets.

Called by `dataplane.agent.applying` with what `dataplane.gateway.watching` saw.
"""

import contextlib
import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from dataplane.agent import planning
from dataplane.agent.holding import Wanted
from schemas.kits.clocks import Clock
from schemas.meta import Model

logger = structlog.get_logger("dataplane.agent.striking")

STRIKES: Final = 3
WITHIN_SECONDS: Final = 600.0
REASON: Final = "LoopBlocked"
_KEPT: Final = 1_000


class _Entry(Model):
    """What one module did."""

    module: str
    digest: str
    """Of the code."""
    place: str = ""
    """Where it was seen last."""
    at: list[datetime] = []
    condemned: bool = False


class _Record(Model):
    """The file."""

    entries: dict[str, _Entry] = {}
    """By the SHA-256 of the fingerprint."""


class Strikes:
    """Who held the loop of one worker slot."""

    def __init__(self, file: Path, *, worker: str, host_version: str, clock: Clock) -> None:
        self._file = file
        self._worker = worker
        self._host_version = host_version
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def recall(self) -> None:
        """Read what earlier processes saw."""
        with contextlib.suppress(OSError, ValidationError):
            self._entries = dict(_Record.model_validate_json(self._file.read_bytes()).entries)

    def add(self, module: Wanted, place: str) -> str | None:
        """It held the loop once more: the verdict, if this was once too often."""
        now = self._clock.now()
        mark = self._mark(module)
        before = self._entries.pop(mark, None) or _Entry(module=module.name, digest=module.desired.digest)
        since = now - timedelta(seconds=WITHIN_SECONDS)
        at = [*(each for each in before.at if since < each <= now), now][-STRIKES:]
        condemned = before.condemned or len(at) >= STRIKES
        self._entries[mark] = before.model_copy(update={"at": at, "place": place, "condemned": condemned})
        while len(self._entries) > _KEPT:
            self._entries.pop(next(iter(self._entries)))
        self._save()
        return self.verdict(module)

    def verdict(self, module: Wanted) -> str | None:
        """Why the module is not to serve here any more; None: it may."""
        entry = self._entries.get(self._mark(module)) if self._entries else None
        if entry is None or not entry.condemned:
            return None
        where = f", last at {entry.place}" if entry.place else ""
        return (
            f"its code held the serving loop of worker {self._worker} {STRIKES} times within "
            f"{WITHIN_SECONDS / 60:g} minutes{where}, so that nobody else was served; write 'def' instead of 'async "
            "def' for what waits or computes, or await it; change the code or its configuration, or, if the host was "
            f"to blame, remove {self._file.name} from {self._file.parent} and restart the worker"
        )

    def _mark(self, module: Wanted) -> str:
        return hashlib.sha256(planning.fingerprint(module, self._host_version).encode()).hexdigest()

    def _save(self) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(_Record(entries=self._entries).model_dump_json(by_alias=True, indent=2), encoding="utf-8")
            fresh.replace(self._file)
        except OSError as error:
            logger.warning("blocks not recorded", path=str(self._file), error=str(error))
