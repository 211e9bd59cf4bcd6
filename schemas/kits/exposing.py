"""Numbers as Prometheus reads them: rendered in a thread of its own, once for all who ask within a second.

Rendering thousands of series takes long (0.15 ms each); on an event loop it would hold up whatever else runs there.  So
it happens aside, one at a time, and who asks meanwhile gets the same text.  What is rendered comes from collectors of
`prometheus_client`; facts that are asked of others are made by ``families`` in that thread, too, so it may only read
what any thread may read.

Knows nothing of modules.  Used for ``/metrics`` by both planes.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FRESH_SECONDS: Final = 1.0
"""How long a text is given to others who ask."""

Families = Callable[[], Iterable[Metric]]


class Exposition:
    """The metrics of one process."""

    def __init__(self, families: Families, registry: CollectorRegistry | None = None) -> None:
        """``registry``: what else is shown, beside ``families`` and the process's own."""
        self._registries = [own := CollectorRegistry(auto_describe=False)]
        if registry is not None:
            self._registries.append(registry)
        own.register(_Asking(families))
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)
        GCCollector(registry=own)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics-text")
        self._text: asyncio.Future[bytes] | None = None
        self._asked = 0.0

    async def text(self) -> bytes:
        """All of it, in Prometheus's text format; at most a second old."""
        now = time.monotonic()
        if self._text is None or (self._text.done() and now - self._asked >= FRESH_SECONDS):
            self._asked = now
            loop = asyncio.get_running_loop()
            self._text = loop.run_in_executor(self._thread, self._rendered)
        return await asyncio.shield(self._text)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _rendered(self) -> bytes:
        return b"".join(generate_latest(registry) for registry in self._registries)


class _Asking(Collector):
    """A collector that asks each time."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families()


def is_local(scope: Mapping[str, Any]) -> bool:
    """Whether an ASGI request comes from this machine."""
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def gauge(name: str, help_: str, value: float | Mapping[str, float], label: str = "") -> Metric:
    """A gauge; with ``label``, one for each of its values."""
    family = GaugeMetricFamily(name, help_, labels=[label] if label else [])
    return _filled(family, value)


def counter(name: str, help_: str, value: float | Mapping[str, float], label: str = "") -> Metric:
    """A counter, whose name gets the ending ``_total``; with ``label``, one for each of its values."""
    family = CounterMetricFamily(name, help_, labels=[label] if label else [])
    return _filled(family, value)


def keys_of(issuers: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """How the keys of issuers are, as `schemas.kits.tokens.verifying.Verifier.wire` tells them."""
    found = list(issuers)
    fields = (
        ("modplane_jwks_keys", "Keys of an issuer that are believed.", "keys"),
        ("modplane_jwks_age_seconds", "Since an issuer's keys were fetched.", "ageSeconds"),
        ("modplane_jwks_trouble", "Whether an issuer's keys cannot be had.", "trouble"),
    )
    for name, help_, field in fields:
        told = {str(each["issuer"]): each[field] for each in found if each.get(field) is not None}
        values = {issuer: float(bool(value) if field == "trouble" else value) for issuer, value in told.items()}
        yield gauge(name, help_, values, "issuer")


def _filled(family: GaugeMetricFamily | CounterMetricFamily, value: float | Mapping[str, float]) -> Metric:
    if isinstance(value, Mapping):
        for key, each in value.items():
            family.add_metric([key], each)
    else:
        family.add_metric([], value)
    return family
