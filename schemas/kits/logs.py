"""Logging for a process: constant messages with key-values, as JSON lines or for a console.

Called once by each plane's `app`, before anything is logged.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog

from schemas.kits.options import LogFormat, LogLevel

Bound = Callable[[], Mapping[str, str]]
"""What every line says beside its own words, asked where and when it is written."""

_SPECIAL: Final = re.compile("[ \\t=\\r\\n\"']")
"""What a text on the console is quoted for."""
_UNUSUAL: Final = frozenset({"stack", "exception", "exc_info", "logger_name"})
"""What only structlog's own renderer puts into words."""
_COLUMNS: Final = frozenset({"timestamp", "level", "event", "logger"})


def configure(
    level: LogLevel = LogLevel.INFO, style: LogFormat = LogFormat.CONSOLE, bound: Bound | None = None
) -> None:
    """Send structlog's and the standard library's records through one pipeline to standard error."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([] if bound is None else [_binding(bound)]),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # the default formatter draws every frame with its local variables: seconds on the loop, and secrets in the log
    console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    last = structlog.processors.JSONRenderer() if style is LogFormat.JSON else _quick(console)
    before = [structlog.processors.format_exc_info] if style is LogFormat.JSON else []
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Lines(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *before, last],
        )
    )
    # nothing of ours is told by a record's thread, process or line; looking them up is a fifth of a call's cost
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 (as the standard library's logging HOWTO, "Optimization", has it)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("alembic", "httpcore", "httpx", "nats", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _binding(bound: Bound) -> structlog.types.Processor:
    def bind(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in bound().items():
            event.setdefault(name, value)
        return event

    return bind


class _Lines(structlog.stdlib.ProcessorFormatter):
    """Structlog's formatter; it copies no record of structlog's own, which no other formatter is going to read."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        if not isinstance(record.msg, dict) or not hasattr(record, "_logger") or record.exc_info or record.stack_info:
            return super().format(record)
        line: Any = {**record.msg}
        for processor in self.processors[1:]:  # the first one takes away what was not put in
            line = processor(None, record.levelname, line)
        return str(line)


def _quick(console: structlog.dev.ConsoleRenderer) -> structlog.types.Processor:
    """What ``console`` makes of an event, in a fifth of the time where nothing about it is unusual."""

    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        if not event.keys() >= _COLUMNS or not _UNUSUAL.isdisjoint(event):
            return console(logger, name, event)
        head = f"{event['timestamp']} [{event['level']:<9}] {event['event']!s:<30} [{event['logger']}]"
        return " ".join((head, *(key + "=" + _shown(event[key]) for key in sorted(event.keys() - _COLUMNS)))).rstrip(
            " "
        )

    return render


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and _SPECIAL.search(value) is None else repr(value)
