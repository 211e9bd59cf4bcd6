"""What a worker shows at ``/metrics``: its routes, what modules measure of themselves, and how the worker is.

No label ever holds an organisation, a caller, or a word of a request: a series is named by the description of a module
only, and goes with its route.  Rendered by `schemas.kits.exposing` off the serving loop; made by `dataplane.app`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from dataplane.telemetry import meters
from schemas.kits import sketches

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; bucket limits of the durations that are shown."""
OUTCOMES: Final = ("success", "client_error", "server_error", "refused", "timeout")
"""What became of a call, in the order of `meters`."""
LABELS: Final = ("module", "version", "method", "route")


def routes(book: meters.Book) -> Callable[[], Iterator[Metric]]:
    """The families of every series of ``book``; from any thread."""

    def families() -> Iterator[Metric]:
        requests = CounterMetricFamily("modplane_route_requests", "Calls that have ended.", labels=(*LABELS, "outcome"))
        seconds = HistogramMetricFamily(
            "modplane_route_request_duration_seconds", "How long calls took, authentication included.", labels=LABELS
        )
        received = CounterMetricFamily("modplane_route_received_bytes", "Bodies that modules took.", labels=LABELS)
        sent = CounterMetricFamily("modplane_route_sent_bytes", "Bodies that modules sent.", labels=LABELS)
        inside = GaugeMetricFamily("modplane_route_requests_in_flight", "Calls under way.", labels=LABELS)
        last = GaugeMetricFamily(
            "modplane_route_last_access_timestamp_seconds", "When the last call ended.", labels=LABELS
        )
        for key, same in _grouped(book.live()).items():
            for outcome, count in zip(
                OUTCOMES, map(sum, zip(*(each.outcomes for each in same), strict=True)), strict=True
            ):
                if count or outcome == OUTCOMES[meters.SUCCESS]:
                    requests.add_metric([*key, outcome], count)
            sketch = sketches.merged(each.buckets.copy() for each in same)
            calls = sum(sketch.values())
            below = zip(map(str, BOUNDS), sketches.below(sketch, BOUNDS), strict=True)
            seconds.add_metric(key, [*below, ("+Inf", calls)], sum(each.seconds for each in same))
            received.add_metric(key, sum(each.received for each in same))
            sent.add_metric(key, sum(each.sent for each in same))
            inside.add_metric(key, sum(each.inside for each in same))
            if ended := max(each.last for each in same):
                last.add_metric(key, meters.time_of(ended))
        yield from (requests, seconds, received, sent, inside, last)

    return families


def _grouped(live: Iterable[meters.Meter]) -> dict[tuple[str, ...], list[meters.Meter]]:
    """Series that differ only in what is no label, such as an older instance of the same version that drains."""
    groups: dict[tuple[str, ...], list[meters.Meter]] = {}
    for meter in live:
        groups.setdefault((meter.of.module, meter.of.version, meter.method, meter.route), []).append(meter)
    return groups
