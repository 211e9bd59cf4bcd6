"""Who a worker is and how it stands, as the serving side may read it at any moment.

Immutable values: made by `dataplane.agent.living` on the agent's loop, read by `dataplane.app` through
`dataplane.agent.agents` from the serving loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.meta import Json
from schemas.reports import LastGood, LastGoodState, WorkerReport, WorkerState


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is."""

    id: str
    boot: str
    labels: Mapping[str, str]
    address: str
    started_at: datetime
    replaces: str = ""
    """Boot of the process that serves this slot until this one does."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How the worker stands, as the serving side may read it at any moment."""

    state: WorkerState
    since: datetime
    synced: bool
    connected: bool
    trouble: str
    beat_age: float | None
    report: WorkerReport | None
    reason: str
    """Why the state is not ``synced``."""
    last_good: LastGood

    def readiness(self, now: datetime) -> Json:
        """What ``/ready`` shows."""
        return {
            "ready": self.state is not WorkerState.NEVER_LOADED,
            "state": self.state.value,
            "reason": self.reason,
            "since": self.since.isoformat(),
            "lastGood": self.kept(now),
        }

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Named parts: whether each works, and why not; only ``routes`` keeps requests away."""
        doubted = self.state in (WorkerState.OUT_OF_SYNC, WorkerState.NEVER_LOADED)
        kept = self.last_good.state in (LastGoodState.NONE, LastGoodState.SAVED)
        return {
            "routes": (self.state is not WorkerState.NEVER_LOADED, self.reason),
            "nats": (self.connected, self.trouble or "no connection yet"),
            "desiredState": (not doubted, self.reason),
            "modules": (self.state is not WorkerState.DEGRADED, self.reason),
            "lastGood": (kept, self.last_good.message),
        }

    def kept(self, now: datetime) -> Json:
        """The last good state on disk, with its age in seconds."""
        saved_at = self.last_good.saved_at
        age = None if saved_at is None else round(max((now - saved_at).total_seconds(), 0.0), 3)
        return self.last_good.wire() | {"ageSeconds": age}
