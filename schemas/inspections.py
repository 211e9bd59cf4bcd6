"""What the inspection child is asked and what it answers: one JSON line each way.

An answer is a claim made by the module's own code; whoever reads it believes nothing that it can check.
"""

from enum import StrEnum

from schemas.meta import Json, Model
from schemas.policies import AuthRequirement


class InspectionOutcome(StrEnum):
    """How an inspection ended."""

    OK = "ok"
    FAILED = "failed"
    """The code itself is wrong: import, attribute, type, routes. It will fail again."""
    CRASHED = "crashed"
    """The child died without an answer."""
    TIMED_OUT = "timed_out"


class InspectionRequest(Model):
    """Import packed code and tell what it is."""

    id: str
    root: str
    """Folder of the packed source (absolute path)."""
    source_path: str
    """Top package or file name inside ``root``."""
    digest: str
    entry_point: str | None = None
    """None: find every ``BaseModuleRouter`` subclass."""
    name: str = ""
    """The Module's name; empty while finding."""
    config: Json = {}
    timeout_seconds: float = 10.0


class RouteReport(Model):
    """One route as the code registers it."""

    methods: list[str]
    path: str
    name: str = ""
    auth: AuthRequirement | None = None
    """What the code declares; None: nothing."""
    location: str = ""
    """``file:line`` of the handler, inside the source."""


class CandidateReport(Model):
    """A module that the code offers, with its own words about itself."""

    entry_point: str
    module_id: str
    name: str = ""
    version: str = "0.0.0"
    type: str = "core"
    description: str = ""
    author: str = ""
    api_version: str = "v1"
    namespace: str | None = None
    permissions: list[str] = []
    feature_flags: list[str] = []
    dependencies: list[Json] = []
    config_schema: Json = {}
    default_config: Json = {}


class InspectionReport(Model):
    """What an inspection found."""

    id: str
    outcome: InspectionOutcome
    reason: str = ""
    """CamelCase, such as ``ImportFailed``."""
    message: str = ""
    """For the module's author: what, in which file and line, what to do."""
    candidates: list[CandidateReport] = []
    routes: list[RouteReport] = []
    host_version: str = ""
    duration_seconds: float = 0.0
