"""Spans of requests: what is recorded, under which parent, with which names, and how little when it is not."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import APIRouter

from dataplane import sdk
from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.telemetry import tracing
from schemas.kits import otlp
from schemas.kits import tracing as kit
from tests.doubles import asgi, polling
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance
from tests.doubles.spans import Kept, exporting, hanging

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
BASE = "/api/v1/modules/v1/shop"


def routes(router: APIRouter) -> None:
    @router.get("/items/{number}")
    async def item(number: int) -> dict[str, Any]:
        return {"headers": sdk.trace_headers(), "trace": sdk.trace_id()}

    @router.get("/calls")
    async def calls() -> dict[str, Any]:
        with sdk.span("outer", market="emea", depth=1), sdk.outgoing_call("GET rates") as headers:
            return headers

    @router.get("/plain")
    def plain() -> dict[str, str]:
        with sdk.span("in a thread"):
            return sdk.trace_headers()

    @router.get("/raises")
    async def raises() -> None:
        with sdk.span("fails"):
            raise RuntimeError("secret of the author")

    @router.get("/many")
    async def many() -> None:
        for number in range(tracing.SPANS_MAX + 5):
            with sdk.span("s", **{f"a{at}": "x" * 1000 for at in range(number % 30)}):
                pass


class Traced:
    """A gateway with a tracer that keeps its spans."""

    def __init__(self, sampling: kit.Sampling, *, on: bool = True, sink: kit.Sink | None = None) -> None:
        self.kept = Kept()
        self.host = hosting.Host(grace=5.0)
        shown = pages.Pages(self.host, ready=lambda: {"ready": True}, info=dict, version="1")
        self.tracer = kit.Tracer(sink or self.kept, sampling) if on else kit.OFF
        self.app = tracing.traced(dispatching.Dispatcher(self.host, shown, FakeClock()), self.tracer)

    async def get(self, path: str, **headers: str) -> asgi.Answer:
        return await asgi.call(self.app, "GET", f"{BASE}{path}", headers=headers)


async def traced(share: float = 1.0, *, on: bool = True, sink: kit.Sink | None = None) -> Traced:
    made = Traced(kit.Sampling(share=share), on=on, sink=sink)
    await made.host.install(serving.serve(FakeInstance(routes), datetime(2030, 1, 1, tzinfo=UTC)))
    return made


async def test_a_recorded_request_has_a_server_span_under_its_client_and_a_child_for_the_handler() -> None:
    gateway = await traced()
    answer = await gateway.get("/items/7", traceparent=SAMPLED, tracestate="vendor=1", **{"user-agent": "test"})
    server, handler = gateway.kept.named(f"GET {BASE}/items/{{number}}"), gateway.kept.named("handle")
    assert server.at.trace_id == handler.at.trace_id == TRACE
    assert (server.parent, server.remote, handler.parent) == (SPAN, True, server.at.span_id)
    assert server.kind is kit.Kind.SERVER
    attributes = server.attributes
    assert attributes["http.route"] == f"{BASE}/items/{{number}}"
    assert attributes["http.request.method"] == "GET"
    assert attributes["http.response.status_code"] == 200
    assert attributes["url.path"] == f"{BASE}/items/7"
    assert attributes["user_agent.original"] == "test"
    assert attributes["modplane.module"] == "shop"
    assert server.start <= handler.start <= handler.end <= server.end
    assert answer.json["headers"] == {"traceparent": str(handler.at), "tracestate": "vendor=1"}
    assert answer.json["trace"] == TRACE


async def test_a_request_without_a_trace_begins_one_and_others_keep_apart() -> None:
    gateway = await traced()
    await gateway.get("/items/1")
    await gateway.get("/items/2")
    servers = [span for span in gateway.kept.spans if span.kind is kit.Kind.SERVER]
    assert {span.parent for span in servers} == {""}
    assert len({span.at.trace_id for span in servers}) == 2


@pytest.mark.parametrize(
    "given", ["garbage", SAMPLED.upper(), f"{SAMPLED}-more", f"00-{'0' * 32}-{SPAN}-01", f"{SAMPLED},{SAMPLED}"]
)
async def test_a_malformed_parent_begins_a_trace_of_our_own(given: str) -> None:
    gateway = await traced()
    answer = await gateway.get("/items/7", traceparent=given, tracestate="vendor=1")
    server = gateway.kept.named(f"GET {BASE}/items/{{number}}")
    assert (answer.status, server.parent) == (200, "")
    assert server.at.trace_id != TRACE
    assert "tracestate" not in answer.json["headers"]


async def test_what_the_client_does_not_sample_is_not_recorded_and_says_so_further_on() -> None:
    gateway = await traced()
    answer = await gateway.get("/items/7", traceparent=UNSAMPLED, tracestate="vendor=1", baggage="a=1")
    assert gateway.kept.spans == []
    sent = answer.json["headers"]
    assert sent["traceparent"].startswith(f"00-{TRACE}-")
    assert sent["traceparent"].endswith("-00")
    assert SPAN not in sent["traceparent"]
    assert (sent["tracestate"], sent["baggage"]) == ("vendor=1", "a=1")


async def test_with_tracing_off_a_trace_goes_through_as_it_came() -> None:
    gateway = await traced(on=False)
    assert isinstance(gateway.app, dispatching.Dispatcher)
    answer = await gateway.get("/items/7", traceparent=SAMPLED, baggage="a=1")
    assert answer.json == {"headers": {"traceparent": SAMPLED, "baggage": "a=1"}, "trace": TRACE}
    own = (await gateway.get("/items/7")).json
    assert own["headers"]["traceparent"].startswith(f"00-{own['trace']}-")


async def test_a_share_of_nothing_records_only_what_clients_sample() -> None:
    gateway = await traced(0.0)
    await gateway.get("/items/7")
    assert gateway.kept.spans == []
    await gateway.get("/items/7", traceparent=SAMPLED)
    assert gateway.kept.named("handle").at.trace_id == TRACE


async def test_a_module_s_own_spans_nest_and_carry_its_labels() -> None:
    gateway = await traced()
    answer = await gateway.get("/calls")
    outer, call = gateway.kept.named("outer"), gateway.kept.named("GET rates")
    assert outer.parent == gateway.kept.named("handle").at.span_id
    assert (call.parent, call.kind) == (outer.at.span_id, kit.Kind.CLIENT)
    assert answer.json["traceparent"] == str(call.at)
    assert {"market": "emea", "depth": 1, "modplane.module": "shop"}.items() <= outer.attributes.items()


async def test_a_plain_handler_in_a_thread_has_its_spans() -> None:
    gateway = await traced()
    answer = await gateway.get("/plain")
    assert answer.json["traceparent"] == str(gateway.kept.named("in a thread").at)


async def test_what_fails_is_marked_and_tells_nothing_of_the_author_s() -> None:
    gateway = await traced()
    answer = await gateway.get("/raises")
    assert answer.status == 500
    assert gateway.kept.named("fails").error == "RuntimeError"
    server = gateway.kept.named(f"GET {BASE}/raises")
    assert (server.error, server.attributes["error.type"]) == ("500", "500")
    assert "secret of the author" not in repr(gateway.kept.spans)


async def test_a_module_s_spans_and_their_attributes_are_capped() -> None:
    gateway = await traced()
    await gateway.get("/many")
    own = [span for span in gateway.kept.spans if span.name == "s"]
    assert len(own) == tracing.SPANS_MAX
    assert all(len(span.attributes) <= tracing.ATTRIBUTES_MAX + 3 for span in own)
    assert max(len(str(value)) for span in own for value in span.attributes.values()) <= kit.TEXT_MAX
    assert gateway.kept.named(f"GET {BASE}/many").attributes["modplane.spans.dropped"] == 5


async def test_what_no_route_has_is_named_by_its_method_only() -> None:
    gateway = await traced()
    await gateway.get("/none")
    await asgi.call(gateway.app, "BREW", f"{BASE}/pot")
    first, second = gateway.kept.spans
    assert (first.name, first.attributes["http.response.status_code"]) == ("GET", 404)
    assert "http.route" not in first.attributes
    assert (second.name, second.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert second.attributes["http.request.method_original"] == "BREW"


async def test_a_cancelled_request_ends_its_span() -> None:
    gateway = await traced()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    gateway.app = tracing.traced(never, gateway.tracer)
    task = asyncio.create_task(gateway.get("/items/1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gateway.kept.named("GET").error == "CancelledError"


async def test_a_collector_that_hangs_delays_no_request() -> None:
    with hanging() as exporter:
        pipeline = otlp.Pipeline("test", {}, {"OTEL_BSP_MAX_QUEUE_SIZE": "8"}, exporter)
        gateway = await traced(sink=pipeline)
        for _ in range(50):  # all on this thread: one that waited for the collector would wait for ever
            assert (await gateway.get("/items/1")).status == 200
        assert pipeline.wire()["exported"] == 0
        assert pipeline.wire()["dropped"] >= 100 - 2 * 8
        pipeline.close(0.0)
    await polling.until(lambda: not exporting(), what="the exporter's threads are gone")


def test_outside_of_a_request_there_is_no_trace() -> None:
    assert (sdk.trace_id(), sdk.trace_headers()) == (None, {})
    with sdk.span("nothing"), sdk.outgoing_call("nobody") as headers:
        assert headers == {}
