"""What a worker shows of its routes, and what it never shows."""

from prometheus_client.metrics_core import Metric

from dataplane.telemetry import exposing, meters


def samples(book: meters.Book) -> dict[tuple[str, str], float]:
    """Values by sample name and the label that tells them apart."""
    found: dict[tuple[str, str], float] = {}
    for family in exposing.routes(book)():
        assert isinstance(family, Metric)
        for sample in family.samples:
            assert set(sample.labels) - {"outcome", "le"} == set(exposing.LABELS)
            found[sample.name, sample.labels.get("outcome") or sample.labels.get("le", "")] = sample.value
    return found


def test_every_number_of_a_route_is_shown() -> None:
    book = meters.Book()
    meter = meters.Methods(book.owner("shop", "u1", "1.0.0"), "/things/{thing}")["GET"]
    meter.ended(10, 10.004, meters.SUCCESS, 3, 5)
    meter.ended(10, 10.2, meters.TIMEOUT, 3, 5)
    meter.inside = 4
    twin = meters.Methods(book.owner("shop", "u1", "1.0.0"), "/things/{thing}")["GET"]
    twin.ended(10, 10.004, meters.SUCCESS, 1, 1)
    found = samples(book)
    name = "modplane_route_request_duration_seconds"
    assert found[f"{name}_bucket", "0.0025"] == 0
    assert found[f"{name}_bucket", "0.005"] == 2
    assert found[f"{name}_bucket", "+Inf"] == found[f"{name}_count", ""] == 3
    assert abs(found[f"{name}_sum", ""] - 0.208) < 1e-6
    assert (found["modplane_route_requests_total", "success"], found["modplane_route_requests_total", "timeout"]) == (
        2,
        1,
    )
    assert ("modplane_route_requests_total", "refused") not in found
    assert (found["modplane_route_received_bytes_total", ""], found["modplane_route_sent_bytes_total", ""]) == (7, 11)
    assert found["modplane_route_requests_in_flight", ""] == 4
    assert found["modplane_route_last_access_timestamp_seconds", ""] > 1e9
