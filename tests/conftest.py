"""What holds for every test."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles import quiet

quiet.configure()

# other examples at each run on a developer's machine, the same ones where a change is judged
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.register_profile("quick", parent=settings.get_profile("house"), max_examples=50)


def pytest_configure(config: pytest.Config) -> None:
    """The quick selection draws half as many examples, where a test does not say how many."""
    settings.load_profile("quick" if "not slow" in config.option.markexpr else "house")
