"""Reading lifecycle events as any subscriber would: with a plain NATS client."""

import json
from typing import Any

from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy


async def stored_events(client: Client, subject: str = "modplane.events.>") -> list[dict[str, Any]]:
    """Every event in the stream under ``subject``, in stream order."""
    stream = client.jetstream()
    subscription = await stream.subscribe(
        subject,
        stream="MODPLANE_EVENTS",
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    found: list[dict[str, Any]] = []
    try:
        info = await subscription.consumer_info()
        expected = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        while len(found) < expected:
            message = await subscription.next_msg(timeout=30)
            found.append(json.loads(message.data))
            expected = max(expected, len(found) + message.metadata.num_pending)
    finally:
        await subscription.unsubscribe()
    return found


def states(events: list[dict[str, Any]], uid: str | None = None) -> list[str]:
    """The states in order, repeats (by id) removed."""
    seen: set[str] = set()
    result = []
    for event in events:
        if event["id"] in seen or (uid is not None and event["data"]["uid"] != uid):
            continue
        seen.add(event["id"])
        result.append(event["data"]["to"])
    return result


def sequences(events: list[dict[str, Any]], uid: str) -> list[int]:
    """The sequence numbers of one object's events, repeats (by id) removed."""
    seen: dict[str, int] = {}
    for event in events:
        if event["data"].get("uid") == uid:
            seen.setdefault(event["id"], event["data"]["sequence"])
    return list(seen.values())
