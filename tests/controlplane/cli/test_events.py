"""`modplane events`: stored lifecycle events, as lines for people or CloudEvents."""

import json

import pytest

from controlplane.cli import printing
from schemas.events import CloudEvent
from tests.doubles import apiparts
from tests.doubles.desk import Desk


def lived(desk: Desk, name: str = "orders") -> None:
    desk.run(desk.parts.apply(apiparts.module(name)))
    desk.report(name, "VALIDATED")
    desk.report(name, "ACTIVE")


def test_events_come_in_order_and_by_module(desk: Desk) -> None:
    lived(desk)
    lived(desk, "other-one")
    lines = desk.type("events", "--module", "orders").out.splitlines()
    assert [line.split("  ")[2] for line in lines] == [
        "- -> DISCOVERED",
        "DISCOVERED -> VALIDATED",
        "VALIDATED -> ACTIVE",
    ]
    assert len(desk.type("events", "--module", "other_one").out.splitlines()) == 3
    assert len(desk.type("events", "--tail", "2").out.splitlines()) == 2


def test_json_lines_are_the_cloud_events(desk: Desk) -> None:
    lived(desk)
    events = [CloudEvent.model_validate_json(line) for line in desk.type("events", "-o", "json").out.splitlines()]
    assert [event.type.split(".")[3] for event in events] == ["discovered", "validated", "active"]
    assert [event.data["sequence"] for event in events] == [1, 2, 3]
    assert events[0].id == f"{events[0].data['uid']}-1"
    assert "from" not in json.loads(json.dumps(events[0].data)) or events[0].data["from"] is None


def test_following_goes_on_with_new_events(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lived(desk)
    lines: list[str] = []

    def show(text: str) -> None:
        lines.append(text)
        if len(lines) == 1:
            desk.report("orders", "ERROR")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(printing, "show", show)
    desk.type("events", "-f", "--tail", "1", "--module", "orders", code=130)
    assert "VALIDATED -> ACTIVE" in lines[0]
    assert "ACTIVE -> ERROR" in lines[1]
