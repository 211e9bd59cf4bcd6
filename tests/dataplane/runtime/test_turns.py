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


def test_a_thread_rests_only_while_the_serving_loop_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now, served, slept = [0.0], [1.0], list[float]()
    monkeypatch.setattr(turns, "served_seconds", lambda: served[0])
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append))

    def worked(seconds: float, loop: float) -> int:
        now[0] += seconds
        served[0] += loop
        turns.rest()
        return len(slept)

    def work() -> None:
        with turns.short():
            counts.extend(worked(seconds, loop) for seconds, loop in [(0.002, 0), (0.0005, 1), (0.001, 0), (0.002, 0)])

    counts: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert counts == [0, 0, 1, 1], "the loop did nothing; too soon; it worked: rest; nothing again"


def test_the_time_of_the_serving_loop_grows_with_its_work() -> None:
    before = turns.served_seconds()
    while turns.served_seconds() == before:
        pass
    assert turns.served_seconds() > before
