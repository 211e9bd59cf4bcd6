"""The leader's messaging as one thing: relay, projection, beat and receiver, started and stopped together.

Always: each of the four goes on by itself through every failure of NATS or of another; only a cancellation ends them.
Called by `controlplane.app` when leadership is gained; see each part for where it goes.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from controlplane.audit.archives import Archive
from controlplane.messaging import (
    beating,
    comparing,
    counting,
    outbox,
    projecting,
    receiving,
    steps,
    trailing,
)
from controlplane.store.stores import Store
from controlplane.telemetry import measurements
from schemas.kits import storing
from schemas.kits.clocks import Clock
from schemas.kits.natslink import NatsLink
from schemas.kits.tasks import Tasks


class FleetSink(receiving.Listener, Protocol):
    """What the reconciler's memory of workers wants to be told."""

    def beat_returned(self) -> None:
        """Our own beat came back: the report channel is proven alive."""
        ...


class Messaging:
    """Everything that the leader says on NATS and hears from it."""

    def __init__(
        self,
        store: Store,
        link: NatsLink,
        clock: Clock,
        epoch: Callable[[], int],
        sink: FleetSink,
        scribe: comparing.Scribe,
        kept: measurements.Measurements,
        unstored: Callable[[str], None] = lambda reason: None,
        archive: Archive | None = None,
    ) -> None:
        """``archive`` takes the audit trail, ``kept`` what workers counted; ``scribe`` signs what they are to believe.

        ``unstored`` hears that NATS stores nothing any more.
        """
        self._clock = clock
        self._sink = sink
        storage = storing.Storing(link, clock, unstored)
        self.relay = outbox.Relay(store, link, clock, epoch, storage)
        self.projection = projecting.Projection(store, link, clock, epoch, scribe, storage)
        self.receiver = receiving.Receiver(store, link, clock, epoch, sink, self.projection.seen)
        self.counting = counting.Counting(store, link, clock, epoch, kept)
        self.trailing = None if archive is None else trailing.Trailing(archive, link, clock)
        self.steps = steps.Hearing(link, clock)
        self.beating = beating.Beating(link, clock, self.projection, self._beat_returned)

    async def run(self) -> None:
        """Run all parts until cancelled."""
        tasks = Tasks(self._clock)
        if self.trailing is not None:
            tasks.supervise(self.trailing.run, "audit trail")
        for body, name in (
            (self.projection.run, "desired projection"),
            (self.relay.run, "event relay"),
            (self.receiver.run, "worker receiver"),
            (self.beating.run, "beat"),
            (self.counting.run, "counted calls"),
            (self.steps.run, "steps of workers"),
        ):
            tasks.supervise(body, name)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await tasks.stop()

    def _beat_returned(self) -> None:
        self._sink.beat_returned()
        self.receiver.beat_returned()
