"""Logs go to standard error, one shape for structlog's and the standard library's records."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from schemas.kits import logs
from schemas.kits.options import LogFormat, LogLevel
from tests.doubles import quiet


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    quiet.configure()


def test_json_lines_carry_event_level_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    structlog.get_logger("dataplane.tests").info("module serves", module="a")
    logging.getLogger("uvloop_like").warning("from the library", extra={"port": 1})
    logging.getLogger("uvloop_like").debug("not shown")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["module"], first["level"]) == ("module serves", "a", "info")
    assert (second["event"], second["port"], second["logger"]) == ("from the library", 1, "uvloop_like")


def test_the_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogLevel.WARNING, LogFormat.CONSOLE)
    structlog.get_logger("dataplane.tests").warning("module cannot serve", module="a")
    assert "module cannot serve" in capsys.readouterr().err
