"""The stream and the buckets on NATS: how each is set up, and that it is there.

Only the leader creates them; workers bind.  Creating is asked for again and again: the server answers with what
stands when nothing differs, so a server that is merely slow or electing is never mistaken for an empty one.
Called by the relay, the projection and the receiver at the start of each session.
"""

from typing import Final

import structlog
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from schemas import names
from schemas.kits import buckets
from schemas.kits.natslink import CALL_SECONDS, Session, during

logger = structlog.get_logger("controlplane.messaging.streams")

EVENT_SECONDS: Final = 7 * 24 * 3600
"""How long events are kept, on NATS as in the outbox."""
EVENT_BYTES: Final = 256 * 1024 * 1024
"""The events stream refuses new events beyond this; they wait in the outbox."""
AUDIT_BYTES: Final = 64 * 1024 * 1024
"""The audit stream refuses more beyond this; it waits in the workers' spools."""
LEAST_BYTES: Final = 8 * 1024 * 1024
"""The smallest a stream is made where the server has less room than is asked for."""
REPEAT_SECONDS: Final = 3600
"""For how long the server itself drops a repeated event id."""
MARKER_SECONDS: Final = 60
"""How long the sign of an expired worker report is kept."""
METRICS_SECONDS: Final = 7 * 24 * 3600
"""How long counts wait for a control plane."""
METRICS_BYTES: Final = 32 * 1024 * 1024
"""How much of them waits."""

_NAME_IN_USE: Final = 10058
_NO_ROOM: Final = 10047
"""Said of a stream that stands, too: the server looks for its room a second time before it looks for its name."""

EVENTS: Final = StreamConfig(
    name=names.STREAM_EVENTS,
    description="Lifecycle events of modplane (CloudEvents 1.0)",
    subjects=[f"{names.SUBJECT_EVENTS}.>"],
    retention=RetentionPolicy.LIMITS,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    max_age=EVENT_SECONDS,
    max_bytes=EVENT_BYTES,
    duplicate_window=REPEAT_SECONDS,
    allow_direct=True,
)

AUDIT: Final = StreamConfig(
    name=names.STREAM_AUDIT,
    description="Audit records of modplane's workers, until the control plane has them",
    subjects=[f"{names.SUBJECT_AUDIT}.*"],
    retention=RetentionPolicy.WORK_QUEUE,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    max_bytes=AUDIT_BYTES,
    duplicate_window=REPEAT_SECONDS,
)


def _bucket(name: str, description: str, storage: StorageType, marker_seconds: int | None) -> StreamConfig:
    """A bucket of one value a key, as any client of NATS knows it (ADR-8)."""
    return StreamConfig(
        name=buckets.stream_of(name),
        description=description,
        subjects=[buckets.subject_of(name, ">")],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        storage=storage,
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        allow_direct=True,
        allow_msg_ttl=True,
        deny_delete=True,
        duplicate_window=120,
        subject_delete_marker_ttl=marker_seconds,
    )


DESIRED: Final = _bucket(names.BUCKET_DESIRED, "What workers are to serve", StorageType.FILE, None)
WORKERS: Final = _bucket(names.BUCKET_WORKERS, "What workers say of themselves", StorageType.MEMORY, MARKER_SECONDS)
CHECKPOINTS: Final = _bucket(names.BUCKET_CHECKPOINTS, "Where chains of audit records stand", StorageType.FILE, None)
METRICS: Final = StreamConfig(
    name=names.STREAM_METRICS,
    description="What workers counted",
    subjects=[f"{names.SUBJECT_METRICS}.*"],
    retention=RetentionPolicy.WORK_QUEUE,
    discard=DiscardPolicy.OLD,
    storage=StorageType.FILE,
    max_age=METRICS_SECONDS,
    max_bytes=METRICS_BYTES,
    duplicate_window=2,
)
"""A message leaves it when the control plane has it; of one that is dropped for want of room, the next makes good."""


async def ensure(session: Session, config: StreamConfig) -> buckets.BucketInfo:
    """Make a stream as ``config`` says, or bring the one that stands to it; what the server says of it.

    Errors are those of the client and of `schemas.kits.natslink`.
    """
    assert config.name is not None
    try:
        await during(session, session.js.add_stream(config), CALL_SECONDS)
    except APIError as error:
        if error.err_code == _NO_ROOM:
            await _keep(session, config)
        elif error.err_code == _NAME_IN_USE:
            logger.warning("stream differs, setting it right", stream=config.name)
            await _keep(session, config)
        else:
            raise
    found = await buckets.stream_info(session, config.name)
    if found is None:
        raise buckets.GapError(f"{config.name} was removed while it was set up")
    return found


async def _keep(session: Session, config: StreamConfig) -> None:
    """One that stands is set right, or stays as small as it is; one that does not is made as large as there is room."""
    try:
        await during(session, session.js.update_stream(config), CALL_SECONDS)
    except NotFoundError:
        await _make_smaller(session, config)
    except APIError as error:
        if error.err_code != _NO_ROOM:
            raise


async def _make_smaller(session: Session, config: StreamConfig) -> None:
    size = (config.max_bytes or 0) // 2
    while size >= LEAST_BYTES:
        try:
            await during(session, session.js.add_stream(config.evolve(max_bytes=size)), CALL_SECONDS)
        except APIError as error:
            if error.err_code != _NO_ROOM:
                raise
            size //= 2
        else:
            logger.warning("NATS has little room, a stream is smaller than usual", stream=config.name, bytes=size)
            return
    logger.error("NATS has no room for a stream, free disk space", stream=config.name, bytes=LEAST_BYTES)
    raise APIError(code=500, err_code=_NO_ROOM, description=f"no room for {config.name}; free disk space")
