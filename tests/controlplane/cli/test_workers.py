"""`modplane get workers` and `describe worker`: what was reported, and what the worker says itself."""

from typing import Any

import httpx
import pytest

from controlplane.store.records import Record
from schemas.kits.clocks import SystemClock
from schemas.meta import Json, now_text
from tests.doubles.desk import Desk

NOW = now_text(SystemClock().now())
REPORT: Json = {
    "id": "w0",
    "boot": "0a1b2c3d",
    "labels": {"zone": "a", "disk": "fast"},
    "address": "http://127.0.0.1:9",
    "hostVersion": "python/3.11",
    "observedEpoch": 2,
    "observedRevision": 41,
    "appliedEpoch": 2,
    "appliedRevision": 40,
    "modules": 1,
    "state": "degraded",
    "synced": True,
    "pending": [
        {"module": "slow", "generation": 2, "since": NOW, "reason": "LifespanFailed", "message": "no database"}
    ],
    "rejected": [
        {"module": "bad", "generation": 3, "reason": "ImportFailed", "message": "bad.py:3: no", "servingSince": NOW},
        {"module": "worse", "generation": 1, "reason": "RoutesDiffer", "message": "other routes"},
    ],
    "loopLagSeconds": 0.002,
    "memoryBytes": 64 << 20,
    "startedAt": NOW,
    "reportedAt": NOW,
}


def put(desk: Desk, name: str = "w0", *, lost: bool = False, **report: Any) -> None:
    status = {"report": {**REPORT, "id": name, **report}, "lost": lost}
    record = Record("Worker", name, f"uid-{name}", 1, 0, SystemClock().now(), status=status)
    desk.run(desk.parts.store.write(lambda tx: tx.put(record)))


def test_get_workers_counts_what_is_pending_and_rejected(desk: Desk) -> None:
    put(desk)
    put(desk, "w1", lost=True, pending=[], rejected=[], state="synced")
    head, first, second = desk.type("get", "workers").out.splitlines()
    assert head.split()[:7] == ["NAME", "STATE", "LOST", "MODULES", "PENDING", "REJECTED", "APPLIED"]
    assert first.split()[:7] == ["w0", "degraded", "false", "1", "1", "2", "40"]
    assert second.split()[:7] == ["w1", "synced", "true", "1", "0", "0", "40"]
    assert "disk=fast,zone=a" in desk.type("get", "worker/w0", "-o", "wide").out


def test_describe_asks_the_worker_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    put(desk)
    since = NOW
    live = {
        "worker": {"id": "w0", "pid": 4711},
        "report": {**REPORT, "memoryBytes": 80 << 20, "loopLagSeconds": 0.0015},
        "modules": [
            {"name": "b", "generation": 1, "version": "1.0.0", "since": since, "serving": True, "inFlight": 3},
            {
                "name": "a",
                "generation": 2,
                "version": "2.0.0",
                "since": since,
                "serving": False,
                "reason": "CodeMissing",
            },
        ],
    }
    asked: list[str] = []

    def get(url: str, **_: Any) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, json=live)

    monkeypatch.setattr(httpx, "get", get)
    out = desk.type("describe", "worker", "w0").out
    assert asked == ["http://127.0.0.1:9/modules/system/info"]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "State: degraded" in lines
    assert "Address: http://127.0.0.1:9" in lines
    assert "Process: 4711" in lines
    assert "Labels: zone=a, disk=fast" in lines
    assert "Applied: revision 40, epoch 2" in lines
    assert "Observed: revision 41, epoch 2" in lines
    assert "Loop lag: 1.5 ms" in lines
    assert "Memory: 80 MiB" in lines
    first, second = (line for line in lines if line.startswith(("a 2", "b 1")))
    assert first.startswith("a 2 2.0.0 no: CodeMissing")
    assert second.startswith("b 1 1.0.0 yes")
    assert second.endswith(" 3")
    assert any(line.startswith("slow 2 ") and line.endswith("LifespanFailed no database") for line in lines)
    assert any(line.startswith("bad 3 ImportFailed") and line.endswith("bad.py:3: no") for line in lines)
    assert "worse 1 RoutesDiffer nothing serves other routes" in lines


@pytest.mark.parametrize("answer", [None, {"worker": {"id": "w9"}}, ["nonsense"]])
def test_a_worker_that_does_not_answer_is_described_by_its_report(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    put(desk, lost=True, leaving=True, appliedRevision=0)

    def get(url: str, **_: Any) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(200, json=answer)

    monkeypatch.setattr(httpx, "get", get)
    out = desk.type("describe", "worker", "w0").out
    assert "State:        lost, leaving" in out
    assert "(does not answer)" in out
    assert "(the last change)" in out
    assert "Applied:      nothing yet" in out
    assert "Modules: none" in out
    assert "Loop lag" not in out


def test_a_worker_that_never_reported(desk: Desk) -> None:
    record = Record("Worker", "w5", "uid-w5", 1, 0, SystemClock().now(), status={"report": None, "lost": False})
    desk.run(desk.parts.store.write(lambda tx: tx.put(record)))
    out = desk.type("describe", "worker", "w5").out
    assert "State:        unknown" in out
    assert "Pending: none" in out
