"""Logs go to standard error, one shape for structlog's and the standard library's records."""

import json
import logging
import re
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


@pytest.mark.parametrize(
    ("event", "values"),
    [
        ("module moved", {"module": "a", "generation": 3, "from_state": None, "to_state": LogLevel.INFO}),
        ("an event of more than thirty characters", {"share": 0.5, "words": ["a b"], "z": True}),
        ("quoted", {"a": "two words", "b": "x=1", "c": "it's", "d": 'say "x"', "e": "a\nb", "f": "a\tb", "g": ""}),
        ("", {}),
        ("logger named anew", {"logger_name": "other"}),
    ],
)
def test_the_console_says_what_structlogs_own_renderer_says(
    capsys: pytest.CaptureFixture[str], event: str, values: dict[str, object]
) -> None:
    logs.configure(LogLevel.INFO, LogFormat.CONSOLE)
    structlog.get_logger("dataplane.tests").info(event, **values)
    said = capsys.readouterr().err.rstrip("\n")
    found = re.match(r"\S+", said)
    assert found is not None
    own = structlog.dev.ConsoleRenderer(colors=False)
    words = {"timestamp": found.group(), "level": "info", "event": event, "logger": "dataplane.tests", **values}
    assert said == own(None, "info", words)


@pytest.mark.parametrize("style", LogFormat)
def test_an_exception_is_told_with_its_place(capsys: pytest.CaptureFixture[str], style: LogFormat) -> None:
    logs.configure(LogLevel.INFO, style)
    try:
        raise ValueError("planted")
    except ValueError:
        structlog.get_logger("dataplane.tests").exception("failed", module="a")
        logging.getLogger("library").exception("failed there")
    ours, theirs = capsys.readouterr().err.split("failed there")
    for said in (ours, theirs) if style is LogFormat.CONSOLE else (ours,):
        assert "ValueError: planted" in said
        assert "in test_an_exception_is_told_with_its_place" in said
