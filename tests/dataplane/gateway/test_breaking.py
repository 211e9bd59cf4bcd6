"""The circuit breaker on a clock by hand: when it opens, what it lets through, how it closes; and that always."""

from hypothesis import given
from hypothesis import strategies as st

from dataplane.gateway.breaking import LONGEST_SECONDS, PROBES, Breaker
from schemas.module import BreakerPolicy, CircuitState

POLICY = BreakerPolicy(error_percent=50, slow_percent=80, minimum_calls=10, window_seconds=10, open_seconds=5)


def calls(breaker: Breaker, at: float, *, good: int = 0, bad: int = 0, slow: int = 0) -> None:
    for failed, late, count in ((False, False, good), (False, True, slow), (True, False, bad)):
        for _ in range(count):
            breaker.note(at, failed=failed, slow=late)


def opened(policy: BreakerPolicy = POLICY) -> Breaker:
    breaker = Breaker(policy)
    calls(breaker, 0.0, bad=policy.minimum_calls)
    assert breaker.state == "open"
    return breaker


def test_it_opens_at_the_share_of_errors_and_says_why() -> None:
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, good=6, bad=5)
    assert breaker.state == "closed"
    calls(breaker, 0.0, bad=1)
    assert (breaker.state, breaker.message) == (CircuitState.OPEN, "6 of 12 calls within 10 s failed")


def test_fewer_calls_than_the_minimum_say_nothing() -> None:
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, bad=9)
    assert breaker.state == "closed"


def test_it_opens_for_slow_answers_too() -> None:
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, good=2, slow=8)
    assert breaker.state == "open"
    assert "nearly as long as they may" in breaker.message


def test_calls_leave_the_window() -> None:
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, bad=9)
    calls(breaker, 11.0, good=10)
    calls(breaker, 11.5, bad=5)
    assert breaker.state == "closed"
    calls(breaker, 15.0, bad=5)
    assert breaker.state == "open"


def test_while_open_nobody_is_let_through_and_then_a_few() -> None:
    breaker = opened()
    assert breaker.admit(4.9) == 0
    assert breaker.retry_after(3.5) == 2
    turns = [breaker.admit(5.0) for _ in range(PROBES + 2)]
    assert turns == [1] * PROBES + [0, 0]
    for turn in turns[:PROBES]:
        breaker.note(5.1, failed=False, slow=False, turn=turn)
    assert (breaker.state, breaker.message) == (CircuitState.CLOSED, "")


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_minute() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = breaker.retry_after(now)
        now += wait
        waits.append(wait)
        breaker.note(now, failed=True, slow=False, turn=breaker.admit(now))
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_probe_of_an_earlier_turn_changes_nothing() -> None:
    breaker = opened()
    old = breaker.admit(5.0)
    breaker.note(5.1, failed=True, slow=False, turn=breaker.admit(5.0))
    assert breaker.admit(15.2) == 2
    breaker.note(15.3, failed=True, slow=False, turn=old)
    assert breaker.state == "half_open"


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = opened()
    turns = [breaker.admit(5.0) for _ in range(PROBES)]
    breaker.withdraw(turns[0])
    assert breaker.admit(5.0) == 1


def test_a_circuit_that_nobody_calls_closes() -> None:
    breaker = opened()
    breaker.look(5.0)
    breaker.look(5.0 + LONGEST_SECONDS - 0.1)
    assert breaker.state == "half_open"
    breaker.look(5.0 + LONGEST_SECONDS)
    assert breaker.state == "closed"


STEP = st.tuples(st.floats(0, 8), st.sampled_from(["good", "bad", "slow", "ask", "end-good", "end-bad", "withdraw"]))


@given(st.lists(STEP, max_size=80))
def test_always_few_probes_and_no_call_before_its_time(steps: list[tuple[float, str]]) -> None:
    policy = POLICY.model_copy(update={"minimum_calls": 3})
    breaker, now, probes, opened_at = Breaker(policy), 0.0, [], 0.0
    for passed, what in steps:
        now += passed
        before = breaker.state
        if what in ("good", "bad", "slow") and before is CircuitState.CLOSED:
            breaker.note(now, failed=what == "bad", slow=what == "slow")
        elif what == "ask" and before is not CircuitState.CLOSED:
            turn = breaker.admit(now)
            assert not turn or now - opened_at >= policy.open_seconds
            probes += [turn] if turn else []
        elif probes:
            turn = probes.pop(0)
            if what == "withdraw":
                breaker.withdraw(turn)
            else:
                breaker.note(now, failed=what == "end-bad", slow=False, turn=turn)
        if breaker.state is CircuitState.OPEN and before is not CircuitState.OPEN:
            opened_at = now
        assert sum(turn == breaker.turn for turn in probes) <= PROBES
        assert bool(breaker.message) is (breaker.state is not CircuitState.CLOSED)
        assert (breaker.state is CircuitState.CLOSED) or breaker.retry_after(now) <= LONGEST_SECONDS
