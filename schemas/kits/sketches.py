"""Durations in logarithmic buckets: any quantile within 2 %, merged by addition, never more than 540 buckets.

Bucket ``i`` holds what is above ``LEAST * GAMMA**(i-1)`` and at most ``LEAST * GAMMA**i``; bucket 0 what is at most
`LEAST`, and the last bucket also what is longer than `MOST`.  The value that stands for a bucket differs from all that
it holds by at most `ERROR` (DDSketch: Masson, Rim, Lee, VLDB 2019, section 2.1).  A sketch is a plain dictionary from
bucket to count, so whoever counts on a hot path adds one to an entry and calls nothing of this.

Pure.  Filled by `dataplane.telemetry.meters`; merged and read by `controlplane.telemetry`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import orjson

Sketch: TypeAlias = dict[int, int]
"""How many durations each bucket holds; no entry is zero."""

ERROR: Final = 0.02
"""How far a quantile may be from the true one, relative to it."""
GAMMA: Final = (1 + ERROR) / (1 - ERROR)
LEAST: Final = 2e-6
"""Seconds; what is shorter counts as this."""
MOST: Final = 3_600.0
"""Seconds; what is longer counts as this."""
FACTOR: Final = 1 / math.log(GAMMA)
OFFSET: Final = 1 - math.log(LEAST) * FACTOR
"""``int(log(seconds) * FACTOR + OFFSET)`` is the bucket of what lies between `LEAST` and `MOST`."""
LAST: Final = math.ceil(math.log(MOST / LEAST) * FACTOR)
"""The highest bucket."""
_MIDDLE: Final = 2 / (1 + GAMMA)
_INDEX: Final = "(?:[1-9]?[0-9]|[1-4][0-9]{2}|5[0-3][0-9])"
_COUNT: Final = "[1-9][0-9]{0,15}"
PATTERN: Final = rf"^\[\[(?:{_INDEX}(?:,{_INDEX})*)?\],\[(?:{_COUNT}(?:,{_COUNT})*)?\]\]$"
"""Of a sketch as text.  What fits is read without an error, so that it can be kept unread."""
TEXT_MOST: Final = 540 * len("539,9999999999999999,")
"""How long such a text can be, if each bucket is named once."""


def bucket(seconds: float) -> int:
    """The bucket of a duration."""
    if seconds <= LEAST:
        return 0
    return min(int(math.log(seconds) * FACTOR + OFFSET), LAST)


def upper(index: int) -> float:
    """The longest duration, in seconds, that a bucket is for."""
    return LEAST * math.pow(GAMMA, index)


def value(index: int) -> float:
    """The duration that stands for all of a bucket."""
    return upper(index) * _MIDDLE if index else LEAST


def merged(sketches: Iterable[Mapping[int, int]]) -> Sketch:
    """What all of them hold together; in whatever order and grouping, the same."""
    total: Sketch = {}
    for sketch in sketches:
        for index, count in sketch.items():
            total[index] = total.get(index, 0) + count
    return total


def grown(later: Mapping[int, int], earlier: Mapping[int, int]) -> Sketch:
    """What came to a sketch between two looks at it."""
    found = ((index, count - earlier.get(index, 0)) for index, count in later.items())
    return {index: more for index, more in found if more > 0}


def quantile(sketch: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds that ``share`` (0 to 1) of all are not above, within `ERROR`; None: there is none."""
    total = sum(sketch.values())
    if not total:
        return None
    rank = max(math.ceil(share * total), 1)
    for index in sorted(sketch):
        rank -= sketch[index]
        if rank <= 0:
            return value(index)
    return value(LAST)


def below(sketch: Mapping[int, int], bounds: Iterable[float]) -> list[int]:
    """How many durations each of ``bounds`` (seconds, ascending) is not below; of a bucket across a bound, none."""
    counts, ordered, place, sum_ = [], sorted(sketch), 0, 0
    for bound in bounds:
        while place < len(ordered) and upper(ordered[place]) <= bound:
            sum_ += sketch[ordered[place]]
            place += 1
        counts.append(sum_)
    return counts


def text(sketch: Mapping[int, int]) -> str:
    """As it travels and is kept: ``[[bucket, …], [count, …]]``, of the form `PATTERN`.

    From any thread, also while somebody counts: buckets are only ever added, and they are read first, so that each has
    its count.
    """
    return orjson.dumps((list(sketch), list(sketch.values()))).decode()


def of_text(text: str) -> Sketch:
    """What `text` made; of a bucket that is named twice the later count, and nothing of what has no partner."""
    indexes, counts = orjson.loads(text)
    return dict(zip(indexes, counts, strict=False))
