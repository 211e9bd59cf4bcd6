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


def test_few_modules_leave_python_as_it_is() -> None:
    sweeping.pace(0)
    assert gc.get_threshold() == USUAL
    sweeping.pace(100)
    assert gc.get_threshold() == USUAL


def test_many_make_full_collections_wait_for_about_half_as_many_new_objects_and_young_ones_stay() -> None:
    sweeping.pace(1_000)
    young, middle, full = gc.get_threshold()
    assert (young, middle) == USUAL[:2]
    assert 0.4 < full * 7_000 / (1_000 * 800) < 0.6
    sweeping.pace(10)
    assert gc.get_threshold() == USUAL
