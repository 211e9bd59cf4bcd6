"""What the management API answers, as models: they make its OpenAPI document, with an example of each answer.

The handlers build plain JSON (`summarising`, `contending`), which a test holds to these models.  Names are the seed's:
snake case, module ids, small states.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from schemas import names

_AT = "2030-01-01T12:00:00.000000Z"
_PATH = f"{names.MODULES_PREFIX}/v1/analytics-core"

State = Literal["discovered", "validated", "registered", "active", "error", "unregistered"]


class Answer(BaseModel):
    """An answer of the management API."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ModuleSummary(Answer):
    """One line about a module."""

    module_id: str = Field(examples=["analytics_core"])
    name: str = Field(examples=["Analytics Core"])
    state: State = Field(examples=["active"])
    version: str | None = Field(examples=["1.0.0"])
    type: str | None = Field(examples=["analytics"])
    stage: str | None = Field(examples=["development"])
    namespace: str = Field(examples=["analytics-core"])
    path: str = Field(examples=[_PATH])
    labels: dict[str, str] = Field(examples=[{"team": "insights"}])
    health: Literal["healthy", "unhealthy", "unknown"] = Field(examples=["healthy"])
    generation: int = Field(examples=[3])
    deleting: bool


class ModuleList(Answer):
    """A page of modules, in the order of their names."""

    modules: list[ModuleSummary]
    total: int = Field(examples=[1])
    """How many there are from this page on."""
    next: str | None = None
    """What to give as ``after`` for the next page; null: this is the last."""


class ModuleHealth(Answer):
    """What the workers' checks say."""

    status: Literal["healthy", "unhealthy", "unknown"] = Field(examples=["healthy"])
    last_check: datetime | None = Field(examples=[_AT])
    """When the newest check was made; of a module without one, when a worker last said that it serves it."""
    since: datetime | None = Field(examples=[_AT])
    """When the status last changed."""
    reason: str = Field(examples=["ChecksPass"])
    message: str = Field(examples=["the module's own check says that it is well"])
    unhealthy: int = 0
    """On how many workers the check fails."""
    out: int = 0
    """On how many of them the routes answer 503."""
    circuit: Literal["closed", "half_open", "open"] = "closed"
    """The worst of any worker."""


class Serving(Answer):
    """A generation that was programmed."""

    generation: int = Field(examples=[3])
    digest: str = ""
    version: str = Field("", examples=["1.0.0"])
    since: datetime = Field(examples=[_AT])
    reason: str = Field("", examples=["Newest"])


class Condition(Answer):
    """One observation about a module."""

    type: str = Field(examples=["Ready"])
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(examples=["Serving"])
    message: str = Field(examples=["this generation serves"])
    observed_generation: int = Field(examples=[3])
    last_transition_time: datetime | None = Field(examples=[_AT])


class ModuleDetail(ModuleSummary):
    """All that is seen of a module."""

    health: ModuleHealth  # type: ignore[assignment]  # in the list a word, here the whole
    observed_generation: int = Field(examples=[3])
    error: str | None
    """Why only a person can bring it further; null: nothing is in the way."""
    routes: list[dict[str, Any]] = Field(examples=[[{"method": "GET", "path": "/dashboard/overview", "auth": "BASIC"}]])
    workers: dict[str, int] = Field(examples=[{"desired": 2, "applied": 2, "rejected": 0, "joining": 0, "lost": 0}])
    serving: Serving | None
    last_good: Serving | None
    conditions: list[Condition]
    created_at: datetime = Field(examples=[_AT])
    deleted_at: datetime | None
    permissions: list[str] = Field(examples=[["read_analytics"]])
    dependencies: list[dict[str, Any]]
    row_error: str | None
    """Why the last edit of the module's SQL row was refused."""


class Deletion(Answer):
    """How a deletion stands."""

    module_id: str = Field(examples=["analytics_core"])
    deleted: bool
    """Whether it is gone already."""
    deleting: bool


class Failure(Answer):
    """A source that could not be taken."""

    path: str
    message: str


class Discovery(Answer):
    """What a scan of the modules path came to; lists hold module names."""

    scanned: int = Field(examples=[4])
    applied: list[str] = Field(examples=[["analytics-core"]])
    unchanged: list[str]
    updated: list[str]
    pinned: list[str]
    missing: list[str]
    prunable: list[str]
    deleted: list[str]
    held: str | None
    inspecting: list[str]
    failed: list[Failure]
    durationSeconds: float = Field(examples=[0.12])  # noqa: N815 - sent so since the first version


class Transition(Answer):
    """One step of a module's life."""

    event_id: str
    module_id: str = Field(examples=["analytics_core"])
    uid: str | None
    sequence: int | None = Field(examples=[4])
    generation: int | None = Field(examples=[1])
    from_: State | None = Field(alias="from", examples=["registered"])
    state: State = Field(examples=["active"])
    reason: str | None = Field(examples=["Applied"])
    message: str = Field(examples=["2 workers have applied this generation"])
    at: datetime = Field(examples=[_AT])


class Transitions(Answer):
    """Steps, the newest first."""

    events: list[Transition]


class Conflict(Answer):
    """A route that a module is refused, since another holds it."""

    api_version: str = Field(examples=["v1"])
    namespace: str = Field(examples=["shop"])
    method: str = Field(examples=["GET"])
    path: str = Field(examples=["/users/{name}"])
    shape: str = Field(examples=["/users/{}"])
    refused: str = Field(examples=["other_shop"])
    owner: str = Field(examples=["shop"])
    owner_path: str = Field(examples=["/users/{id}"])
    owner_since: datetime = Field(examples=[_AT])
    since: datetime = Field(examples=[_AT])


