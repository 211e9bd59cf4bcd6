"""What a worker says of itself every few seconds and on change, and the kind Worker made of it."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from schemas.meta import Model, ObjectMeta
from schemas.module import CircuitState


class WorkerState(StrEnum):
    """How a worker's applied set stands to the desired one."""

    SYNCED = "synced"
    """The verified desired set is applied, with nothing pending or rejected."""
    DEGRADED = "degraded"
    """The verified desired set is applied but for the pending and rejected modules."""
    OUT_OF_SYNC = "out_of_sync"
    """The desired set is newer, unverified or contradictory; the last good state serves."""
    EMPTY = "empty"
    """Synced, and the desired set is empty."""
    NEVER_LOADED = "never_loaded"
    """Nothing was ever applied in this boot."""


class Pending(Model):
    """A module whose latest document is not applied yet but may be."""

    module: str
    generation: int
    since: datetime
    next_retry: datetime | None = None
    reason: str
    """CamelCase, for programs."""
    message: str = ""


class Rejected(Model):
    """A module whose latest document this worker refused for good (until code, configuration or host change).

    Of other kinds, a document that cannot be believed or read.
    """

    module: str
    """Its name; of other kinds the key, such as ``flag.beta``."""
    generation: int
    reason: str
    message: str
    serving_since: datetime | None = None
    """Since when the last good generation serves instead; None: nothing serves."""


class HealthState(StrEnum):
    """What a module's own check says, on one worker."""

    UNKNOWN = "unknown"
    """Not enough checks were made since it serves."""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Ailing(Model):
    """A module that serves here and is not known to be well."""

    module: str
    generation: int
    """That serves."""
    state: HealthState = HealthState.HEALTHY
    reason: str = ""
    """CamelCase, why the check fails; empty unless it does."""
    message: str = ""
    since: datetime
    """When `state` was entered."""
    rebuilds: int = 0
    """How many fresh instances were made since then."""
    out: bool = False
    """Whether its routes answer 503 here, since a fresh instance did not help."""
    circuit: CircuitState = CircuitState.CLOSED
    circuit_message: str = ""
    """What opened the circuit."""


class Trial(Model):
    """How the calls of a generation ended here so far that the control plane watches (``rollout.bakeSeconds``)."""

    module: str
    generation: int
    calls: int = 0
    errors: int = 0
    """With 5xx, or without an answer in time."""


class LastGoodState(StrEnum):
    """How the worker's last good state stands on its disk."""

    NONE = "none"
    """Nothing was ever written for this worker."""
    SAVED = "saved"
    """The file holds what this worker acknowledges."""
    REFUSED = "refused"
    """A file was there and could not be believed; it was set aside, and nothing was written since."""
    FAILING = "failing"
    """The file cannot be written: nothing new is acknowledged until it can."""


class LastGood(Model):
    """The last good state on a worker's disk, from which it starts with everything else dead."""

    state: LastGoodState = LastGoodState.NONE
    restored: bool = False
    """Whether this boot began from the file."""
    epoch: int = 0
    revision: int = 0
    """Of the set in the file."""
    saved_at: datetime | None = None
    """When that set was written; its age is the worker's worst case after a restart."""
    message: str = ""
    """For people: what is wrong with the file, and what to do."""


class WorkerReport(Model):
    """The document of one worker in ``MODPLANE_WORKERS``.

    Applied (epoch, revision) means that every document up to it is on this worker's disk, and applied, pending or
    rejected.
    """

    id: str
    boot: str
    """8 random hex digits per process start."""
    replaces: str = ""
    """Boot of the process of the same slot that serves beside this one until it has drained; empty: none."""
    labels: dict[str, str] = {}
    address: str = ""
    """URL of this worker's own door."""
    host_version: str = ""
    store: str = ""
    """Id of the store whose desired state is applied."""
    observed_epoch: int = 0
    observed_revision: int = 0
    """Of the newest head seen."""
    applied_epoch: int = 0
    applied_revision: int = 0
    set_hash: str = ""
    modules: int = 0
    """How many modules serve."""
    pinned: int = 0
    """How many unloaded generations were not collected, because something holds on to them."""
    state: WorkerState = WorkerState.NEVER_LOADED
    message: str = ""
    """Why the state is not ``synced``, for people."""
    last_good: LastGood = LastGood()
    synced: bool = False
    """Whether the first sync of this boot is finished; only then does the worker count."""
    leaving: bool = False
    pending: list[Pending] = []
    rejected: list[Rejected] = []
    ailing: list[Ailing] = []
    checked: dict[str, int] = {}
    """Unix time of the last check of each module that has a check of its own."""
    trials: list[Trial] = []
    sequence: int = 0
    """Counts reports within a boot."""
    loop_lag_seconds: float = 0.0
    loop_blocks: int = 0
    """How many times in this boot something held the serving loop for too long."""
    memory_bytes: int = 0
    started_at: datetime
    reported_at: datetime


class WorkerStatus(Model):
    """What the control plane knows of a worker."""

    report: WorkerReport | None = None
    lost: bool = False


class Worker(Model):
    """One data-plane process (read only)."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["Worker"] = "Worker"
    metadata: ObjectMeta = ObjectMeta()
    status: WorkerStatus = WorkerStatus()
