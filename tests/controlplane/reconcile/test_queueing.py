"""The work queue keeps its contract: once each, one at a time, nothing lost, nothing starved, honest back-off."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile.queueing import Priority, Schedule, WorkQueue
from schemas.kits.backoffs import Backoff
from tests.doubles.clock import FakeClock
from tests.doubles.virtualloop import VirtualClock, virtually


def schedule() -> Schedule:
    return Schedule(Backoff(base=0.1, cap=60.0, source=Random(1)))


def drain(queue: Schedule, now: float) -> list[str]:
    taken = []
    while (key := queue.take(now)) is not None:
        taken.append(key)
        queue.done(key)
    return taken


def test_a_key_is_queued_once_however_often_it_is_added() -> None:
    queue = schedule()
    for _ in range(1000):
        queue.add("a", Priority.WAKE, 0.0)
    assert len(queue) == 1
    assert drain(queue, 0.0) == ["a"]


def test_a_thousand_adds_while_one_run_is_held_make_exactly_one_more_run() -> None:
    async def scenario() -> None:
        queue = WorkQueue(VirtualClock(), Backoff(source=Random(1)))
        barrier, runs = asyncio.Event(), 0

        async def worker() -> None:
            nonlocal runs
            while True:
                key = await queue.get()
                runs += 1
                await barrier.wait()
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(50)]
        queue.add("a")
        await asyncio.sleep(1)
        assert runs == 1
        for _ in range(1000):
            queue.add("a")
        await asyncio.sleep(1)
        assert runs == 1
        assert queue.held == {"a"}
        barrier.set()
        await asyncio.sleep(1000)
        assert runs == 2
        for task in workers:
            task.cancel()

    virtually(scenario())


def test_of_several_delayed_adds_the_earliest_wins() -> None:
    queue = schedule()
    queue.add("a", Priority.RESYNC, 0.0, delay=600.0)
    queue.add("a", Priority.WAKE, 0.0, delay=5.0)
    queue.add("a", Priority.WAKE, 0.0, delay=50.0)
    assert queue.due("a") == 5.0
    assert queue.take(4.9) is None
    assert queue.next_due() == 5.0
    assert queue.take(5.0) == "a"
    queue.done("a")
    assert queue.next_due() is None


def test_an_edit_overtakes_ten_thousand_resyncs() -> None:
    queue = schedule()
    for number in range(10_000):
        queue.add(f"r{number}", Priority.RESYNC, 0.0)
    queue.renew("edited", 1.0)
    assert queue.take(1.0) == "edited"


def test_no_resync_starves_under_an_endless_stream_of_edits() -> None:
    queue = schedule()
    queue.add("resync", Priority.RESYNC, 0.0)
    served_at = None
    for tick in range(200):
        queue.renew(f"edit{tick}", float(tick))
        key = queue.take(float(tick))
        assert key is not None
        queue.done(key)
        if key == "resync":
            served_at = tick
    assert served_at is not None
    assert served_at <= Priority.EDIT + 1


def test_twenty_wake_ups_during_back_off_do_not_inflate_it() -> None:
    queue = schedule()
    queue.add("a", Priority.WAKE, 0.0)
    assert queue.take(0.0) == "a"
    wait = queue.failed("a", "uid", 0.0)
    queue.done("a")
    for _ in range(20):
        queue.add("a", Priority.WAKE, 0.01)
    assert queue.take(wait * 0.9) is None
    assert queue.failures("a") == 1
    assert queue.due("a") == pytest.approx(wait)


def test_wake_ups_during_a_failing_run_wait_for_its_retry() -> None:
    queue = schedule()
    queue.add("a", Priority.WAKE, 0.0)
    queue.take(0.0)
    queue.add("a", Priority.WAKE, 0.0)
    wait = queue.failed("a", "uid", 0.0)
    queue.done("a")
    assert queue.due("a") == pytest.approx(wait)


def test_a_new_intent_runs_at_once_and_forgets_the_failures() -> None:
    queue = schedule()
    for moment in (0.0, 100.0, 200.0):
        queue.add("a", Priority.WAKE, moment)
        queue.take(moment)
        queue.failed("a", "uid", moment)
        queue.done("a")
    assert queue.failures("a") == 3
    queue.renew("a", 200.0)
    assert queue.failures("a") == 0
    assert queue.take(200.0) == "a"


def test_a_new_intent_during_a_failing_run_is_not_held_back() -> None:
    queue = schedule()
    queue.add("a", Priority.WAKE, 0.0)
    queue.take(0.0)
    queue.renew("a", 0.0)
    queue.failed("a", "uid", 0.0)
    queue.done("a")
    assert queue.take(0.0) == "a"


def test_failures_belong_to_a_uid() -> None:
    queue = schedule()
    for uid, failures in (("old", 1), ("new", 1)):
        queue.add("a", Priority.WAKE, 0.0)
        queue.renew("a", 0.0) if uid == "new" else None
        assert queue.take(0.0) == "a"
        queue.failed("a", uid, 0.0)
        queue.done("a")
        assert queue.failures("a") == failures


def test_a_failure_before_its_retry_was_due_counts_no_further() -> None:
    queue = schedule()
    assert queue.failed("a", "uid", 0.0) > 0
    queue.failed("a", "uid", 0.0)
    assert queue.failures("a") == 1
    queue.failed("a", "other", 0.0)
    assert queue.failures("a") == 1


def test_success_forgets_failures_and_forgetting_drops_the_key() -> None:
    queue = schedule()
    queue.failed("a", "uid", 0.0)
    queue.succeeded("a")
    assert queue.failures("a") == 0
    queue.forget("a")
    assert queue.due("a") is None
    assert queue.take(1e9) is None


def test_a_thousand_failures_at_once_are_spread() -> None:
    queue = schedule()
    for number in range(1000):
        queue.failed(str(number), "uid", 0.0)
    bins = [0] * 10
    for number in range(1000):
        due = queue.due(str(number))
        assert due is not None
        bins[min(int(due / 0.1 * 10), 9)] += 1
    assert max(bins) <= 3 * 100


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "later", "renew", "take", "done", "fail", "pass"]),
            st.sampled_from("abc"),
            st.sampled_from(list(Priority)),
        ),
        max_size=80,
    )
)
def test_whatever_happens_no_key_is_lost_or_held_twice(moves: list[tuple[str, str, Priority]]) -> None:
    queue, now, held, wanted = schedule(), 0.0, set[str](), set[str]()
    for move, key, priority in moves:
        if move == "add":
            queue.add(key, priority, now)
            wanted.add(key)
        elif move == "later":
            queue.add(key, priority, now, delay=7.0)
            wanted.add(key)
        elif move == "renew":
            queue.renew(key, now)
            wanted.add(key)
        elif move == "take" and (taken := queue.take(now)) is not None:
            assert taken not in held
            assert taken in wanted
            held.add(taken)
            wanted.discard(taken)
        elif move == "done" and key in held:
            queue.done(key)
            held.discard(key)
        elif move == "fail" and key in held:
            queue.failed(key, "uid", now)
            queue.done(key)
            held.discard(key)
            wanted.add(key)
        elif move == "pass":
            now += 3.0
    for key in held:
        queue.done(key)
    assert queue.held == frozenset()
    assert len(queue) == len(wanted)
    assert set(drain(queue, now + 1000.0)) == wanted


async def test_a_cancelled_wait_takes_nothing() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock, Backoff(source=Random(1)))
    waiting = asyncio.create_task(queue.get())
    await clock.settle()
    waiting.cancel()
    await clock.settle()
    queue.add("a", delay=2.0)
    assert queue.retry_in("a") == 2.0
    assert queue.retry_in("b") is None
    getting = asyncio.create_task(queue.get())
    await clock.advance(1.0)
    assert not getting.done()
    await clock.advance(1.0)
    assert getting.result() == "a"
    assert len(queue) == 0
