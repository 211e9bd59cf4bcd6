"""What is known of one module when it is decided upon, and what a decision says: plain data, no behaviour.

`controlplane.reconcile.loading` makes `Facts`, `deciding` turns them into a `Decision`, `acting` stores it.
Everything is immutable, so the same facts give the same decision: in the loop, in a dry run, in the simulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controlplane.reconcile.dependencies import Neighbour
from controlplane.reconcile.fleet import FleetView
from controlplane.store.records import Claim, Contest, DesiredRow, Record
from schemas.inspections import InspectionReport
from schemas.kits.tracecontext import Traceparent
from schemas.module import DesiredModule, ModuleSpec, ModuleState, ModuleStatus

ATTEMPTS = 3
"""How many times code is inspected that crashes or runs out of time, before that counts as its answer."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What inspecting a generation's code has come to so far."""

    key: str = ""
    """Of the kept result: digest, entry point, configuration and host version in one hash."""
    report: InspectionReport | None = None
    """The answer, or the last failed attempt."""
    attempts: int = 0
    """How many attempts crashed or ran out of time."""
    running_for: float | None = None
    """Seconds since the running attempt started, 0 while it waits for its turn; None: none runs."""
    retry_in: float = 0.0
    """Seconds until the next attempt may start."""
    unsaved: bool = False
    """Whether the answer has to be stored with the next write."""
    ahead: int = 0
    """How many inspections wait for their turn."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One module, and all that its fate depends on."""

    record: Record
    spec: ModuleSpec | None
    """None: the stored spec cannot be read, see ``spec_error``."""
    status: ModuleStatus
    now: datetime
    spec_error: str = ""
    store_id: str = ""
    fleet: FleetView = field(default_factory=FleetView)
    examination: Examination = field(default_factory=Examination)
    graph: Mapping[str, Neighbour] = field(default_factory=dict)
    """Modules that can be reached over dependencies."""
    rivals: tuple[Claim, ...] = ()
    """Claims of other modules on the path shapes that this one needs, oldest first."""
    near: tuple[Claim, ...] = ()
    """Claims of other modules that may catch requests of this one's routes, oldest first."""
    refused: tuple[Contest, ...] = ()
    """Routes that other modules are refused on the path shapes that this one holds or needs, oldest first."""
    contests: tuple[Contest, ...] = ()
    """Routes that this module is refused, as far as is stored."""
    held: tuple[Claim, ...] = ()
    """Routes that this module holds."""
    desired: DesiredRow | None = None
    last_good: DesiredModule | None = None
    """What workers were told of ``status.last_good``, as far as it can be made again; only while it may be needed."""
    row_error: str | None = None
    """What is wrong with a person's last edit of this module's row."""
    deleting_for: float = 0.0
    """Seconds since deletion was asked for."""
    trace: Traceparent | None = None
    """In whose trace this generation came; None: it is older than traces, or the trace is that of who reads."""


class Action(StrEnum):
    """What else a decision asks for, beside writing conditions."""

    NOTHING = "nothing"
    INSPECT = "inspect"
    """Start a background inspection."""
    REGISTER = "register"
    """Take the claims and write the desired row."""
    RETURN = "return"
    """Write the row of the last good generation in place of this one's."""
    RELEASE = "release"
    """Give back the claims that only older generations needed."""
    WITHDRAW = "withdraw"
    """Turn the desired row into a tombstone."""
    FINALIZE = "finalize"
    """Give back every claim and our finalizer; the object goes if nobody else holds it."""
    REMOVE = "remove"
    """Nobody holds the deleted object any more: it goes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One lifecycle event to be announced."""

    from_: ModuleState | None
    to: ModuleState
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the facts."""

    status: ModuleStatus
    action: Action = Action.NOTHING
    steps: tuple[Step, ...] = ()
    desired: DesiredModule | None = None
    """With REGISTER and RETURN: what workers are to serve."""
    requeue_after: float | None = None
    """Seconds after which time alone may change the answer; None: only events do."""
    awaits_fleet: bool = False
    """Whether a worker's report may change the answer."""
    awaits_claims: bool = False
    """Whether the release of somebody's claims may change the answer."""
    contests: tuple[Contest, ...] | None = None
    """What the module is refused; None: as it is stored."""
    touching: frozenset[str] | None = None
    """Modules that say something of this one's routes, or of whose routes this one does; None: as it was."""
