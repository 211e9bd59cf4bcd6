"""Full collections become rarer with the modules that there are, and usual again when they go."""

import gc
from collections.abc import Iterator

import pytest

from dataplane.runtime import sweeping

USUAL = gc.get_threshold()


@pytest.fixture(autouse=True)
def usual_afterwards() -> Iterator[None]:
    yield
    gc.set_threshold(*USUAL)


def full_after() -> int:
    """New objects until a full collection is considered."""
    young, middle, full = gc.get_threshold()
    return young * middle * full


def test_few_modules_leave_full_collections_as_python_has_them() -> None:
    usual = full_after()
    sweeping.pace(0)
    assert full_after() == usual
    sweeping.pace(100)
    assert full_after() == usual


def test_many_make_full_collections_wait_for_about_half_as_many_new_objects_and_young_ones_stay() -> None:
    usual = full_after()
    sweeping.pace(1_000)
    assert gc.get_threshold()[0] == USUAL[0]
    assert 0.4 < full_after() / (1_000 * 800) < 0.6
    sweeping.pace(10)
    assert full_after() == usual


def test_a_middle_collection_comes_twice_as_often_with_half_as_much() -> None:
    sweeping.pace(1)
    assert gc.get_threshold()[1] * 2 == USUAL[1]
