"""Logging for a process: constant messages with key-values, as JSON lines or for a console.

Called once by each plane's `app`, before anything is logged.
"""

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from schemas.kits.options import LogFormat, LogLevel

Bound = Callable[[], Mapping[str, str]]
"""What every line says beside its own words, asked where and when it is written."""


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
    last: structlog.types.Processor = structlog.processors.JSONRenderer() if style is LogFormat.JSON else console
    before = [structlog.processors.format_exc_info] if style is LogFormat.JSON else []
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
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
