"""Key-value buckets of JetStream, followed and written without the client library's watch.

The library's watch recovers late, goes blind when a bucket is recreated, hides headers, and does not notice a
message that it dropped itself.  Here each following counts every message: a break in the consumer's sequence, a
silence longer than three heartbeats, or the end of the session is a `GapError`, and the caller follows anew from a
fresh snapshot.

Always: a bucket is a stream ``KV_<bucket>`` with subjects ``$KV.<bucket>.<key>`` (NATS ADR-8); nothing here creates
or changes one.  Called by both planes; goes to `schemas.kits.natslink`.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from schemas.kits.natslink import CALL_SECONDS, Session, during

EXPECTED_LAST: Final = "Nats-Expected-Last-Subject-Sequence"
WRONG_LAST: Final = frozenset({10071, 10164})
"""JetStream's error codes for a compare-and-swap that lost."""
HEARTBEAT_SECONDS: Final = 1.0
MISSED_HEARTBEATS: Final = 3


class GapError(Exception):
    """What was followed can no longer be trusted to be whole; follow anew."""


class WrongSequenceError(Exception):
    """A compare-and-swap lost: the key's last message is another one."""


class Operation(StrEnum):
    """What an entry says of its key."""

    PUT = "put"
    DELETE = "delete"
    PURGE = "purge"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a bucket."""

    key: str
    value: bytes
    """Empty unless it is a put."""
    sequence: int
    """The stream's sequence of this message: what a compare-and-swap on the key names."""
    operation: Operation
    headers: Mapping[str, str]
    stored_at: float
    """When the server stored it, seconds since 1970 on the server's clock."""


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """What the server says of a bucket."""

    created: str
    """RFC 3339, in the server's spelling; another value means another bucket under the same name."""
    sequence: int
    """The stream's last sequence."""
    messages: int
    size: int
    """Bytes that its messages take."""
    asked_at: float
    """When the server said so, seconds since 1970 on its own clock, as `Entry.stored_at` is."""
    config: Mapping[str, Any]


def stream_of(bucket: str) -> str:
    """The name of a bucket's stream."""
    return f"KV_{bucket}"


def subject_of(bucket: str, key: str) -> str:
    """The subject on which a key is written."""
    return f"$KV.{bucket}.{key}"


async def put(
    session: Session,
    bucket: str,
    key: str,
    value: bytes,
    *,
    last: int | None = None,
    ttl: int | None = None,
    headers: Mapping[str, str] | None = None,
    deadline: float = CALL_SECONDS,
) -> int:
    """Write a key and return its sequence.

    ``last``: compare-and-swap on the key's last sequence (0: the key must not be there), else WrongSequenceError.
    ``ttl``: whole seconds until the message expires.  LinkAmbiguousError: it may have been written or not.
    """
    sent = dict(headers or {})
    if last is not None:
        sent[EXPECTED_LAST] = str(last)
    try:
        work = session.js.publish(
            subject_of(bucket, key), value, timeout=deadline * 2, headers=sent or None, msg_ttl=ttl
        )
        return (await during(session, work, deadline)).seq
    except APIError as error:
        if error.err_code in WRONG_LAST:
            raise WrongSequenceError(f"{bucket}/{key}: {error.description}") from None
        raise


async def purge(session: Session, bucket: str, key: str, *, through: int) -> None:
    """Remove the messages of a key up to sequence ``through``, leaving no marker; newer ones stay."""
    work = session.js.purge_stream(stream_of(bucket), seq=through + 1, subject=subject_of(bucket, key))
    await during(session, work, CALL_SECONDS)


async def info(session: Session, bucket: str, *, deadline: float = CALL_SECONDS) -> BucketInfo | None:
    """What the server says of the bucket; None if it says that there is none."""
    return await stream_info(session, stream_of(bucket), deadline=deadline)


async def stream_info(session: Session, stream: str, *, deadline: float = CALL_SECONDS) -> BucketInfo | None:
    """What the server says of a stream; None if it says that there is none."""
    work = session.client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=deadline * 2)
    answer = json.loads((await during(session, work, deadline)).data)
    if "error" in answer:
        try:
            APIError.from_error(answer["error"])
        except NotFoundError:
            return None
    state = answer["state"]
    asked_at = datetime.fromisoformat(answer["ts"]).timestamp()
    return BucketInfo(
        answer["created"], state["last_seq"], state["messages"], state["bytes"], asked_at, answer["config"]
    )


async def read(session: Session, bucket: str) -> dict[str, Entry]:
    """The last message of every key; GapError when it cannot be read whole."""
    entries: dict[str, Entry] = {}
    async with contextlib.aclosing(follow(session, bucket)) as following:
        async for entry in following:
            if entry is None:
                break
            entries[entry.key] = entry
    return entries


