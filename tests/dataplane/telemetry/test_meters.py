"""What is counted of a route: every call once, in one series per method, however strange the method."""

import itertools
import math
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.telemetry import meters
from schemas.kits import sketches
from schemas.measures import OTHER


def book_and_methods() -> tuple[meters.Book, meters.Methods]:
    book = meters.Book()
    return book, meters.Methods(book.owner("pricing", "u1", "1.0.0"), "/prices/{id}")


@given(st.lists(st.tuples(st.floats(0, 5_000), st.sampled_from(range(5)), st.integers(0, 99)), max_size=60))
def test_every_call_is_in_every_sum(calls: list[tuple[float, int, int]]) -> None:
    _, methods = book_and_methods()
    meter = methods["GET"]
    for took, outcome, size in calls:
        meter.ended(100.0, 100.0 + took, outcome, size, 2 * size)
    assert meter.calls == sum(meter.outcomes) == sum(meter.buckets.values()) == len(calls)
    assert meter.received * 2 == meter.sent == 2 * sum(size for _, _, size in calls)
    assert math.isclose(meter.seconds, sum(took for took, _, _ in calls), abs_tol=1e-6)
    for took, _, _ in calls:
        assert meter.buckets.get(sketches.bucket(100.0 + took - 100.0))


def test_a_series_per_method_and_one_for_what_http_does_not_know() -> None:
    book, methods = book_and_methods()
    assert not len(book), "a route that nobody calls costs nothing"
    for number in range(100):
        methods[f"X{number}"].ended(0, 1, meters.CLIENT_ERROR)
    methods["GET"].ended(0, 1, meters.SUCCESS)
    assert methods["GET"] is methods["GET"]
    assert {meter.method: meter.calls for meter in book.live()} == {OTHER: 100, "GET": 1}


def test_a_series_that_is_struck_is_gone() -> None:
    book, methods = book_and_methods()
    kept, gone = methods["GET"], methods["POST"]
    book.strike([gone.number, 12345])
    assert book.live() == [kept]


@pytest.mark.slow
def test_a_usual_series_takes_no_more_than_is_said() -> None:
    book = meters.Book()
    owner, count = book.owner("pricing", "u1", "1.0.0"), 100
    tracemalloc.start()
    try:
        every = [meters.Methods(owner, "/prices/{id}") for _ in range(count)]
        for methods, _, index in itertools.product(every, range(300), range(200, 240)):
            methods["GET"].ended(0.0, sketches.value(index), meters.SUCCESS, 1_000, 1_000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(book) == count
    assert len(every[0]["GET"].buckets) == 40
    assert taken / count < meters.USUAL_BYTES


def test_a_series_never_takes_more_than_is_said() -> None:
    _, methods = book_and_methods()
    meter = methods["GET"]
    for index in range(sketches.LAST + 1):
        for _ in range(300):
            meter.ended(0, sketches.value(index), meters.SUCCESS)
    assert len(meter.buckets) == sketches.LAST + 1
    counts = sum(sys.getsizeof(number) for pair in meter.buckets.items() for number in pair)
    assert sys.getsizeof(meter) + sys.getsizeof(meter.outcomes) + sys.getsizeof(meter.buckets) + counts < (
        meters.SERIES_BYTES
    )
