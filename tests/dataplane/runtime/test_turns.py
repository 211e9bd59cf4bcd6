"""Threads that work beside the serving loop do it in short turns."""

import sys
import threading
from types import SimpleNamespace

import pytest

from dataplane.runtime import turns


def test_the_usual_switch_interval_comes_back_with_the_last_of_them() -> None:
    usual = sys.getswitchinterval()
    with turns.short():
        with turns.short():
            assert turns.wanted()
        assert sys.getswitchinterval() == pytest.approx(turns.SECONDS)
    assert sys.getswitchinterval() == usual
    assert not turns.wanted()


def test_from_the_first_request_on_turns_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = sys.getswitchinterval()
    monkeypatch.setattr(turns, "_usual", [])
    try:
        turns.begin()
        with turns.short():
            pass
        assert turns.wanted()
        assert sys.getswitchinterval() == pytest.approx(turns.SECONDS)
    finally:
        sys.setswitchinterval(usual)


class OneCore:
    """A thread of ours and the serving loop on one core: the loop runs while the thread sleeps, if it has requests."""

    def __init__(self) -> None:
        self.worked = 0.0
        self.served = 1.0
        self.requests = False
        self.slept: list[float] = []
        self.rested: list[list[float]] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.served += seconds if self.requests else 0.0

    def work(self, seconds: float, *, requests: bool) -> None:
        """So much work of the thread, and a rest if it is due."""
        self.worked += seconds
        self.requests = requests
        self.slept = []
        turns.rest()
        self.rested.append(self.slept)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> OneCore:
    core = OneCore()
    monkeypatch.setattr(turns, "served_seconds", lambda: core.served)
    monkeypatch.setattr(turns, "time", SimpleNamespace(thread_time=lambda: core.worked, sleep=core.sleep))
    return core


OFFER, REST = [turns._OFFER_SECONDS], [turns._REST_SECONDS]


def in_a_thread(core: OneCore, *steps: tuple[float, bool]) -> list[list[float]]:
    def work() -> None:
        with turns.short():
            for seconds, requests in steps:
                core.work(seconds, requests=requests)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return core.rested


def test_a_loop_with_requests_gets_half_a_millisecond_after_each_of_work(one_core: OneCore) -> None:
    rested = in_a_thread(one_core, (0.0006, True), (0.0004, True), (0.0002, True), (0.0005, True), (0.0005, True))
    assert rested == [OFFER, [], REST, REST, REST]


def test_a_loop_without_requests_costs_a_short_offer_now_and_then(one_core: OneCore) -> None:
    rested = in_a_thread(one_core, *[(0.0005, False)] * 5)
    assert rested == [OFFER, [], OFFER, [], OFFER]


def test_it_shows_within_a_millisecond_of_work_that_requests_come_or_came_to_an_end(one_core: OneCore) -> None:
    rested = in_a_thread(
        one_core, (0.001, False), (0.001, True), (0.0005, True), (0.0005, False), (0.0005, False), (0.0005, False)
    )
    assert rested == [OFFER, OFFER, REST, REST, [], OFFER]


def test_nobody_rests_before_there_are_requests_nor_on_the_loop_itself(one_core: OneCore) -> None:
    thread = threading.Thread(target=lambda: one_core.work(1.0, requests=True))
    thread.start()
    thread.join()
    with turns.short():
        one_core.work(1.0, requests=True)
    assert one_core.rested == [[], []]


def test_the_time_of_the_serving_loop_grows_with_its_work() -> None:
    before = turns.served_seconds()
    while turns.served_seconds() == before:
        pass
    assert turns.served_seconds() > before