class Shadow(Answer):
    """A route some of whose requests another module's route answers."""

    api_version: str = Field(examples=["v1"])
    namespace: str = Field(examples=["shop"])
    methods: list[str] = Field(examples=[["GET"]])
    path: str = Field(examples=["/users/{id}"])
    shape: str = Field(examples=["/users/{}"])
    shadowed: str = Field(examples=["shop"])
    owner: str = Field(examples=["shop_admin"])
    owner_path: str = Field(examples=["/users/me"])
    reason: Literal["left_open", "more_specific"]
    whole: bool
    example: str = Field(examples=["/users/me"])
    since: datetime = Field(examples=[_AT])


class Conflicts(Answer):
    """Contested and shadowed routes, the oldest first."""

    conflicts: list[Conflict]
    shadowed: list[Shadow]
    complete: bool


class WorkerSummary(Answer):
    """One worker, as it reported last."""

    worker_id: str = Field(examples=["w0"])
    lost: bool
    """Whether it fell silent."""
    state: str | None = Field(examples=["synced"])
    message: str = ""
    boot: str | None = Field(examples=["0f1e2d3c"])
    address: str | None = Field(examples=["http://127.0.0.1:40123"])
    labels: dict[str, str] = Field(examples=[{"zone": "b"}])
    modules: int = Field(examples=[4])
    pending: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    ailing: list[dict[str, Any]]
    """Modules that are not known to be well there, with the state of their circuit."""
    applied_revision: int = Field(examples=[120])
    host_version: str | None
    started_at: datetime | None = Field(examples=[_AT])
    joined_at: datetime = Field(examples=[_AT])


class Workers(Answer):
    """Every worker that is known, by id."""

    workers: list[WorkerSummary]
    total: int = Field(examples=[1])


class Metrics(RootModel[dict[str, dict[str, Any]]]):
    """What was counted, by what one entry tells of."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "analytics_core:/dashboard/overview": {
                    "call_count": 4711, "error_count": 3, "total_duration_ms": 8123.4, "avg_duration_ms": 1.72,
                    "success_rate": 0.9994,
                }
            }
        }
    )  # fmt: skip


class TraceStep(Answer):
    """One piece of work of a change."""

    id: str = Field(examples=["b7ad6b7169203331"])
    parent: str | None
    """The step that it belongs to."""
    name: str = Field(examples=["load"])
    who: str = Field(examples=["w0"])
    """``controlplane``, or the worker."""
    start_ms: float = Field(examples=[12.5])
    """Since the first step began."""
    duration_ms: float = Field(examples=[41.2])
    error: str | None


class SlowestWorker(Answer):
    """The worker that was done last."""

    id: str = Field(examples=["w0"])
    done_after_ms: float = Field(examples=[84.0])


class Trace(Answer):
    """What the last change of a module took, step by step."""

    module_id: str = Field(examples=["analytics_core"])
    generation: int = Field(examples=[3])
    trace_id: str = Field(examples=["0af7651916cd43dd8448eb211c80319c"])
    began_at: datetime = Field(examples=[_AT])
    duration_ms: float = Field(examples=[84.0])
    slowest_worker: SlowestWorker | None
    """Null: no worker has told yet."""
    steps: list[TraceStep]


class LogLine(Answer):
    """One line of a module."""

    number: int = Field(examples=[17])
    at: datetime = Field(examples=[_AT])
    level: str = Field(examples=["stdout"])
    """``stdout``, ``stderr``, or the level of a log record."""
    text: str = Field(examples=["12 rows loaded"])


class WorkerLog(Answer):
    """The lines of a module on one worker."""

    id: str = Field(examples=["w0"])
    boot: str = Field(examples=["5e0c6f1a"])
    dropped: int = Field(examples=[0])
    """Lines that were too many for the worker's log, since its start."""
    last: int | None = Field(examples=[17])
    """The number of the last line; null: there is none that the asker does not have."""
    lines: list[LogLine]


class ModuleLogs(Answer):
    """What a module printed and logged last."""

    module_id: str = Field(examples=["analytics_core"])
    workers: list[WorkerLog]
    silent: list[str]
    """Workers that did not answer in time."""


class AuditPage(Answer):
    """Records of the audit trail, the oldest first."""

    records: list[dict[str, Any]]
    next: int | None
    """Where the next page begins; null: there is none."""


class AuditVerification(BaseModel):
    """What a walk along the whole trail found."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    ok: bool
    """Whether nobody touched it."""


class Check(Answer):
    """One part of the process."""

    ok: bool
    reason: str = ""
    """What is wrong, and what to do."""
    since: datetime | None = Field(None, examples=[_AT])


class SystemHealth(Answer):
    """How the whole platform is, as far as this process knows."""

    status: Literal["healthy", "degraded", "unhealthy"]
    """``unhealthy``: a part of this process does not work; ``degraded``: a module or worker is not as it should be."""
    reasons: list[str] = Field(examples=[["module shop: no database (CheckFailed)"]])
    checks: dict[str, Check]
    modules: dict[str, int] | None = Field(examples=[{"active": 4}])
    """How many are in which state; null: the database does not answer."""
    workers: dict[str, int] | None = Field(examples=[{"synced": 2}])
    checked_at: datetime = Field(examples=[_AT])


class Readiness(Answer):
    """Whether the process can do all its work."""

    status: Literal["ready", "not ready"]
    ready: bool
    checks: dict[str, Check]


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"]


class Information(BaseModel):
    """What the process says of itself; there may be more."""

    model_config = ConfigDict(extra="allow")
    plane: Literal["control"] = "control"
    version: str = Field("", examples=["0.1.0"])
