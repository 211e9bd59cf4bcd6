"""Kind Module: one hosted module, what is asked for it (spec) and what is seen of it (status)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas import names
from schemas.meta import Condition, Json, Model, Name, ObjectMeta
from schemas.policies import AuthRequirement, EffectivePolicy

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class ModuleState(StrEnum):
    """Where the latest generation of a module stands; a projection of conditions, never a second truth."""

    DISCOVERED = "DISCOVERED"
    VALIDATED = "VALIDATED"
    REGISTERED = "REGISTERED"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"
    UNREGISTERED = "UNREGISTERED"


class ModuleType(StrEnum):
    """What a module is for."""

    CORE = "core"
    ANALYTICS = "analytics"
    INTEGRATION = "integration"
    VISUALIZATION = "visualization"
    REPORTING = "reporting"
    AI_ML = "ai_ml"


class ModuleStage(StrEnum):
    """How far a module's owners consider it grown."""

    DEVELOPMENT = "development"
    TESTING = "testing"
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


class Source(Model):
    """Where a module's code is."""

    path: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Below the modules path; default: the entry point's top package."""
    digest: Digest | None = None
    """The packed code; set by discovery, or pinned by a person."""


class Routing(Model):
    """The address of a module's routes: ``/api/v1/modules/{apiVersion}/{namespace}/…``."""

    api_version: Literal["v1", "v2", "v3"] = "v1"
    namespace: Name | None = None
    """Default: the module's name."""


class Dependency(Model):
    """Another module that has to serve before this one is first registered."""

    name: Word
    version: str = "*"
    """A range in npm's grammar, such as ``>=1.2 <2`` or ``^1.4``."""


class HealthPolicy(Model):
    """How workers check a module's health."""

    interval_seconds: Annotated[float, Field(ge=1, le=3600)] = 10
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3


class BreakerPolicy(Model):
    """When a worker stops handing calls to a module that fails most of them; kept by each worker for itself."""

    error_percent: Annotated[int, Field(ge=1, le=100)] = 50
    """Share of calls with 5xx or no answer in time from which on the circuit opens."""
    slow_percent: Annotated[int, Field(ge=1, le=100)] = 80
    """The same for calls whose answer took more than three quarters of ``limits.timeoutSeconds`` to begin."""
    minimum_calls: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Fewer calls within the window say nothing."""
    window_seconds: Annotated[float, Field(ge=1, le=600)] = 10
    open_seconds: Annotated[float, Field(ge=1, le=600)] = 5
    """How long an open circuit refuses calls before a few are let through; doubles while these fail, up to 60 s."""


class Limits(Model):
    """What one module may take of a worker; kept by each worker for itself."""

    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """Until the response starts, or a WebSocket is accepted; then the caller gets 504."""
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300
    """How long nothing may move in a response that has started, or in a WebSocket; then it is cut off."""
    max_body_bytes: Annotated[int, Field(ge=0, le=1 << 34)] = 1_048_576
    """Of a request's body, or of one WebSocket message; a larger one gets 413, or ends the WebSocket with 1009."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Requests and WebSockets inside the module at once; more get 503 with Retry-After."""
    max_threads: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Of the thread pool that runs ``def`` handlers."""


class Placement(Model):
    """Which workers serve a module."""

    worker_selector: dict[str, str] = {}
    """Labels that a worker must carry, all of them; empty selects every worker."""


class Rollout(Model):
    """How a new generation is taken into use."""

    bake_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    """How long a generation has to prove itself once it serves; 0: it is believed at once."""
    error_percent: Annotated[int, Field(ge=1, le=100)] = 5
    """Share of calls with 5xx or no answer in time above which a generation that is baking is given up."""
    minimum_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Fewer calls of all workers together say nothing about the share."""


class Loading(StrEnum):
    """When a worker loads a module's code."""

    EAGER = "eager"
    """At once."""
    LAZY = "lazy"
    """At the first call, or in idle time: accepted, and not acted on yet."""


class Tenancy(StrEnum):
    """Whether callers need their organisation's ModuleAccess."""

    SHARED = "shared"
    ORGANISATION = "organisation"


