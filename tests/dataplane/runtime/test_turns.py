"""Threads that work beside the serving loop do it in short turns."""

import sys

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
