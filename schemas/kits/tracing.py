"""Spans of a process: whether one is recorded, and where it goes; nothing at all while tracing is off.

    who does something ──Span──▶ Tracer ──▶ `schemas.kits.otlp` (bounded, in a thread of its own) ──▶ a collector

Always: without an endpoint nothing of OpenTelemetry's SDK is loaded and no span is made; a tracer never blocks and
never raises into what it watches; what cannot be sent is dropped and counted.  Settings are OpenTelemetry's own
variables: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
Made by each plane's ``app``; the planes' ``telemetry`` rooms say which spans there are.
"""

import random
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

import structlog

from schemas.kits import tracecontext
from schemas.kits.tracecontext import Traceparent

logger = structlog.get_logger("schemas.kits.tracing")

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
FLUSH_SECONDS: Final = 2.0
"""How long the end of a process waits for the spans that are left."""
TEXT_MAX: Final = 256
"""Characters of an attribute's text; the rest is cut off."""
_ROOM: Final = 1 << 64
_DEFAULT_SAMPLER: Final = "parentbased_always_on"
_SAMPLERS: Final = frozenset(
    {
        "always_on",
        "always_off",
        "traceidratio",
        _DEFAULT_SAMPLER,
        "parentbased_always_off",
        "parentbased_traceidratio",
    }
)

Attributes = dict[str, str | bool | int | float]


class Kind(IntEnum):
    """What a span is to its trace, numbered as OpenTelemetry's API has it."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Span(NamedTuple):
    """One finished piece of work."""

    name: str
    at: Traceparent
    """Its own position; what it does further on has this as parent."""
    parent: str
    """Span id of who caused it; empty: nobody."""
    start: int
    end: int
    """Nanoseconds since 1970."""
    kind: Kind = Kind.INTERNAL
    attributes: Mapping[str, str | bool | int | float] = {}
    links: tuple[Traceparent, ...] = ()
    """Other traces that were served by the same work."""
    error: str = ""
    """What went wrong; empty: nothing."""
    state: tracecontext.Members = ()
    remote: bool = False
    """Whether the parent is of another process."""


class Sampling(NamedTuple):
    """Which traces are recorded (``OTEL_TRACES_SAMPLER``)."""

    parent_decides: bool = True
    share: float = 1.0
    """Of the traces that begin here."""

    def wants(self, parent: Traceparent | None) -> bool:
        """Whether a span under this parent is recorded; with none, a random share of them."""
        if parent is None:
            return self.share >= 1.0 or random.random() < self.share  # noqa: S311 - draws samples, keeps no secret
        if self.parent_decides:
            return parent.sampled
        return int(parent.trace_id[16:], 16) < self.share * _ROOM


class Sink(Protocol):
    """Where spans go."""

    def offer(self, span: Span) -> None:
        """Take a span, or drop it; never waits."""
        ...

    def close(self, seconds: float) -> None:
        """Send what is left, for at most so long."""
        ...

    def wire(self) -> dict[str, Any]:
        """What became of the spans so far."""
        ...


class Tracer:
    """Where a plane's spans begin and end; off without a sink."""

    def __init__(self, sink: Sink | None = None, sampling: Sampling | None = None) -> None:
        self.on = sink is not None
        self.sampling = sampling or Sampling()
        self._sink = sink

    def root(self, parent: Traceparent | None = None) -> Traceparent:
        """A position for work that begins here, under ``parent`` if there is one; says whether it is recorded."""
        flags = (tracecontext.RANDOM if parent is None else parent.flags) & ~tracecontext.SAMPLED
        if self.on and self.sampling.wants(parent):
            flags |= tracecontext.SAMPLED
        trace_id = tracecontext.new_trace_id() if parent is None else parent.trace_id
        return Traceparent(trace_id, tracecontext.new_span_id(), flags)

    def end(self, span: Span) -> None:
        """A span is over; kept only when its trace is sampled."""
        if self._sink is not None and span.at.sampled:
            self._sink.offer(span)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is left, for at most so long; blocks."""
        if self._sink is not None:
            self._sink.close(seconds)

    def wire(self) -> dict[str, Any]:
        """For the information page of a plane."""
        return {"enabled": self.on} | ({} if self._sink is None else self._sink.wire())


OFF: Final = Tracer()


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def cut(attributes: Mapping[str, Any], most: int) -> Attributes:
    """At most so many attributes, of the types that a span may hold, their texts not too long."""
    kept: Attributes = {}
    for name, value in attributes.items():
        if len(kept) == most:
            break
        kept[name[:TEXT_MAX]] = value if isinstance(value, bool | int | float) else str(value)[:TEXT_MAX]
    return kept


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the operator named somebody to send spans to, and did not turn them off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in {"", "otlp"}:
        return False
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def sampling(environ: Mapping[str, str]) -> Sampling:
    """What ``OTEL_TRACES_SAMPLER`` and its argument say; what makes no sense is told and left out."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or _DEFAULT_SAMPLER
    if name not in _SAMPLERS:
        logger.warning("sampler unknown", sampler=name, known=", ".join(sorted(_SAMPLERS)))
        name = _DEFAULT_SAMPLER
    share = 1.0
    if name.endswith("traceidratio"):
        given = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            share = float(given)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            logger.warning("sampler's share makes no sense", given=given[:40], taken=1.0)
            share = 1.0
    elif name.endswith("always_off"):
        share = 0.0
    return Sampling(name.startswith("parentbased_"), share)


def open_tracer(environ: Mapping[str, str], service: str, attributes: Mapping[str, str]) -> Tracer:
    """The process's tracer; `OFF` unless it is wanted.  ``service`` is the name where the operator gives none."""
    if not is_wanted(environ):
        return OFF
    from schemas.kits import otlp  # late: the SDK takes 150 ms, and most processes never send a span

    return Tracer(otlp.Pipeline(service, attributes, environ), sampling(environ))
