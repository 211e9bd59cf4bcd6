"""A short soak, so that the long one works whenever somebody wants it."""

from pathlib import Path

import pytest

from tests.soak import faults, soaking

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    with faults.small_disk(tmp_path / "soak" / "data"):
        soak = soaking.Soak(tmp_path / "soak", 7, 45.0, told.append)
        try:
            report = soak.run()
        except AssertionError as error:
            error.add_note("\n".join(told))
            raise
    assert report.answers["200"] > 100
    assert report.steps.total() > 10
    assert len(report.convergence) > 3
