"""Checks in a row: what is known after each, and what is to be done; on hand-made time, and for every order."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dataplane.agent import probing
from dataplane.agent.probing import Step, Vital
from dataplane.runtime.asking import WELL, Answer
from schemas.module import HealthPolicy
from schemas.reports import HealthState

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = HealthPolicy(interval_seconds=10, failure_threshold=3)
BAD = Answer(False, "CheckFailed", "no database")


def run(answers: list[Answer], policy: HealthPolicy = POLICY) -> tuple[Vital, list[Step]]:
    """A check every interval."""
    vital, steps, now = Vital(BEGAN), [], 0.0
    for answer in answers:
        now += policy.interval_seconds
        vital, step = probing.heard(vital, answer, policy, now, BEGAN + timedelta(seconds=now))
        steps.append(step)
    return vital, steps


def test_one_good_check_makes_it_healthy() -> None:
    vital, steps = run([WELL, WELL])
    assert (vital.state, vital.since, steps) == (HealthState.HEALTHY, BEGAN + timedelta(seconds=10), [Step.NOTHING] * 2)


def test_fewer_failures_than_the_threshold_are_forgiven() -> None:
    vital, steps = run([WELL, BAD, BAD, WELL, BAD, BAD])
    assert vital.state is HealthState.HEALTHY
    assert set(steps) == {Step.NOTHING}


def test_the_threshold_makes_it_unhealthy_and_asks_for_a_fresh_instance() -> None:
    vital, steps = run([WELL, BAD, BAD, BAD])
    assert (vital.state, vital.reason, vital.message) == (HealthState.UNHEALTHY, "CheckFailed", "no database")
    assert steps[-1] is Step.REBUILD


def test_when_fresh_instances_do_not_help_it_is_taken_out_and_built_anew_ever_more_rarely() -> None:
    vital, steps = run([BAD] * 60)
    assert [index for index, step in enumerate(steps) if step is Step.TAKE_OUT] == [8]
    assert vital.out
    built = [index for index, step in enumerate(steps) if step is Step.REBUILD]
    assert built[:2] == [2, 5]
    gaps = [after - before for before, after in itertools.pairwise(built)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 3 * gaps[0]


def test_the_first_good_check_puts_it_back() -> None:
    vital, steps = run([BAD] * 12 + [WELL])
    assert steps[-1] is Step.PUT_BACK
    assert (vital.state, vital.out, vital.rebuilds) == (HealthState.HEALTHY, False, 0)


def test_the_words_of_the_first_failure_stay() -> None:
    vital, _ = run([Answer(False, "CheckFailed", f"no {number}") for number in range(8)])
    assert vital.message == "no 2"


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_always_out_only_while_unhealthy_and_steps_in_turn(good: list[bool], threshold: int) -> None:
    policy = HealthPolicy(interval_seconds=5, failure_threshold=threshold)
    vital, now, bad, out = Vital(BEGAN), 0.0, 0, False
    for each in good:
        now += 5
        before = vital
        vital, step = probing.heard(before, WELL if each else BAD, policy, now, BEGAN)
        bad = 0 if each else bad + 1
        assert (vital.state is HealthState.HEALTHY) is each or not each
        assert each or bad < threshold or vital.state is HealthState.UNHEALTHY
        assert step is not Step.REBUILD or (not each and bad >= threshold and now >= before.rebuild_at)
        assert step is not Step.TAKE_OUT or (not out and before.rebuilds >= probing.TRIES)
        assert step is not Step.PUT_BACK or (out and each)
        out = out and not each if step is not Step.TAKE_OUT else True
        assert vital.out is out
        assert not vital.out or vital.state is HealthState.UNHEALTHY
