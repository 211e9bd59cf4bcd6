"""The judges of a soak see what must not be, and excuse only what a fault explains."""

from typing import Any

import pytest

from tests.soak import measuring
from tests.soak.histories import Answer, Asked, Firm, History, Span, excuse, illegal, judge


@pytest.fixture
def history() -> History:
    """Module m: generation 1 ACTIVE at 10, generation 2 at 20 and firm from 25; generation 3 is stored, no more."""
    made = History()
    for number in (1, 2, 3):
        made.saw("m", "u", number, f"t{number}", "s")
    made.registered = {("u", 1), ("u", 2)}
    made.active = {("u", 1), ("u", 2)}
    made.saw_active("u", 1, 10.0)
    made.saw_active("u", 2, 20.0)
    made.firm["m"] = Firm(25.0, "u", 2)
    return made


def answer(token: str = "t2", at: float = 30.0, **more: Any) -> Answer:
    given = {"status": 200, "module": "m", "stamp": "s", "token": token}
    return Answer("m", at, at + 0.1, **{**given, **more})


def test_an_answer_of_what_serves_is_well(history: History) -> None:
    assert judge(answer(), history) == ""
    assert judge(answer("t1", 15.0), history) == ""


def test_a_guarded_route_answers_those_alone_who_may_call_it(history: History) -> None:
    assert judge(answer(asked=Asked.ALLOWED), history) == ""
    assert judge(answer(asked=Asked.BARE, status=401), history) == ""
    assert "without a token" in judge(answer(asked=Asked.BARE), history)
    refused = answer(asked=Asked.ALLOWED, status=401)
    assert "good token" in judge(refused, history)
    history.spans.append(Span("clock jump", 29.0, clocks=True))
    assert judge(refused, history) == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer("t9"), "never stored"),
        (answer("t3"), "never REGISTERED"),
        (answer(module="other"), "never stored"),
        (answer("t1"), "every worker served generation 2"),
        (answer("t1", 22.0), "after generation 2 was ACTIVE"),
        (answer(status=404), "status 404"),
        (answer(status=503), "status 503"),
        (answer(at=15.0, status=500), "status 500"),
        (answer(status=0, failure="cut"), "no fault explains it"),
    ],
)
def test_what_must_not_be_is_named(history: History, given: Answer, says: str) -> None:
    assert says in judge(given, history)


def test_a_registered_generation_that_was_never_active_may_answer_only_if_it_was_overtaken(history: History) -> None:
    history.registered.add(("u", 3))
    assert "never ACTIVE" in judge(answer("t3"), history)
    history.saw("m", "u", 4, "t4", "s")
    assert judge(answer("t3"), history) == ""


def test_what_is_gone_answers_no_more_but_where_a_worker_was_apart(history: History) -> None:
    history.gone_at["u"] = 27.0
    history.loose_at["m"] = 26.0
    assert "gone 3.00 s before" in judge(answer(), history)
    history.spans.append(Span("freeze worker", 20.0, 24.0, parts=True))
    assert judge(answer(), history) == ""
    assert judge(answer(status=404), history) == ""


def test_a_module_that_somebody_began_to_take_away_is_firm_no_more(history: History) -> None:
    history.loose_at["m"] = 40.0
    assert judge(answer(status=404), history) != ""
    assert judge(answer(at=50.0, status=404), history) == ""


def test_only_a_fault_that_cuts_and_touches_a_call_excuses_it() -> None:
    lost = Answer("m", 30.0, 31.0)
    assert excuse(lost, [Span("kill worker", 29.0, 29.0, cuts=True)]) == "kill worker"
    assert excuse(lost, [Span("kill worker", 30.5, cuts=True)]) == "kill worker"
    assert excuse(lost, [Span("kill NATS", 29.0, cuts=False, parts=True)]) == ""
    assert excuse(lost, [Span("kill worker", 31.5, cuts=True), Span("kill worker", 10.0, 20.0, cuts=True)]) == ""


def walk(*steps: tuple[str, int]) -> list[dict[str, Any]]:
    found, before = [], None
    for number, (state, generation) in enumerate(steps, 1):
        found.append({"sequence": number, "from": before, "to": state, "generation": generation})
        before = state
    return found


LIFE = walk(
    ("DISCOVERED", 1), ("VALIDATED", 1), ("REGISTERED", 1), ("ACTIVE", 1), ("DISCOVERED", 2), ("ERROR", 2),
    ("UNREGISTERED", 2),
)  # fmt: skip


def test_a_life_is_legal() -> None:
    assert illegal(LIFE) == ""


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([*LIFE[:2], *LIFE[3:]], "event 3 is missing"),
        (LIFE[1:], "event 1 is missing"),
        ([*LIFE, {**LIFE[4], "sequence": 8, "from": "UNREGISTERED", "generation": 3}], "behind UNREGISTERED"),
        ([*LIFE[:3], {**LIFE[3], "from": "VALIDATED"}], "goes from VALIDATED to ACTIVE, behind REGISTERED"),
        ([*LIFE[:4], {**LIFE[4], "generation": 1}], "is of generation 1"),
        (walk(("DISCOVERED", 1), ("VALIDATED", 1), ("ACTIVE", 1)), "without having been"),
    ],
)
def test_what_no_module_may_do_is_seen(events: list[dict[str, Any]], says: str) -> None:
    assert says in illegal(events)


def samples(*values: int) -> list[measuring.Sample]:
    return [measuring.Sample(float(number), value << 20, 8, 30) for number, value in enumerate(values)]


def test_only_what_grows_beyond_its_slack_is_not_flat() -> None:
    assert measuring.growth(samples(*[100] * 20)) == {}
    assert measuring.growth(samples(*[100, 90] * 5, *[115, 121] * 5)) == {}
    assert set(measuring.growth(samples(*range(100, 300, 10)))) == {"memory"}
