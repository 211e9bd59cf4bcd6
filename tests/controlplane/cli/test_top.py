"""`modplane top`: modules by the time that their calls took, workers by name, with what they say of themselves."""

import pytest

from controlplane.cli import client, printing, workers
from controlplane.store.records import Record
from schemas.meta import Json, now_text
from tests.doubles.desk import Desk


def total(calls: int, errors: int, millis: float) -> Json:
    return {
        "call_count": calls,
        "error_count": errors,
        "total_duration_ms": millis,
        "avg_duration_ms": millis / calls,
        "success_rate": 1 - errors / calls,
        "p50_ms": 1.25,
        "p99_ms": None,
        "in_flight": 2,
        "last_access": now_text(printing.now()),
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Json]]:
    """What the metrics were asked for; they say the same each time."""
    seen: list[tuple[str, Json]] = []

    def manage(_: client.Client, path: str, params: Json) -> Json:
        seen.append((path, params))
        by_module = {"quick_one": total(9, 0, 9.0), "slow_one": total(2, 1, 90.0), "_other": total(1, 1, 1.0)}
        return by_module if params["group"] == "module" else {"w0": total(11, 1, 99.0)}

    monkeypatch.setattr(client.Client, "manage", manage)
    return seen


def test_modules_come_by_the_time_that_their_calls_took(desk: Desk, asked: list[tuple[str, Json]]) -> None:
    head, first, second, last = desk.type("top", "modules").out.splitlines()
    assert head.split()[:4] == ["MODULE", "CALLS", "ERRORS", "SUCCESS"]
    assert first.split() == ["slow-one", "2", "1", "50.00%", "45.0", "1.2", "-", "2", "0s", "ago"]
    assert second.split()[0] == "quick-one"
    assert last.split()[0] == "_other", "what was called and is no module"
    assert asked == [("/modules/metrics", {"group": "module"})]
    desk.type("top", "modules", "--since", "10m")
    assert "from" in asked[1][1]


def test_workers_say_how_they_are(desk: Desk, asked: list[tuple[str, Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, status in (("w0", {"report": {"state": "synced", "modules": 4}}), ("w1", {"lost": True})):
        made = Record("Worker", name, f"uid-{name}", 1, 0, desk.parts.clock.now(), status=status)
        desk.run(desk.parts.store.write(lambda tx, made=made: tx.put(made)))  # type: ignore[misc]
    said = {"report": {"loopLagSeconds": 0.0015, "memoryBytes": 64 << 20}}
    monkeypatch.setattr(workers, "ask", lambda item: said if item["metadata"]["name"] == "w0" else None)
    _, first, second = desk.type("top", "workers").out.splitlines()
    assert first.split() == ["w0", "synced", "4", "11", "1", "-", "1.5", "64", "-"]
    assert second.split() == ["w1", "lost", "0", "0", "0", "-", "-", "-", "-"]
    assert asked[0][1] == {"group": "worker"}


def test_before_anything_was_called_there_is_only_the_head(desk: Desk) -> None:
    assert len(desk.type("top", "modules").out.splitlines()) == 1