class ModuleSpec(Model):
    """What is asked for a module."""

    entry_point: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=256)
    ]
    """Python module ``:`` attribute, inside the module's own source."""
    source: Source = Source()
    version: Annotated[str, StringConstraints(max_length=128)] = "0.0.0"
    """The module's own semantic version (semver.org 2.0.0)."""
    type: ModuleType = ModuleType.CORE
    stage: ModuleStage = ModuleStage.DEVELOPMENT
    display_name: Annotated[str, StringConstraints(max_length=256)] = ""
    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    author: Annotated[str, StringConstraints(max_length=256)] = ""
    routing: Routing = Routing()
    auth: AuthRequirement | None = None
    """A floor under every route; absent: no floor."""
    permissions: list[Word] = []
    """Catalogue of what this module's routes may ask for; empty: not restricted."""
    tenancy: Tenancy = Tenancy.SHARED
    dependencies: list[Dependency] = []
    config: Json = {}
    config_schema: Json = {}
    """JSON Schema that ``config`` has to satisfy; empty: anything."""
    health: HealthPolicy = HealthPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    limits: Limits = Limits()
    placement: Placement = Placement()
    rollout: Rollout = Rollout()
    loading: Loading = Loading.EAGER
    """``lazy`` is accepted, and loads eagerly today: the condition Programmed says so."""
    suspend: bool = False
    """Freezes roll-out; routes keep serving, deletion works."""

    def namespace(self, name: str) -> str:
        """The namespace of a module called ``name``."""
        return self.routing.namespace or name

    def source_path(self) -> str:
        """Where the code lies below the modules path."""
        return self.source.path or self.entry_point.split(":")[0].split(".")[0]


class ServingStatus(Model):
    """A generation that was programmed."""

    generation: int
    digest: str = ""
    version: str = ""
    since: datetime
    reason: str = ""
    """Why it is this one, CamelCase: ``Newest``, or ``ReturnedToLastGood``."""


class RouteStatus(Model):
    """One route of the serving or registered generation."""

    method: str
    path: str
    auth: str
    """The effective level."""


class WorkerCounts(Model):
    """How many workers hold the latest generation."""

    desired: int = 0
    applied: int = 0
    rejected: int = 0
    joining: int = 0
    lost: int = 0


class CircuitState(StrEnum):
    """Whether a worker hands calls to a module."""

    CLOSED = "closed"
    """It does."""
    HALF_OPEN = "half_open"
    """A few, to find out."""
    OPEN = "open"
    """None: they get 503 with Retry-After."""


class HealthSummary(Model):
    """What the workers' checks say of the generation that serves."""

    unhealthy: int = 0
    """On how many workers the module's own check fails."""
    out: int = 0
    """On how many of them its routes answer 503, since a fresh instance did not help."""
    circuit: CircuitState = CircuitState.CLOSED
    """The worst of any worker."""
    last_check: datetime | None = None
    """When the newest check was made that is known of; brought up to date with every other change of the status."""


class ModuleStatus(Model):
    """What is seen of a module; written by the reconciler only."""

    state: ModuleState = ModuleState.DISCOVERED
    observed_generation: int = 0
    serving: ServingStatus | None = None
    """What traffic gets: the newest generation that was ever programmed, or the last good one if that was given up."""
    last_good: ServingStatus | None = None
    """The newest generation that was programmed and has proved itself: where a newer one that fails returns to."""
    health: HealthSummary | None = None
    conditions: list[Condition] = []
    routes: list[RouteStatus] = []
    workers: WorkerCounts = WorkerCounts()


class Module(Model):
    """One hosted module."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["Module"] = "Module"
    metadata: ObjectMeta = ObjectMeta()
    spec: ModuleSpec
    status: ModuleStatus = ModuleStatus()


class DesiredRoute(Model):
    """One route as a worker has to serve it."""

    methods: list[str]
    path: str
    policy: EffectivePolicy


class DesiredModule(Model):
    """The payload of a module's desired document: all that a worker needs to serve it."""

    entry_point: str
    digest: str
    source_path: str
    version: str = "0.0.0"
    display_name: str = ""
    type: str = "core"
    stage: str = "development"
    api_version: str = "v1"
    namespace: str
    routes: list[DesiredRoute] = []
    tenancy: Tenancy = Tenancy.SHARED
    config: Json = {}
    health: HealthPolicy = HealthPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    bake_seconds: int = 0
    """Whether, and for how long, the control plane wants to know how the calls of this generation end."""
    limits: Limits = Limits()
    worker_selector: dict[str, str] = {}
    loading: Loading = Loading.EAGER

    def prefix(self) -> str:
        """The path below which this module's routes are served."""
        return f"{names.MODULES_PREFIX}/{self.api_version}/{self.namespace}"
