"""Who is heard, lost and struck off, without a server."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.messaging.rolls import Roll
from schemas.reports import WorkerReport

START = datetime(2030, 1, 1, tzinfo=UTC)


def report(worker: str = "w0", boot: str = "b1", sequence: int = 1, revision: int = 0) -> WorkerReport:
    return WorkerReport(
        id=worker,
        boot=boot,
        sequence=sequence,
        applied_revision=revision,
        started_at=START + timedelta(seconds=int(boot[1:])),
        reported_at=START + timedelta(seconds=sequence),
    )


def states(roll: Roll) -> list[tuple[str, bool, bool]]:
    return [(wish.worker, wish.lost, wish.gone) for wish in roll.take()]


def test_only_what_changed_is_asked_to_be_written() -> None:
    roll = Roll()
    roll.heard(report(), 0)
    assert states(roll) == [("w0", False, False)]
    roll.heard(report(sequence=2), 1)
    assert states(roll) == []
    roll.heard(report(sequence=3, revision=5), 2)
    assert states(roll) == [("w0", False, False)]


def test_silence_means_nothing_while_our_own_beat_does_not_come_back() -> None:
    roll = Roll()
    roll.heard(report(), 0)
    roll.take()
    roll.look(100)
    assert states(roll) == []
    roll.beat(100)
    roll.look(101)
    assert states(roll) == []
    for now in range(100, 112, 2):
        roll.beat(now)
    roll.look(111)
    assert states(roll) == [("w0", True, False)]
    roll.look(112)
    assert states(roll) == []


def test_a_lost_worker_is_struck_off_after_an_hour() -> None:
    roll = Roll()
    roll.heard(report(), 0)
    for now in range(0, 3700, 5):
        roll.beat(now)
        roll.look(now)
    assert states(roll) == [("w0", False, True)]
    roll.heard(report(sequence=9), 3700)
    assert states(roll) == [("w0", False, False)]


def test_a_remembered_worker_gets_its_full_time() -> None:
    roll = Roll()
    roll.remember("w0", report(), lost=False, now=50)
    roll.remember("w1", None, lost=True, now=50)
    for now in range(40, 60, 2):
        roll.beat(now)
        roll.look(now)
    assert states(roll) == []
    roll.beat(61)
    roll.look(61)
    assert states(roll) == [("w0", True, False)]


def test_leaving_twice_is_leaving_once() -> None:
    roll = Roll()
    roll.heard(report(), 0)
    assert roll.left("w0")
    assert not roll.left("w0")
    assert states(roll) == [("w0", False, True)]


def test_what_could_not_be_written_is_asked_for_again_unless_newer_news_came() -> None:
    roll = Roll()
    roll.heard(report("w0"), 0)
    roll.heard(report("w1"), 0)
    failed = roll.take()
    roll.left("w1")
    roll.give_back(failed)
    assert sorted(states(roll)) == [("w0", False, False), ("w1", False, True)]


def test_a_report_is_news_only_against_one_that_was_heard() -> None:
    roll = Roll()
    assert not roll.is_news(report())
    roll.heard(report(sequence=5), 0)
    assert not roll.is_news(report(sequence=5))
    assert roll.is_news(report(sequence=6))
    assert roll.is_news(report(boot="b2"))
    assert not roll.is_news(report(boot="b0", sequence=9))


@given(
    st.lists(
        st.tuples(st.sampled_from(["heard", "beat", "look", "left"]), st.sampled_from(["w0", "w1"]), st.integers(0, 7)),
        max_size=60,
    )
)
def test_what_is_written_always_ends_at_what_is_known(steps: list[tuple[str, str, int]]) -> None:
    roll, now, stored = Roll(), 0.0, dict[str, bool]()
    for sequence, (what, who, seconds) in enumerate(steps):
        now += seconds
        if what == "heard":
            roll.heard(report(who, sequence=sequence), now)
        elif what == "beat":
            roll.beat(now)
        elif what == "left":
            roll.left(who)
        else:
            roll.look(now)
        for wish in roll.take():
            if wish.gone:
                stored.pop(wish.worker, None)
            else:
                stored[wish.worker] = wish.lost
        assert stored == {worker: entry.lost for worker, entry in roll._entries.items()}


def test_a_successor_is_not_unsaid_by_the_process_it_replaces() -> None:
    roll = Roll()
    roll.heard(report(boot="b1"), 0)
    roll.heard(report(boot="b2").model_copy(update={"replaces": "b1"}), 1)
    roll.take()
    roll.heard(report(boot="b1", sequence=9, revision=7), 2)
    assert not roll.left("w0", "b1")
    assert states(roll) == []
    assert roll.left("w0", "b2")
    assert states(roll) == [("w0", False, True)]
