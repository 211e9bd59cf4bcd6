"""Tracing's settings, sampling, and the way out: bounded, counted, and never in anybody's way."""

import subprocess
import sys

import pytest
import structlog
from opentelemetry.sdk.trace.export import SpanExportResult

from schemas.kits import otlp, tracecontext, tracing
from tests.doubles import polling, spans

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE "}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "no"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_tracing_is_on_only_where_an_endpoint_is_named(environ: dict[str, str], *, wanted: bool) -> None:
    assert tracing.is_wanted(environ) is wanted


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", (True, 1.0)),
        ("always_on", "", (False, 1.0)),
        ("always_off", "", (False, 0.0)),
        ("traceidratio", "0.25", (False, 0.25)),
        ("parentbased_always_on", "0.5", (True, 1.0)),
        ("parentbased_always_off", "", (True, 0.0)),
        ("parentbased_traceidratio", "0.1", (True, 0.1)),
        ("parentbased_traceidratio", "", (True, 1.0)),
        ("parentbased_traceidratio", "2", (True, 1.0)),
        ("parentbased_traceidratio", "much", (True, 1.0)),
        ("xray", "", (True, 1.0)),
    ],
)
def test_samplers(name: str, argument: str, expected: tuple[bool, float]) -> None:
    assert tracing.sampling({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}) == expected


def test_a_parent_decides_or_the_trace_id_does() -> None:
    low = tracecontext.Traceparent("f" * 16 + "0" * 15 + "1", "1" * 16, 0)
    high = tracecontext.Traceparent("f" * 32, "1" * 16, tracecontext.SAMPLED)
    by_parent, by_id = tracing.Sampling(parent_decides=True, share=0.5), tracing.Sampling(False, 0.5)
    assert [by_parent.wants(low), by_parent.wants(high)] == [False, True]
    assert [by_id.wants(low), by_id.wants(high)] == [True, False]


def test_without_an_endpoint_nothing_of_the_sdk_is_loaded() -> None:
    program = (
        "import sys; from schemas.kits import tracing; from dataplane.sdk import span\n"
        "assert tracing.open_tracer({}, 'x', {}) is tracing.OFF\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def span(name: str = "work", flags: int = tracecontext.SAMPLED, **more: object) -> tracing.Span:
    at = tracecontext.start(flags)
    return tracing.Span(name, at, "", 1, 2)._replace(**more)  # type: ignore[arg-type]


def test_a_collector_gets_what_was_recorded_with_all_that_belongs_to_it() -> None:
    link = tracecontext.start()
    with spans.collector() as taken, pytest.MonkeyPatch.context() as patch:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": taken.url, "OTEL_RESOURCE_ATTRIBUTES": "team=a"}
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        tracer = tracing.open_tracer(environ, "modplane-test", {"service.instance.id": "w0"})
        one = span(kind=tracing.Kind.SERVER, attributes={"a": 1, "b": "x"}, links=(link,), error="500", parent="1" * 16)
        tracer.end(one)
        tracer.end(span("not sampled", flags=0))
        tracer.close(30)
        (found,) = taken.taken()
    assert (found["name"], found["service"], found["instance"]) == ("work", "modplane-test", "w0")
    assert (found["trace"], found["id"], found["parent"]) == (one.at.trace_id, one.at.span_id, "1" * 16)
    assert (found["links"], found["attributes"], found["error"]) == ([link.trace_id], {"a": 1, "b": "x"}, "500")
    assert tracer.wire() == {"enabled": True, "exported": 1, "dropped": 0, "failed": 0}


async def test_a_collector_that_hangs_costs_spans_and_nobody_s_time() -> None:
    with spans.hanging() as exporter:
        pipeline = otlp.Pipeline("test", {}, {"OTEL_BSP_MAX_QUEUE_SIZE": "10"}, exporter)
        for _ in range(10):
            pipeline.offer(span())
        assert exporter.asked.wait(30)  # it is inside, with the first batch
        for _ in range(50):
            pipeline.offer(span())
        assert pipeline.wire()["exported"] == 0
        assert pipeline.wire()["dropped"] >= 60 - 2 * 10
        with structlog.testing.capture_logs() as told:
            pipeline.close(0.0)  # returns, though nobody answered
        assert [each["event"] for each in told] == ["spans are lost at the end"]
    await polling.until(lambda: not spans.exporting(), what="the exporter's threads are gone")


class Refusing(spans.Hanging):
    def export(self, spans: object) -> SpanExportResult:
        raise OSError("no such host")


def test_what_nobody_takes_is_counted_and_told_once() -> None:
    with structlog.testing.capture_logs() as told:
        pipeline = otlp.Pipeline("test", {}, {}, Refusing())
        for _ in range(3):
            pipeline.offer(span())
        pipeline.close(30)
    assert pipeline.wire() == {"exported": 0, "dropped": 0, "failed": 3}
    assert [each["event"] for each in told] == ["spans are not taken"]
