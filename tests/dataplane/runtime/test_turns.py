"""Threads that work beside the serving loop: short turns, and the core is the loop's first."""

import os
import sys
import threading
from collections.abc import Callable

import pytest

from dataplane.runtime import turns


def _in_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_thread_comes_after_the_main_one_for_good_and_only_once() -> None:
    mine = _priority()

    def work() -> list[int]:
        seen = []
        for _ in range(2):
            with turns.short():
                seen.append(_priority())
        return [*seen, _priority()]

    assert _in_a_thread(work) == [min(mine + turns.NICE, 19)] * 3
    with turns.short():
        assert _priority() == mine


def test_the_usual_switch_interval_comes_back_with_the_last_of_them() -> None:
    usual = sys.getswitchinterval()
    with turns.short():
        with turns.short():
            assert turns.wanted()
        assert sys.getswitchinterval() == pytest.approx(turns.SECONDS)
    assert sys.getswitchinterval() == usual
    assert not turns.wanted()
