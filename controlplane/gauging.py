"""How a control plane is, as families of metrics: leadership, queue, outbox, workers, keys, and what it remembers.

Taken on the loop, where all of it lives, in a moment; rendered elsewhere (`schemas.kits.exposing`), together with what
the engines count while they work (`controlplane.telemetry.instruments`).  Made by `controlplane.app`.  No label holds
the name of a module or an organisation.  Every name is told in ``docs/reference/metrics.md``.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import InfoMetricFamily, Metric

from controlplane.api import authenticating
from controlplane.messaging import messengers
from controlplane.reconcile import fleet, leadership, looping
from controlplane.store import stores
from schemas.kits.exposing import counter, gauge, keys_of
from schemas.kits.natslink import NatsLink
from schemas.kits.tokens.verifying import Verifier


@dataclass(slots=True)
class Parts:
    """What is looked at; the engines are there while this process leads."""

    version: str
    store: stores.Store
    link: NatsLink
    leadership: leadership.Leadership
    fleet: fleet.Fleet
    verifier: Verifier
    callers: authenticating.Callers
    reconciler: looping.Reconciler | None = None
    messenger: messengers.Messaging | None = None


def families(parts: Parts) -> Iterator[Metric]:
    """All of them; on the loop."""
    yield InfoMetricFamily("modplane_controlplane", "Which program this is.", value={"version": parts.version})
    yield gauge("modplane_leader", "Whether this process leads.", float(parts.leadership.leads))
    yield gauge("modplane_leader_epoch", "The epoch it leads under, or led.", parts.leadership.epoch)
    yield gauge("modplane_lease_remaining_seconds", "Until its lease ends, 0 without one.", parts.leadership.remaining)
    yield gauge("modplane_store_revision", "The store's newest revision.", parts.store.revision)
    yield gauge("modplane_nats_connected", "Whether NATS is connected.", float(parts.link.connected))
    yield counter("modplane_nats_sessions", "Connections to NATS so far.", parts.link.generation)
    yield from keys_of(parts.verifier.wire()["issuers"])
    yield gauge("modplane_auth_cache_tokens", "Tokens that are remembered.", parts.callers.remembered)
    yield counter("modplane_auth_cache_hits", "Callers whose token was remembered.", parts.callers.hits)
    yield counter("modplane_auth_cache_unknown", "Tokens that had to be verified.", parts.callers.unknown)
    if (reconciler := parts.reconciler) is not None:
        yield gauge("modplane_queue_depth", "Modules in the queue, delayed ones included.", len(reconciler.queue))
        yield gauge("modplane_reconcile_active", "Modules that are worked on.", len(reconciler.queue.held))
        yield from _modules(reconciler)
        yield from _workers(parts)
    if (messenger := parts.messenger) is not None:
        yield gauge("modplane_outbox_pending", "Events that NATS does not have yet.", messenger.relay.pending)
        yield counter("modplane_outbox_published", "Events that NATS took.", messenger.relay.published)


def _modules(reconciler: looping.Reconciler) -> Iterator[Metric]:
    yield gauge("modplane_modules", "Modules.", reconciler.known)
    yield gauge("modplane_modules_unfinished", "Modules that wait for workers.", reconciler.unfinished)


def _workers(parts: Parts) -> Iterator[Metric]:
    views = list(parts.fleet.views().workers.values())
    standings = Counter(view.standing for view in views)
    yield gauge(
        "modplane_workers",
        "Workers, by how they count.",
        {standing.value.lower(): standings[standing] for standing in fleet.Standing},
        "standing",
    )
    counted = [view.report for view in views if view.standing is fleet.Standing.COUNTED]
    newest = parts.messenger.projection.newest[1] if parts.messenger is not None else 0
    behind = max((newest - report.applied_revision for report in counted), default=0)
    yield gauge("modplane_workers_behind", "Revisions that the slowest counted worker has to apply.", max(behind, 0))
    rejected = sum(len(report.rejected) for report in counted)
    yield gauge("modplane_modules_rejected", "Generations that counted workers refused.", rejected)
