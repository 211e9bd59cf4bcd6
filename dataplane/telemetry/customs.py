"""Metrics of modules' own: counters, gauges and histograms that authors count in, bounded whatever they do.

    self.metrics.counter("orders", "Orders that were taken.", ["kind"]).add(kind="web")

Shown by the worker as ``modplane_module_<name>``, with the labels ``module`` and ``version`` beside the author's.  So
two modules, or two versions of one, may use the same name.  A metric belongs to one version of a module and lives as
long as an instance of it: a new generation of the same version goes on with the numbers of the one before.

Always: a module has at most `SERIES` series and `METRICS` metrics; what is beyond is counted in one series of its
metric whose labels are all ``_other``, and no label's value is longer than `VALUE_LENGTH`.  May be called from any
thread.  Handed to modules by `dataplane.runtime.building`, shown by `dataplane.gauging`.
"""

import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from schemas.measures import OTHER

SERIES: Final = 500
"""Series that one version of a module may have, over all its metrics."""
METRICS: Final = 50
"""Metrics that it may have."""
VALUE_LENGTH: Final = 64
"""Characters of a label's value; the rest is cut off."""
BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Bucket limits of a histogram that names none."""
_LABELS_MAX: Final = 6
_BOUNDS_MAX: Final = 30
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OWN: Final = frozenset({"module", "version", "le"})
_PREFIX: Final = "modplane_module_"

Key = tuple[str, ...]
"""Values of a metric's labels, in their order."""


