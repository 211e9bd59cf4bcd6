"""Records to put into a store."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controlplane.store.records import Record

BORN = datetime(2030, 1, 1, tzinfo=UTC)


def module(name: str = "analytics-core", **spec: Any) -> Record:
    """A Module that is not stored yet."""
    return Record(
        kind="Module",
        name=name,
        uid=str(uuid.uuid4()),
        generation=1,
        revision=0,
        created_at=BORN,
        spec={"entryPoint": "analytics_core:AnalyticsCoreModule", "version": "1.0.0", "type": "analytics", **spec},
    )


def access(organisation: str = "acme", module: str = "analytics-core", name: str = "", **spec: Any) -> Record:
    """A ModuleAccess that is not stored yet."""
    return Record(
        kind="ModuleAccess",
        name=name or f"{organisation}--{module}",
        uid=str(uuid.uuid4()),
        generation=1,
        revision=0,
        created_at=BORN,
        spec={"organisation": organisation, "module": module, "enabled": True, "configuration": {}, **spec},
    )


def of(kind: str, name: str, **spec: Any) -> Record:
    """An object of any kind that is not stored yet."""
    return Record(kind=kind, name=name, uid=str(uuid.uuid4()), generation=1, revision=0, created_at=BORN, spec=spec)


def changed(record: Record, **spec: Any) -> Record:
    """The next generation of a record, with some fields of the spec changed."""
    return replace(record, generation=record.generation + 1, spec={**record.spec, **spec})
