"""Lifecycle events: what happened to a module or worker, as CloudEvents 1.0 in structured JSON.

Source: the CloudEvents 1.0 specification and its NATS protocol binding.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas import names
from schemas.meta import Json, Model, ObjectMeta


class ModuleTransition(Model):
    """One step of a module's life; ``sequence`` counts per uid from 1, so that a reader sees a gap."""

    module: str
    uid: str
    sequence: int
    generation: int
    from_: str | None = Field(default=None, alias="from")
    """The state before; None: the module is new."""
    to: str
    reason: str
    message: str = ""
    revision: int = 0
    """The store's revision of the object's write that came with the step."""
    at: datetime
    traceparent: str | None = None
    """In whose trace it happened; of the envelope, no part of an event's data."""


class ModuleEvent(Model):
    """A stored lifecycle transition (read only); its name is the event's id."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["ModuleEvent"] = "ModuleEvent"
    metadata: ObjectMeta = ObjectMeta()
    spec: ModuleTransition


class CloudEvent(Model):
    """The CloudEvents 1.0 envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = "/controlplane"
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    data: Json


def transition_id(uid: str, sequence: int) -> str:
    """The id of a transition: the same for every copy of it, ever."""
    return f"{uid}-{sequence}"


def module_event(transition: ModuleTransition) -> CloudEvent:
    """The CloudEvent of a transition."""
    return CloudEvent(
        id=transition_id(transition.uid, transition.sequence),
        type=f"dev.modplane.module.{transition.to.lower()}.v1",
        subject=transition.module,
        time=transition.at,
        traceparent=transition.traceparent,
        data=transition.model_dump(mode="json", by_alias=True, exclude={"traceparent"}),
    )


def worker_event(event_id: str, worker: str, what: str, at: datetime, data: dict[str, Any]) -> CloudEvent:
    """The CloudEvent of a worker that ``joined`` or was ``lost``."""
    return CloudEvent(
        id=event_id, type=f"dev.modplane.worker.{what}.v1", subject=worker, time=at, data={"worker": worker, **data}
    )


def subject_of(event: CloudEvent) -> str:
    """The NATS subject on which an event is published."""
    _, _, scope, what, _ = event.type.split(".")
    if scope == "worker":
        return names.worker_event_subject(event.subject, what)
    return names.module_event_subject(event.subject, what)
