"""A desk for each test: the command line against a real API."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.doubles import quiet
from tests.doubles.desk import Desk, opened


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("MODPLANE_SERVER", "MODPLANE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    # The server runs in this process: its log lines are not what the command prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with opened(tmp_path, capsys) as started:
        yield started
    quiet.configure()