async def follow(
    session: Session, bucket: str, *, keys: str = ">", heartbeat: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[Entry | None, None]:
    """The last message of every key, then None once, then every further message in order.

    GapError: the rest may be incomplete (a lost message, silence, the bucket or the session is gone).  NotFoundError
    of the client: there is no such bucket.  Use with `contextlib.aclosing`; ``heartbeat`` is in seconds.
    """
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    async def take(message: Msg) -> None:
        arrived.put_nowait(message)

    def ended(_: "asyncio.Future[None]") -> None:
        arrived.put_nowait(None)

    session.ended.add_done_callback(ended)
    inbox = session.client.new_inbox()
    subscription = await session.client.subscribe(inbox, cb=take, pending_bytes_limit=256 * 1024 * 1024)
    consumer = ""
    try:
        created = await during(
            session, session.js.add_consumer(stream_of(bucket), _consumer(bucket, keys, inbox, heartbeat)), CALL_SECONDS
        )
        consumer = created.name
        entries = _entries(session, arrived, bucket, created.num_pending or 0, heartbeat)
        async with contextlib.aclosing(entries):
            async for entry in entries:
                yield entry
    finally:
        session.ended.remove_done_callback(ended)
        with contextlib.suppress(NatsError, OSError):
            await subscription.unsubscribe()
            if consumer and session.alive:
                await session.client.publish(f"$JS.API.CONSUMER.DELETE.{stream_of(bucket)}.{consumer}")


def _consumer(bucket: str, keys: str, inbox: str, heartbeat: float) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_subject=inbox,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        max_deliver=1,
        filter_subject=subject_of(bucket, keys),
        idle_heartbeat=heartbeat,
        flow_control=True,
        inactive_threshold=5.0,
        mem_storage=True,
        num_replicas=1,
    )


async def _entries(
    session: Session, arrived: "asyncio.Queue[Msg | None]", bucket: str, pending: int, heartbeat: float
) -> AsyncGenerator[Entry | None, None]:
    complete, delivered = pending == 0, 0
    if complete:
        yield None
    while True:
        try:
            # a timer and a task only where there is something to wait for
            message = arrived.get_nowait()
        except asyncio.QueueEmpty:
            message = await _heard(arrived, bucket, heartbeat * MISSED_HEARTBEATS)
        if message is None:
            raise GapError(f"{bucket}: the connection ended")
        if (status := (message.headers or {}).get("Status")) is not None:
            last = await _control(session, message, status, bucket)
            if last is not None and last != delivered:
                raise GapError(f"{bucket}: {delivered} of {last} messages arrived")
            if last is not None and not complete:
                complete = True
                yield None
            continue
        metadata = message.metadata
        delivered += 1
        if metadata.sequence.consumer != delivered:
            raise GapError(f"{bucket}: message {metadata.sequence.consumer} came where {delivered} was due")
        yield _entry(bucket, message)
        if not complete and metadata.num_pending == 0:
            complete = True
            yield None


async def _heard(arrived: "asyncio.Queue[Msg | None]", bucket: str, patience: float) -> Msg | None:
    try:
        async with asyncio.timeout(patience):
            return await arrived.get()
    except TimeoutError:
        raise GapError(f"{bucket}: no word for {patience:.1f} s") from None


async def _control(session: Session, message: Msg, status: str, bucket: str) -> int | None:
    """Answer flow control; return the consumer's last sequence that an idle heartbeat names."""
    headers = message.headers or {}
    if status != "100":
        raise GapError(f"{bucket}: {status} {headers.get('Description', '')}")
    stalled = message.reply or headers.get("Nats-Consumer-Stalled")
    if stalled:
        with contextlib.suppress(NatsError):
            await session.client.publish(stalled)
    last = headers.get("Nats-Last-Consumer")
    return None if last is None or message.reply else int(last)


def _entry(bucket: str, message: Msg) -> Entry:
    headers = message.headers or {}
    operation = Operation.PUT
    if (said := headers.get("KV-Operation")) is not None:
        operation = {"DEL": Operation.DELETE, "PURGE": Operation.PURGE}.get(said, Operation.PUT)
    elif (reason := headers.get("Nats-Marker-Reason")) is not None:
        operation = {"MaxAge": Operation.EXPIRED, "Remove": Operation.DELETE}.get(reason, Operation.PURGE)
    key = message.subject.removeprefix(subject_of(bucket, ""))
    value = message.data if operation is Operation.PUT else b""
    metadata = message.metadata
    return Entry(key, value, metadata.sequence.stream, operation, headers, metadata.timestamp.timestamp())
