"""What the engines count of themselves while they work; shown at ``/metrics`` beside what `controlplane.gauging` asks.

One set for the process, as there is one of each engine.  Every name is told in ``docs/reference/metrics.md``; none has
a label whose values come from people.  Counted in by `controlplane.reconcile` and `controlplane.messaging`.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY: Final = CollectorRegistry(auto_describe=False)

_TURNS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_WAITS: Final = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
_ROLL_OUTS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

RECONCILES: Final = Counter(
    "modplane_reconcile", "Turns of the reconciler, by how they ended.", ["result"], registry=REGISTRY
)
DONE, REQUEUED, GONE, FAILED = (RECONCILES.labels(word) for word in ("done", "requeued", "gone", "failed"))
RECONCILE_SECONDS: Final = Histogram(
    "modplane_reconcile_seconds", "How long a turn of the reconciler took.", buckets=_TURNS, registry=REGISTRY
)
QUEUE_WAIT_SECONDS: Final = Histogram(
    "modplane_queue_wait_seconds", "How late a module was taken from the queue.", buckets=_WAITS, registry=REGISTRY
)
QUEUE_ADDS: Final = Counter("modplane_queue_adds", "Modules put into the queue, or again.", registry=REGISTRY)
QUEUE_RETRIES: Final = Counter("modplane_queue_retries", "Turns to be repeated after a failure.", registry=REGISTRY)
PROPAGATION_SECONDS: Final = Histogram(
    "modplane_propagation_seconds",
    "From a stored generation to the moment when every counted worker serves it.",
    buckets=_ROLL_OUTS,
    registry=REGISTRY,
)
OUTBOX_PUBLISH_SECONDS: Final = Histogram(
    "modplane_outbox_publish_seconds", "How long NATS took to take an event.", buckets=_WAITS, registry=REGISTRY
)
OUTBOX_FAILURES: Final = Counter(
    "modplane_outbox_failures", "Events that NATS did not take at once.", registry=REGISTRY
)
MERGED: Final = Counter("modplane_metrics_messages", "Messages of counts that were merged.", registry=REGISTRY)
COUNTS_REFUSED: Final = Counter(
    "modplane_metrics_messages_refused", "Messages of counts that were refused, by why.", ["reason"], registry=REGISTRY
)
SERIES_REFUSED: Final = Counter(
    "modplane_metrics_series_refused",
    "Series in messages of counts that were refused, by whose room they are beyond.",
    ["bound"],
    registry=REGISTRY,
)
MERGE_SECONDS: Final = Histogram(
    "modplane_metrics_merge_seconds", "How long merging a batch of counts took.", buckets=_TURNS, registry=REGISTRY
)
