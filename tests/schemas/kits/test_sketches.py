"""Any quantile within 2 %, and parts that add up in whatever order."""

import math
import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from schemas.kits import sketches

DURATIONS = st.floats(min_value=sketches.LEAST, max_value=sketches.MOST, allow_nan=False)


def filled(durations: list[float]) -> sketches.Sketch:
    sketch: sketches.Sketch = {}
    for each in durations:
        index = sketches.bucket(each)
        sketch[index] = sketch.get(index, 0) + 1
    return sketch


SKETCHES = st.lists(DURATIONS, max_size=50).map(filled)


@given(DURATIONS)
def test_a_bucket_stands_for_what_it_holds(seconds: float) -> None:
    index = sketches.bucket(seconds)
    assert 0 <= index <= sketches.LAST
    assert abs(sketches.value(index) - seconds) <= seconds * (sketches.ERROR + 1e-9)
    assert seconds <= sketches.upper(index) * (1 + 1e-9)


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.floats(min_value=0, max_value=1))
def test_quantiles_are_within_two_per_cent(durations: list[float], share: float) -> None:
    true = sorted(durations)[max(math.ceil(share * len(durations)), 1) - 1]
    told = sketches.quantile(filled(durations), share)
    assert told is not None
    assert abs(told - true) <= true * (sketches.ERROR + 1e-9)


@given(SKETCHES, SKETCHES, SKETCHES)
def test_merging_is_addition(one: sketches.Sketch, two: sketches.Sketch, three: sketches.Sketch) -> None:
    assert sketches.merged([one, two]) == sketches.merged([two, one])
    first = sketches.merged([sketches.merged([one, two]), three])
    assert first == sketches.merged([one, sketches.merged([two, three])])
    assert sketches.grown(first, three) == sketches.merged([one, two])


@given(st.dictionaries(st.integers(0, sketches.LAST), st.integers(1, 10**16 - 1)))
def test_a_sketch_travels_as_text(sketch: sketches.Sketch) -> None:
    text = sketches.text(sketch)
    assert re.fullmatch(sketches.PATTERN, text)
    assert len(text) <= sketches.TEXT_MOST
    assert list(sketches.of_text(text).items()) == list(sketch.items())


def test_a_sketch_can_be_told_while_it_grows() -> None:
    class Growing(dict[int, int]):
        def __iter__(self) -> Iterator[int]:
            yield from list(super().__iter__())
            self[len(self)] = 1

    growing = Growing({7: 1})
    assert sketches.of_text(sketches.text(growing)) == {7: 1}
    assert sketches.of_text(sketches.text(growing)) == {7: 1, 1: 1}


@given(st.from_regex(sketches.PATTERN, fullmatch=True))
def test_what_fits_the_pattern_can_be_read(text: str) -> None:
    sketch = sketches.of_text(text)
    assert all(index < 540 and count > 0 for index, count in sketch.items())
    assert sketches.merged([sketch, {}]) == sketch


@given(st.lists(DURATIONS, max_size=100))
def test_what_is_below_a_bound_is_never_overstated(durations: list[float]) -> None:
    bounds = [0.001, 0.1, 1.0, 60.0]
    counts = sketches.below(filled(durations), bounds)
    assert counts == sorted(counts)
    for bound, count in zip(bounds, counts, strict=True):
        assert count <= sum(each <= bound * (1 + 1e-9) for each in durations)
        assert count >= sum(each * sketches.GAMMA <= bound for each in durations)


def test_what_is_out_of_range_is_counted_at_its_end() -> None:
    assert sketches.bucket(0.0) == 0
    assert sketches.bucket(1e9) == sketches.LAST
    assert sketches.quantile({}, 0.5) is None
    assert sketches.LAST <= 540
