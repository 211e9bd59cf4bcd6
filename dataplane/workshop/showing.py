"""What an author reads while developing: what serves where, and each failure with its file and line.

What modules log and what the gateway logs of them goes through here too; places in packed copies are told as places
in the author's own files.
"""

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from dataplane.workshop import benches
from schemas.digests import PREFIX

_MANGLED = re.compile(r"modplane_modules\.(\w+?)__[0-9a-f]{16}")


class Show:
    """Lines for one author's terminal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._roots: dict[str, Path] = {}
        self._code = re.compile(r"(?!)")

    def places(self, roots: dict[str, Path], code_root: Path) -> None:
        """Learn where packed copies lie and what they are copies of (digest → folder, kept up by the caller)."""
        self._roots = roots
        self._code = re.compile(re.escape(str(code_root)) + r"/([0-9a-f]{64})/")

    def told(self, told: benches.Told) -> None:
        """Say what happened to a module."""
        if told.gone:
            _out(f"{told.subject}: gone")
        elif told.served is not None:
            _out(f"{told.subject}: generation {told.generation} serves")
            for route in told.served.desired.routes:
                methods = "|".join(route.methods)
                _out(f"  {route.policy.level:<10} {methods:<6} {self._url}{told.served.prefix}{route.path}")
        else:
            rest = f"; generation {told.generation} goes on serving" if told.generation else ""
            _err(f"{told.subject}: {told.reason}: {told.message}{rest}")

    def listen(self) -> None:
        """Take over what this process logs."""
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
        )
        for noisy in ("asyncio", "uvicorn", "watchfiles"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, self.line],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.WriteLoggerFactory(sys.stderr),
            cache_logger_on_first_use=False,
        )

    def line(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        """One record of our own log as the author reads it; a handler's failure with its line and its traceback."""
        what, level = str(event.pop("event", "")), str(event.pop("level", "warning"))
        error = event.pop("exc_info", None)
        if isinstance(error, BaseException):
            place = self._place(error)
            where = f"{event.get('module', '')} {event.get('route', '')}".strip()
            trace = "".join(traceback.format_exception(self._theirs(error)))
            head = f"{where}: {what}: {place}{type(error).__name__}: {error}"
            return f"{self.plain(head)}\n{self.plain(trace).rstrip()}"
        more = " ".join(f"{key}={value}" for key, value in event.items())
        return self.plain(f"{level}: {what} {more}".rstrip())

    def plain(self, text: str) -> str:
        """``text`` with the author's own paths and names in it."""
        return _MANGLED.sub(r"\1", self._code.sub(self._folder, text))

    def _folder(self, match: re.Match[str]) -> str:
        root = self._roots.get(f"{PREFIX}{match.group(1)}")
        return benches.shown(root) if root is not None else match.group(0)

    def _place(self, error: BaseException) -> str:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if self._code.match(frame.filename)]
        return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""

    def _theirs(self, error: BaseException) -> BaseException:
        """The error, its traceback begun at the author's first line."""
        trace = error.__traceback__
        while trace is not None and not self._code.match(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        return error.with_traceback(trace) if trace is not None else error


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _err(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
