"""Modules measure what they like, and cannot take more room than they are given, nor another's name."""

import gc
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from dataplane.telemetry import customs
from schemas.measures import OTHER


def shown(*found: customs.ModuleMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample as Prometheus reads it back."""

    class Families(Collector):
        def collect(self) -> list[Metric]:
            return list(customs.families(found))

    registry = CollectorRegistry()
    registry.register(Families())
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_three_kinds_are_shown_with_the_modules_labels() -> None:
    mine = customs.ModuleMetrics("shop", "1.0.0")
    mine.counter("orders", "Orders.", ["kind"]).add(2, kind="web")
    mine.gauge("stock").set(7)
    mine.gauge("stock").add(-2)
    histogram = mine.histogram("size", bounds=[1, 10])
    for value in (0.5, 1, 5, 50):
        histogram.observe(value)
    own = (("module", "shop"), ("version", "1.0.0"))
    assert shown(mine) == {
        ("modplane_module_orders_total", (("kind", "web"), *own)): 2.0,
        ("modplane_module_stock", own): 5.0,
        ("modplane_module_size_bucket", (("le", "1.0"), *own)): 2.0,
        ("modplane_module_size_bucket", (("le", "10.0"), *own)): 3.0,
        ("modplane_module_size_bucket", (("le", "+Inf"), *own)): 4.0,
        ("modplane_module_size_count", own): 4.0,
        ("modplane_module_size_sum", own): 56.5,
    }


def test_two_versions_and_two_modules_do_not_meet() -> None:
    first, second, other = (
        customs.ModuleMetrics(name, version) for name, version in (("shop", "1"), ("shop", "2"), ("till", "1"))
    )
    first.counter("orders").add()
    second.counter("orders", "Another help.", ["kind"]).add(kind="web")
    other.gauge("orders").set(3)
    assert {
        (name, dict(labels).get("version"), value) for (name, labels), value in shown(first, second, other).items()
    } == {
        ("modplane_module_orders_total", "1", 1.0),
        ("modplane_module_orders_total", "2", 1.0),
        ("modplane_module_orders_gauge", "1", 3.0),
    }


def test_what_is_too_much_is_counted_in_one_series() -> None:
    mine = customs.ModuleMetrics("shop", "1")
    counter = mine.counter("orders", labels=["who"])
    for number in range(3 * customs.SERIES):
        counter.add(who=f"{number:04}" + "x" * 500)
    found = counter.taken()
    assert len(found) == customs.SERIES + 1
    assert found[(OTHER,)] == [2.0 * customs.SERIES, 0.0]
    assert max(len(who) for (who,) in found) == customs.VALUE_LENGTH
    late = mine.gauge("late", labels=["a", "b"])
    late.set(1, a=1, b=2)
    assert list(late.taken()) == [(OTHER, OTHER)]
    for number in range(customs.METRICS - 2):
        mine.counter(f"c{number}")
    with pytest.raises(ValueError, match="at most 50"):
        mine.counter("one_more")


def test_a_declaration_of_the_same_gives_the_same_and_another_begins_anew() -> None:
    mine = customs.ModuleMetrics("shop", "1")
    counter = mine.counter("orders", labels=["kind"])
    counter.add(kind="web")
    assert mine.counter("orders", labels=["kind"]) is counter
    assert mine.counter("orders", labels=["other"]).taken() == {}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("Orders", ()),
        ("or-ders", ()),
        ("x" * 65, ()),
        ("orders", ["module"]),
        ("orders", ["Kind"]),
        ("a", list("abcdefg")),
    ],
)
def test_what_prometheus_could_not_read_is_refused(name: str, labels: list[str]) -> None:
    with pytest.raises(ValueError, match="metric"):
        customs.ModuleMetrics("shop", "1").counter(name, labels=labels)


def test_wrong_use_is_said() -> None:
    mine = customs.ModuleMetrics("shop", "1")
    with pytest.raises(ValueError, match="has the labels"):
        mine.counter("orders", labels=["kind"]).add(colour="red")
    with pytest.raises(ValueError, match="only grows"):
        mine.counter("orders", labels=["kind"]).add(-1, kind="web")
    with pytest.raises(ValueError, match="ascending"):
        mine.histogram("size", bounds=[2, 1])


def test_instances_of_one_version_share_and_the_last_takes_all_along() -> None:
    first = customs.of_version("shop", "u1", "1")
    first.counter("orders").add()
    second = customs.of_version("shop", "u1", "1")
    assert second is first
    assert customs.of_version("shop", "u1", "2") is not first
    assert len(shown(first, second)) == 1
    del first, second
    gc.collect()
    assert customs.of_version("shop", "u1", "1").metrics() == []


def test_threads_lose_nothing() -> None:
    counter = customs.ModuleMetrics("shop", "1").counter("orders")

    def work() -> None:
        for _ in range(2_000):
            counter.add()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.taken() == {(): [8_000.0, 0.0]}
