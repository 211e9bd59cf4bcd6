"""What could not be served, and what becomes of it: what will fail again is quarantined, what may heal is tried again.

Quarantine is by code, configuration and host version (`planning.fingerprint`), so that no second attempt is spent on
the same; retries back off.  Only words are kept.  Called by `dataplane.agent.applying`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dataplane.agent import planning
from dataplane.agent.holding import Wanted
from dataplane.errors import DataPlaneError
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock
from schemas.reports import Pending, Rejected

QUARANTINE_SIZE: Final = 10_000


@dataclass(slots=True)
class _Failed:
    """The last attempt at a module: words only, since an exception would keep the module's frames alive."""

    module: Wanted
    reason: str
    message: str
    failures: int
    since: datetime
    retry_at: float | None
    next_retry: datetime | None


class Failures:
    """The last failed attempt at each module, and the quarantine."""

    def __init__(self, wanted: Mapping[str, Wanted], clock: Clock, backoff: Backoff, host_version: str) -> None:
        """``wanted``: what is to be served now, by name; looked at each time, never changed here."""
        self._wanted = wanted
        self._clock = clock
        self._backoff = backoff
        self._host_version = host_version
        self._failed: dict[str, _Failed] = {}
        self._quarantine: dict[planning.Fingerprint, tuple[str, str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._failed

    def names(self) -> list[str]:
        """Whose last attempt failed."""
        return list(self._failed)

    def note(self, module: Wanted, error: DataPlaneError, *, again: bool) -> float | None:
        """An attempt failed; in how many seconds it is made again, None: never."""
        before = self._failed.get(module.name)
        if before is not None and not self._latest(before):
            before = None
        failures = 1 if before is None else before.failures + 1
        delay = self._backoff.delay(failures) if again else None
        now = self._clock.now()
        self._failed[module.name] = _Failed(
            module,
            error.reason,
            error.message,
            failures,
            now if before is None else before.since,
            None if delay is None else self._clock.monotonic() + delay,
            None if delay is None else now + timedelta(seconds=delay),
        )
        return delay

    def forget(self, name: str) -> None:
        """It serves, or nobody wants it any more."""
        self._failed.pop(name, None)

    def quarantine(self, module: Wanted, reason: str, message: str) -> None:
        """The same would fail in the same way."""
        if len(self._quarantine) >= QUARANTINE_SIZE:
            self._quarantine.pop(next(iter(self._quarantine)))
        self._quarantine[planning.fingerprint(module, self._host_version)] = (reason, message)

    def quarantined(self, module: Wanted) -> tuple[str, str] | None:
        """Reason and message of how it would fail, if that is known."""
        if not self._quarantine:
            return None
        return self._quarantine.get(planning.fingerprint(module, self._host_version))

    def facts(self) -> dict[str, planning.Failure]:
        """As planning reads them."""
        return {
            name: planning.Failure(failed.module.uid, failed.module.digest, failed.retry_at)
            for name, failed in self._failed.items()
        }

    @property
    def any_latest(self) -> bool:
        """Whether something failed that is still wanted as it is."""
        return any(self._latest(failed) for failed in self._failed.values())

    def pending(self) -> dict[str, Pending]:
        """What is tried again, by name."""
        return {
            name: Pending(
                module=name,
                generation=failed.module.generation,
                since=failed.since,
                next_retry=failed.next_retry,
                reason=failed.reason,
                message=failed.message,
            )
            for name, failed in self._failed.items()
            if failed.retry_at is not None and self._latest(failed)
        }

    def rejected(self, serving: Mapping[str, datetime]) -> list[Rejected]:
        """What is refused for good; ``serving``: since when an older generation serves instead."""
        return [
            Rejected(
                module=name,
                generation=failed.module.generation,
                reason=failed.reason,
                message=failed.message,
                serving_since=serving.get(name),
            )
            for name, failed in sorted(self._failed.items())
            if failed.retry_at is None and self._latest(failed)
        ]

    def _latest(self, failed: _Failed) -> bool:
        wanted = self._wanted.get(failed.module.name)
        return wanted is not None and (wanted.uid, wanted.digest) == (failed.module.uid, failed.module.digest)
