"""Full collections become rarer with the modules that there are, and usual again when they go."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from dataplane.runtime import sweeping

USUAL = gc.get_threshold()


class Circle:
    """Something that only a collection finds."""

    own: object = None


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


def test_while_collections_are_held_modules_that_come_do_not_bring_them_back() -> None:
    with sweeping.held():
        sweeping.pace(1_000)
        assert gc.get_threshold()[0] >= 1_000_000
    assert gc.get_threshold()[0] == USUAL[0]
    assert full_after() > 100 * 800, "the pace of the modules that came meanwhile"


def test_held_collections_are_made_up_for_at_the_end() -> None:
    circle = Circle()
    circle.own = circle
    gone = weakref.ref(circle)
    with sweeping.held():
        del circle
        assert gone() is not None
    assert gone() is None


def test_a_failure_brings_the_usual_collections_back() -> None:
    with pytest.raises(RuntimeError), sweeping.held():
        raise RuntimeError("the agent ended")
    assert gc.get_threshold()[0] == USUAL[0]
