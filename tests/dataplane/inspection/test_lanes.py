"""Who is inspected when, on moments of the test's own."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.inspection import lanes
from dataplane.inspection.lanes import MANY, PLACES, REST_SECONDS, SECONDS, SHARED, STAY_SECONDS, Lane, Lanes
from schemas.inspections import InspectionRequest

QUICK = 0.01
SLOWISH = 0.5
HANGS = 1e9
LIMIT = 10.0


def request(number: int) -> InspectionRequest:
    return InspectionRequest(id=str(number), root="/", source_path="m", digest="d", timeout_seconds=LIMIT)


def drive(takes: Sequence[float]) -> tuple[list[int], list[int], dict[int, float]]:
    """Inspect them at once, with the seconds they take: in which order and when they ended, in which process each."""
    queue, now, processes = Lanes(), 0.0, 0
    queue.waiting.extend(map(request, range(len(takes))))
    order: list[int] = []
    where: dict[int, int] = {}
    moments: dict[int, float] = {}
    homes: dict[lanes.Run, int] = {}

    def ends(run: lanes.Run) -> float:
        return run.started + takes[int(run.request.id)]

    def told(run: lanes.Run) -> None:
        number = int(run.request.id)
        assert number not in moments, "inspected twice"
        order.append(number)
        moments[number], where[number] = now, homes[run]

    while queue.running or queue.waiting or any(queue.aside.values()):
        for run in [run for run in queue.running if ends(run) <= now]:
            told(run)
            if not queue.follow(run, now):
                queue.end(run)
        for run in queue.late(now):
            told(run)
            queue.end(run)
        for run, stays in list(queue.slowed(now)):
            if not stays:
                queue.end(run)
        while begun := queue.begin(now):
            processes += 1
            homes[begun] = processes
        for lane, places in PLACES.items():
            assert sum(run.lane is lane for run in queue.running) <= places
        moment = queue.next_moment()
        now = max(now, min([*map(ends, queue.running), *([moment] if moment is not None else [])], default=now))
    return order, [where[number] for number in range(len(takes))], moments


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([QUICK, SLOWISH, HANGS]), min_size=1, max_size=60))
def test_code_that_takes_long_delays_the_others_by_no_more_than_its_place_in_their_lane(takes: list[float]) -> None:
    order, _, moments = drive(takes)
    assert sorted(order) == list(range(len(takes)))
    for number, seconds in enumerate(takes):
        quick = QUICK * (number + 1 + SHARED) + SECONDS[Lane.QUICK] * (sum(each > QUICK for each in takes[:number]) + 1)
        if seconds == QUICK:
            assert moments[number] <= quick
        elif seconds == SLOWISH:
            assert moments[number] <= len(takes) * (QUICK + SECONDS[Lane.QUICK] + SECONDS[Lane.SLOW])


def test_however_many_hang_the_good_ones_behind_them_come_before_any_of_them() -> None:
    order, _, moments = drive([HANGS] * 15 + [SLOWISH, QUICK])
    assert order[:2] == [16, 15]
    assert moments[15] < LIMIT
    assert sorted(order) == list(range(17))


def test_of_many_each_process_takes_some() -> None:
    _, where, _ = drive([QUICK] * 6 * SHARED)
    assert len(set(where)) <= 6 + PLACES[Lane.QUICK]
    assert max(where.count(each) for each in where) == SHARED


def test_few_wait_for_the_process_that_is_at_work_and_many_do_not() -> None:
    queue = Lanes()
    queue.waiting.extend(map(request, range(3)))
    first = queue.begin(0.0)
    assert first is not None
    assert queue.begin(0.0) is None
    queue.waiting.extend(map(request, range(3, 3 + MANY)))
    assert queue.begin(0.0) is not None
    assert queue.begin(0.0) is None


def test_what_went_wrong_behind_others_is_next_and_alone() -> None:
    queue = Lanes()
    queue.waiting.extend(map(request, range(3)))
    first = queue.begin(0.0)
    assert first is not None
    assert queue.follow(first, 0.0)
    assert (first.request.id, first.fresh) == ("1", False)
    queue.repeat(first)
    assert not queue.follow(first, 0.0)
    queue.end(first)
    again = queue.begin(0.0)
    assert again is not None
    assert (again.request.id, again.fresh, again.alone) == ("1", True, True)
    last = queue.begin(0.0)
    assert last is not None, "nobody waits for a process that takes no second one"
    assert last.request.id == "2"


def test_who_had_to_wait_for_the_processor_keeps_the_place_for_as_much_longer() -> None:
    queue, own = Lanes(), SECONDS[Lane.QUICK]
    queue.waiting.append(request(0))
    run = queue.begin(0.0)
    assert run is not None
    assert queue.overdue(own) == [run]
    queue.excuse(run, own)
    assert queue.overdue(own) == []
    assert list(queue.slowed(1.5 * own)) == []
    assert run.open
    assert list(queue.slowed(2 * own)) == [(run, True)]
    assert run.lane is Lane.SLOW


def test_no_process_is_made_in_reserve_beside_somebody_who_waits_or_has_just_asked() -> None:
    queue = Lanes()
    assert (first := queue.reserve_at()) is not None
    assert first <= 0.0
    queue.ask(request(0), 7.0)
    assert queue.reserve_at() is None
    run = queue.begin(7.0)
    assert queue.reserve_at() == 7.0 + REST_SECONDS, "also for those who come while this one is still at work"
    queue.ask(request(1), 7.1)
    assert run is not None
    assert queue.follow(run, 7.2)
    assert queue.reserve_at() == 7.1 + REST_SECONDS


def test_a_process_that_left_no_trace_rests_for_who_comes_next() -> None:
    queue = Lanes()
    queue.waiting.append(request(0))
    first = queue.begin(0.0)
    assert first is not None
    assert not queue.follow(first, 0.1)
    assert queue.rest(first, 0.1)
    assert (queue.running, queue.resume(0.2), queue.next_moment()) == ([], None, 0.1 + STAY_SECONDS)
    queue.waiting.append(request(1))
    assert queue.resume(0.5) is first
    assert (first.request.id, first.fresh, first.started, queue.running) == ("1", False, 0.5, [first])
    assert queue.rest(first, 1.0)
    assert queue.rested(0.9 + STAY_SECONDS) == []
    assert queue.rested(1.0 + STAY_SECONDS) == [first]
    assert (queue.running, queue.resting) == ([], [])


def test_nothing_rests_that_takes_no_other_request_or_stands_in_the_way_of_one_that_is_due_alone() -> None:
    queue = Lanes()
    queue.waiting.append(request(0))
    first = queue.begin(0.0)
    assert first is not None
    first.done = SHARED - 1
    assert not queue.rest(first, 0.1)
    first.done = 1
    queue.repeat(first)
    assert not queue.rest(first, 0.1)
    queue.end(first)
    assert queue.running == []
