"""One API over a real SQLite store for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.doubles import apiparts


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[apiparts.Parts]:
    async with apiparts.running(tmp_path) as found:
        yield found
