"""Lifecycle events: CloudEvents with an id that never changes and a subject that people subscribe to."""

from datetime import UTC, datetime

import jsonschema_rs
import pytest

from schemas import events, publishing
from schemas.module import ModuleState

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)


def transition(to: str = "ACTIVE") -> events.ModuleTransition:
    return events.ModuleTransition(
        module="thing",
        uid="u-1",
        sequence=4,
        generation=2,
        from_="REGISTERED",
        to=to,
        reason="Programmed",
        message="2 of 2 workers",
        revision=17,
        at=AT,
    )


def test_a_transition_is_a_cloud_event_with_the_words_of_the_documentation() -> None:
    event = events.module_event(transition().model_copy(update={"traceparent": "00-x"}))
    wire = event.wire()
    assert wire["specversion"] == "1.0"
    assert wire["id"] == "u-1-4" == events.transition_id("u-1", 4)
    assert (wire["type"], wire["source"], wire["subject"]) == (
        "dev.modplane.module.active.v1",
        "/controlplane",
        "thing",
    )
    assert wire["traceparent"] == "00-x"
    assert set(wire["data"]) == {
        "module", "uid", "sequence", "generation", "from", "to", "reason", "message", "revision", "at",
    }  # fmt: skip
    assert wire["data"]["from"] == "REGISTERED"
    assert events.subject_of(event) == "modplane.events.module.thing.active"


@pytest.mark.parametrize("state", ModuleState)
def test_every_event_fits_its_published_schema(state: ModuleState) -> None:
    wire = events.module_event(transition(state.value)).wire()
    assert jsonschema_rs.is_valid(publishing.event_schema(), wire)


def test_a_first_transition_comes_from_nowhere() -> None:
    first = transition().model_copy(update={"from_": None})
    assert events.module_event(first).data["from"] is None


def test_worker_events_have_their_own_subject() -> None:
    event = events.worker_event("w0-b-joined", "w0", "joined", AT, {"boot": "b"})
    assert events.subject_of(event) == "modplane.events.worker.w0.joined"
    assert event.data == {"worker": "w0", "boot": "b"}


def test_an_event_is_read_tolerantly() -> None:
    wire = {**events.module_event(transition()).wire(), "extension": 1}
    assert events.CloudEvent.model_validate(wire).data["module"] == "thing"
