"""One running platform for the journeys that do not break it."""

from collections.abc import Iterator

import pytest

from tests.doubles.platform import BY_HAND, Platform, running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`modplane up` with the examples; after that, what is found is found by hand."""
    with running(tmp_path_factory.mktemp("platform"), environment=BY_HAND) as started:
        started.cli("discover")
        started.wait_state("my-module", "ACTIVE", timeout=60.0)
        yield started
