"""A tracer that keeps what it is given, and a server that takes OTLP as a collector does."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from schemas.kits import tracing


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.spans: list[tracing.Span] = []

    def offer(self, span: tracing.Span) -> None:
        self.spans.append(span)

    def close(self, seconds: float) -> None:
        pass

    def wire(self) -> dict[str, Any]:
        return {"exported": len(self.spans)}

    def named(self, name: str) -> tracing.Span:
        """The one span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found


class Collector:
    """What arrived, span by span: the fields that tests look at."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def taken(self) -> list[dict[str, Any]]:
        """Every span so far."""
        with self.lock:
            return list(self.spans)

    def take(self, body: bytes) -> None:
        """One request of an exporter."""
        message = ExportTraceServiceRequest.FromString(body)
        for resources in message.resource_spans:
            resource = {each.key: each.value.string_value for each in resources.resource.attributes}
            for scope in resources.scope_spans:
                for span in scope.spans:
                    with self.lock:
                        self.spans.append(_span(span, resource))


def _span(span: Any, resource: dict[str, str]) -> dict[str, Any]:
    return {
        "name": span.name,
        "service": resource.get("service.name", ""),
        "instance": resource.get("service.instance.id", ""),
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": {
            each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes
        },
        "links": [link.trace_id.hex() for link in span.links],
        "error": span.status.message if span.status.code == 2 else "",
    }


class Hanging(SpanExporter):
    """A collector that does not answer until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.asked.set()
        self.let_go.wait(300)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


@contextlib.contextmanager
def hanging() -> Iterator[Hanging]:
    """A collector that does not answer within the block."""
    exporter = Hanging()
    try:
        yield exporter
    finally:
        exporter.let_go.set()


def exporting() -> list[str]:
    """The threads that send spans."""
    return [each.name for each in threading.enumerate() if each.name.startswith(("OtelBatch", "spans-out"))]


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """An OTLP receiver on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            taken.take(self.rfile.read(length))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
