"""One running platform for the journeys that do not break it."""

from collections.abc import Iterator

import pytest

from tests.doubles.platform import Platform, running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`modplane up` with the examples."""
    with running(tmp_path_factory.mktemp("platform")) as started:
        yield started