class Kind(StrEnum):
    """What a metric does."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True)
class _Room:
    """How many series there still may be, of all metrics of a module."""

    left: int = SERIES
    lock: threading.Lock = field(default_factory=threading.Lock)


class Metric:
    """One metric of a module; its series come into being when they are counted in."""

    def __init__(self, kind: Kind, name: str, help_: str, labels: Sequence[str], bounds: Key | Sequence[float]) -> None:
        self.kind = kind
        self.name = name
        self.help = help_[:200] or name
        self.labels = tuple(labels)
        self.bounds = tuple(map(float, bounds))
        self.room = _Room()
        self._series: dict[Key, list[float]] = {}

    @property
    def shape(self) -> tuple[object, ...]:
        """What two declarations of one metric have to agree in."""
        return (self.kind, self.labels, self.bounds)

    def _numbers(self, given: dict[str, object]) -> list[float]:
        """Those of the series that is meant; with the lock held.  ValueError for other labels than declared."""
        if given.keys() != set(self.labels):
            raise ValueError(f"metric {self.name!r} has the labels {list(self.labels)}, not {sorted(given)}")
        key = tuple(str(given[label])[:VALUE_LENGTH] for label in self.labels)
        found = self._series.get(key)
        if found is None and self.room.left <= 0:
            key = (OTHER,) * len(self.labels)
            found = self._series.get(key)
        if found is None:
            self.room.left -= 1
            found = self._series[key] = [0.0] * (len(self.bounds) + 2)
        return found

    @property
    def size(self) -> int:
        """How many series it has."""
        return len(self._series)

    def taken(self) -> dict[Key, list[float]]:
        """A copy of all series: the number, or the sum and how many fell into each bucket."""
        with self.room.lock:
            return {key: list(numbers) for key, numbers in self._series.items()}


class Counter(Metric):
    """Counts what happens."""

    def add(self, amount: float = 1.0, **labels: object) -> None:
        """Count ``amount`` more; ValueError if that is less than nothing."""
        if not amount >= 0:
            raise ValueError(f"counter {self.name!r} only grows, and was given {amount}")
        with self.room.lock:
            self._numbers(labels)[0] += amount


class Gauge(Metric):
    """Tells what is."""

    def set(self, value: float, **labels: object) -> None:
        """It is ``value`` now."""
        with self.room.lock:
            self._numbers(labels)[0] = float(value)

    def add(self, amount: float = 1.0, **labels: object) -> None:
        """It is more by ``amount``, which may be less than nothing."""
        with self.room.lock:
            self._numbers(labels)[0] += amount


class Histogram(Metric):
    """Tells how values are spread."""

    def observe(self, value: float, **labels: object) -> None:
        """Take in one value."""
        place = sum(value > bound for bound in self.bounds)
        with self.room.lock:
            numbers = self._numbers(labels)
            numbers[0] += value
            numbers[1 + place] += 1


class ModuleMetrics:
    """Where a module declares its metrics; declaring one again gives the same."""

    def __init__(self, module: str = "", version: str = "") -> None:
        self.module = module
        self.version = version
        self._room = _Room()
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help: str = "", labels: Sequence[str] = ()) -> Counter:  # noqa: A002 - as elsewhere
        """A counter, shown as ``modplane_module_<name>_total``; ValueError for a name or labels that cannot be."""
        found = self._declared(Counter(Kind.COUNTER, name, help, labels, ()))
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str, help: str = "", labels: Sequence[str] = ()) -> Gauge:  # noqa: A002 - as elsewhere
        """A gauge; ValueError for a name or labels that cannot be."""
        found = self._declared(Gauge(Kind.GAUGE, name, help, labels, ()))
        assert isinstance(found, Gauge)
        return found

    def histogram(
        self,
        name: str,
        help: str = "",  # noqa: A002 - as elsewhere
        labels: Sequence[str] = (),
        bounds: Sequence[float] = BOUNDS,
    ) -> Histogram:
        """A histogram with ascending bucket limits; ValueError for a name, labels or limits that cannot be."""
        if list(bounds) != sorted(set(bounds)) or not 0 < len(bounds) <= _BOUNDS_MAX:
            raise ValueError(f"histogram {name!r} needs 1 to {_BOUNDS_MAX} ascending bucket limits, not {bounds}")
        found = self._declared(Histogram(Kind.HISTOGRAM, name, help, labels, bounds))
        assert isinstance(found, Histogram)
        return found

    def _declared(self, metric: Metric) -> Metric:
        wrong = [each for each in (metric.name, *metric.labels) if not _NAME.fullmatch(each)]
        if wrong or _OWN & set(metric.labels) or len(metric.labels) > _LABELS_MAX:
            raise ValueError(
                f"metric {metric.name!r} with labels {list(metric.labels)}: names are lower-case letters, digits and "
                f"'_', at most 64; labels at most {_LABELS_MAX}, and none of {sorted(_OWN)}"
            )
        with self._room.lock:
            known = self._metrics.get(metric.name)
            if known is not None and known.shape == metric.shape:
                return known
            if known is None and len(self._metrics) >= METRICS:
                raise ValueError(f"metric {metric.name!r}: a module has at most {METRICS} metrics")
            metric.room = self._room
            if known is not None:
                self._room.left += known.size
            self._metrics[metric.name] = metric
            return metric

    def metrics(self) -> list[Metric]:
        """All of them, in the order in which they were declared."""
        return list(self._metrics.values())


_kept: weakref.WeakValueDictionary[tuple[str, str], ModuleMetrics] = weakref.WeakValueDictionary()
_keeping = threading.Lock()


def of_version(module: str, uid: str, version: str) -> ModuleMetrics:
    """The metrics of one version of a module, shared by its instances for as long as there is one."""
    with _keeping:
        found = _kept.get((uid, version))
        if found is None:
            found = _kept[uid, version] = ModuleMetrics(module, version)
        return found


def families(found: Iterable[ModuleMetrics]) -> Iterator[Family]:
    """Metrics of one name and kind together, whosever they are; of another kind under a name with that behind it."""
    made: dict[str, Family] = {}
    for owner in dict.fromkeys(found):
        for metric in owner.metrics():
            name = _PREFIX + metric.name
            if name in made and made[name].type != metric.kind:
                name = f"{name}_{metric.kind}"
            family = made.setdefault(name, Family(name, metric.help, metric.kind.value))
            own = {"module": owner.module, "version": owner.version}
            for key, numbers in metric.taken().items():
                _put(family, {**own, **dict(zip(metric.labels, key, strict=True))}, metric, numbers)
    yield from made.values()


def _put(family: Family, labels: dict[str, str], metric: Metric, numbers: list[float]) -> None:
    if metric.kind is not Kind.HISTOGRAM:
        ending = "_total" if metric.kind is Kind.COUNTER else ""
        family.add_sample(f"{family.name}{ending}", labels, numbers[0])
        return
    limits = [*map(floatToGoString, metric.bounds), "+Inf"]
    for limit, count in zip(limits, accumulate(numbers[1:]), strict=True):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": limit}, count)
    family.add_sample(f"{family.name}_count", labels, sum(numbers[1:]))
    family.add_sample(f"{family.name}_sum", labels, numbers[0])
