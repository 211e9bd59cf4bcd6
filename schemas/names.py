"""Every name that another program may depend on, written once.

Constants only, and the two pure functions that turn what people write into the one spelling we use.
"""

import re
from typing import Final

GROUP: Final = "modplane.dev"
VERSION: Final = "v1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
API_PREFIX: Final = f"/apis/{GROUP}/{VERSION}"
MANAGEMENT_PREFIX: Final = "/api/v1/module-management"
MODULES_PREFIX: Final = "/api/v1/modules"

FINALIZER: Final = f"{GROUP}/routes"
"""Held on every Module until counted workers reported its routes gone."""

MANAGER_SQL: Final = "sql"
MANAGER_DISCOVERY: Final = "modplane-discovery"
MANAGER_CLI: Final = "modplane"

STREAM_EVENTS: Final = "MODPLANE_EVENTS"
STREAM_AUDIT: Final = "MODPLANE_AUDIT"
STREAM_METRICS: Final = "MODPLANE_METRICS"
BUCKET_DESIRED: Final = "MODPLANE_DESIRED"
BUCKET_WORKERS: Final = "MODPLANE_WORKERS"
BUCKET_CHECKPOINTS: Final = "MODPLANE_AUDIT_CHECKPOINTS"

SUBJECT_EVENTS: Final = "modplane.events"
SUBJECT_AUDIT: Final = "modplane.audit"
SUBJECT_METRICS: Final = "modplane.metrics"
SUBJECT_BEAT: Final = "modplane.desired.beat"
SUBJECT_STEPS: Final = "modplane.steps"

KEY_HEAD: Final = "head"
TRUSTED_KEYS: Final = "trusted-keys.json"
"""File of a data folder with the keys whose signatures under desired state are believed."""

LABEL_MAX: Final = 63
DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

RESERVED_NAMESPACES: Final = frozenset({"admin", "docs", "health", "metrics", "modules", "openapi", "ready", "system"})
"""Route namespaces that no module may take, so that later addresses of ours stay free."""

RESERVED_ROUTES: Final = frozenset({"/health"})
"""Paths inside a namespace that the gateway answers itself."""


def is_dns_label(text: str) -> bool:
    """Whether ``text`` is an RFC 1123 label: 1 to 63 of ``a-z 0-9 -``, alphanumeric at both ends."""
    return DNS_LABEL.fullmatch(text) is not None


def object_name(module_id: str) -> str:
    """The object name of a module id: underscores become hyphens (``analytics_core`` → ``analytics-core``)."""
    return module_id.replace("_", "-")


def module_id(name: str) -> str:
    """The module id of an object name: hyphens become underscores (``analytics-core`` → ``analytics_core``)."""
    return name.replace("-", "_")


def access_name(organisation: str, module: str) -> str:
    """The default name of one organisation's ModuleAccess to one module."""
    return f"{organisation}--{object_name(module)}"


def module_key(name: str) -> str:
    """The key of a module in the desired bucket."""
    return f"module.{name}"


def flag_key(name: str) -> str:
    """The key of a feature flag in the desired bucket."""
    return f"flag.{name}"


def organisation_key(name: str) -> str:
    """The key of an organisation, with its accesses, in the desired bucket."""
    return f"organisation.{name}"


def revocation_key(name: str) -> str:
    """The key of a revocation in the desired bucket."""
    return f"revocation.{name}"


def metrics_subject(worker: str) -> str:
    """The subject on which a worker tells what it counted."""
    return f"{SUBJECT_METRICS}.{worker}"


def ask_subject(worker: str) -> str:
    """Where a worker is asked."""
    return f"modplane.ask.{worker}"


def told_subject(worker: str) -> str:
    """Where it answers."""
    return f"modplane.told.{worker}"


def steps_subject(worker: str) -> str:
    """Where a worker tells the steps of a change."""
    return f"{SUBJECT_STEPS}.{worker}"


def module_event_subject(name: str, state: str) -> str:
    """The subject of a module's lifecycle event; ``state`` in any case."""
    return f"{SUBJECT_EVENTS}.module.{name}.{state.lower()}"


def worker_event_subject(worker: str, what: str) -> str:
    """The subject of a worker's event; ``what`` is ``joined`` or ``lost``."""
    return f"{SUBJECT_EVENTS}.worker.{worker}.{what}"


def audit_subject(writer: str) -> str:
    """The subject of a writer's audit records."""
    return f"{SUBJECT_AUDIT}.{writer}"
