"""Spans on their way out, by OpenTelemetry's SDK: a bounded queue, one thread, OTLP over HTTP.

Loaded only when tracing is wanted (`schemas.kits.tracing.open_tracer`).  Always: who offers a span never waits for a
collector; what the queue does not hold is dropped and counted; the end of the process waits for a bounded time.
Endpoint, headers, time-out, compression, certificates and batch sizes are the SDK's own ``OTEL_…`` variables.
"""

import functools
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from schemas.kits import tracecontext, tracing
from schemas.kits.tracecontext import Traceparent

logger = structlog.get_logger("schemas.kits.otlp")

_QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
_QUEUE_DEFAULT = 2048
_BATCH_DEFAULT = 512
_KINDS = {
    tracing.Kind.INTERNAL: SpanKind.INTERNAL,
    tracing.Kind.SERVER: SpanKind.SERVER,
    tracing.Kind.CLIENT: SpanKind.CLIENT,
    tracing.Kind.PRODUCER: SpanKind.PRODUCER,
    tracing.Kind.CONSUMER: SpanKind.CONSUMER,
}
_FINE = Status(StatusCode.UNSET)


class Pipeline:
    """The way out of one process."""

    def __init__(
        self,
        service: str,
        attributes: Mapping[str, str],
        environ: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        """``exporter`` None: OTLP over HTTP."""
        own = dict(attributes)
        if "OTEL_SERVICE_NAME" not in environ and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            own["service.name"] = service
        self._resource = Resource.create(own)
        self._scope = InstrumentationScope("modplane")
        # what goes wrong on the way is told once, below
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._out = _Counted(exporter or OTLPSpanExporter())
        self._most = _room(environ)
        self._processor = BatchSpanProcessor(
            self._out, max_queue_size=self._most, max_export_batch_size=min(_BATCH_DEFAULT, self._most)
        )
        self._lock = threading.Lock()
        self._offered = 0
        self._dropped = 0
        self._closed = False

    def offer(self, span: tracing.Span) -> None:
        """Queue a span; when the queue is full it is dropped."""
        with self._lock:  # spans come from several threads
            if self._closed or self._offered - self._out.taken >= self._most:
                self._dropped += 1
                return
            self._offered += 1
        self._processor.on_end(self._readable(span))

    def close(self, seconds: float) -> None:
        """Send what is left; the SDK's own end may wait for a collector for half a minute, so it is left behind."""
        self._closed = True
        ending = threading.Thread(target=self._processor.shutdown, name="spans-out", daemon=True)
        ending.start()
        ending.join(seconds)
        left = self._offered - self._out.sent - self._out.failed
        if ending.is_alive() and left > 0:
            logger.warning("spans are lost at the end", spans=left)

    def wire(self) -> dict[str, Any]:
        """Spans sent, dropped for want of room, and lost since nobody took them."""
        return {"exported": self._out.sent, "dropped": self._dropped, "failed": self._out.failed}

    def _readable(self, span: tracing.Span) -> ReadableSpan:
        at = span.at
        parent = span.parent and SpanContext(
            int(at.trace_id, 16), int(span.parent, 16), span.remote, _flags(at.flags), _state(span.state)
        )
        return ReadableSpan(
            name=span.name,
            context=SpanContext(
                int(at.trace_id, 16),
                int(at.span_id, 16),
                is_remote=False,
                trace_flags=_flags(at.flags),
                trace_state=_state(span.state),
            ),
            parent=parent or None,
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(link)) for link in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else _FINE,
            start_time=span.start,
            end_time=max(span.end, span.start),
            instrumentation_scope=self._scope,
        )


class _Counted(SpanExporter):
    """An exporter that says what became of what it was given; runs in the processor's thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self.taken = 0
        self.sent = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.sent += len(spans)
            else:
                self.failed += len(spans)
            self._tell(failing=result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """No batch follows."""
        self._exporter.shutdown()

    def _tell(self, *, failing: bool) -> None:
        if failing is not self._failing:
            self._failing = failing
            if failing:
                logger.warning("spans are not taken", look_at="OTEL_EXPORTER_OTLP_ENDPOINT and the collector there")
            else:
                logger.info("spans are taken again", lost=self.failed)


def _room(environ: Mapping[str, str]) -> int:
    try:
        return max(int(environ.get(_QUEUE, "") or _QUEUE_DEFAULT), 1)
    except ValueError:
        return _QUEUE_DEFAULT


@functools.cache
def _flags(flags: int) -> TraceFlags:
    return TraceFlags(flags)


def _state(members: tracecontext.Members) -> TraceState | None:
    return TraceState(list(members)) if members else None


def _context(at: Traceparent) -> SpanContext:
    return SpanContext(int(at.trace_id, 16), int(at.span_id, 16), is_remote=True, trace_flags=_flags(at.flags))
