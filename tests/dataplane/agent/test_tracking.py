"""The steps of a change on a worker: whose they are, where one ends, and when they are told."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataplane.agent import tracking
from dataplane.errors import LoadFailed
from schemas.kits import buckets, tracecontext
from schemas.kits.natslink import NatsLink
from schemas.kits.tasks import Tasks
from schemas.kits.tracing import Tracer
from schemas.reports import WorkerReport
from schemas.traces import StepReport
from tests.doubles.spans import Kept

PARENT = tracecontext.start(tracecontext.SAMPLED)


class Link:
    """Takes what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def call(self, work: Any, *, deadline: float) -> Any:
        async def publish(subject: str, body: bytes) -> None:
            self.sent.append((subject, body))

        return await work(SimpleNamespace(client=SimpleNamespace(publish=publish)))


class Worker:
    """A worker's tracks, with what became of them."""

    def __init__(self) -> None:
        self.link, self.kept, self.tasks = Link(), Kept(), Tasks()
        self.tracks = tracking.Tracks(cast("NatsLink", self.link), self.tasks, Tracer(self.kept), worker="w0", boot="b")

    def arrives(self, name: str, parent: str = str(PARENT), *, age: float = 0.0, key: str = "") -> None:
        put, moment = buckets.Operation.PUT, time.time() - age
        headers = {"traceparent": parent}
        self.tracks.arrived(buckets.Entry(key or f"module.{name}", b"", 1, put, headers, moment))

    async def told(self, revision: int) -> list[StepReport]:
        """What is sent once a report of this revision got through."""
        report = SimpleNamespace(applied_epoch=1, applied_revision=revision)
        self.tracks.told(cast("WorkerReport", report), time.time_ns())
        while len(self.tasks):
            await asyncio.sleep(0)
        sent, self.link.sent = self.link.sent, []
        assert {subject for subject, _ in sent} <= {"modplane.steps.w0"}
        return [StepReport.model_validate_json(body) for _, body in sent]


async def test_the_steps_of_a_change_are_told_once_it_is_acknowledged() -> None:
    worker = Worker()
    worker.arrives("shop")
    with worker.tracks.step("shop", "load"):
        built = time.time_ns()
    worker.tracks.split("shop", "warm", built)
    assert await worker.told(9) == []  # not placed yet
    worker.tracks.placed("shop", (1, 5))
    assert await worker.told(4) == []  # not acknowledged yet
    ((report,),) = [await worker.told(5)]
    assert [step.name for step in report.steps] == ["apply", "load", "warm", "save", "acknowledge"]
    root, *parts = report.steps
    assert (root.trace, root.parent) == (PARENT.trace_id, PARENT.span_id)
    assert {step.parent for step in parts} == {root.id}
    assert {(step.who, step.module, step.error) for step in report.steps} == {("w0", "shop", "")}
    assert [span.name for span in worker.kept.spans] == [step.name for step in report.steps]
    assert await worker.told(6) == []


async def test_a_refused_change_says_why() -> None:
    worker = Worker()
    worker.arrives("shop")
    with pytest.raises(LoadFailed), worker.tracks.step("shop", "load"):
        raise LoadFailed("ImportFailed", "shop.py:1")
    worker.tracks.placed("shop", (1, 5), "ImportFailed")
    (report,) = await worker.told(5)
    assert [(step.name, step.error) for step in report.steps][:2] == [
        ("apply", "ImportFailed"),
        ("load", "ImportFailed"),
    ]


async def test_one_report_for_several_changes_links_their_traces() -> None:
    worker = Worker()
    other = tracecontext.start(tracecontext.SAMPLED)
    worker.arrives("shop")
    worker.arrives("users", str(other))
    for name in ("shop", "users"):
        worker.tracks.placed(name, (1, 5))
    await worker.told(5)
    links = {span.at.trace_id: span.links for span in worker.kept.spans if span.name == "acknowledge"}
    assert links == {PARENT.trace_id: (other,), other.trace_id: (PARENT,)}


@pytest.mark.parametrize("how", [{"age": 100.0}, {"parent": "garbage"}, {"key": "flag.beta"}])
async def test_what_is_nobody_s_change_has_no_steps(how: dict[str, Any]) -> None:
    worker = Worker()
    worker.arrives("shop", **how)
    with worker.tracks.step("shop", "load"):
        pass
    worker.tracks.placed("shop", (1, 1))
    assert await worker.told(9) == []


async def test_a_change_that_nobody_wants_any_more_is_forgotten() -> None:
    worker = Worker()
    worker.arrives("shop")
    worker.tracks.placed("shop", (1, 1))
    worker.tracks.gone("shop")
    assert await worker.told(9) == []
