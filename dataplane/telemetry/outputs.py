"""Whatever module code prints or logs: tagged with its module, limited, and its last lines kept.

    print ──▶ `Stream` ─┐
    logging ──▶ `Sieve` ─┴──▶ `Lines` (kept for ``modplane logs``) ──▶ the worker's log

Always: a line of a module is known as one, wherever its code runs: by the task's context, and in threads of its own by
the name of its package; what it prints never reaches the worker's own standard output, whose lines mean something to
who supervises the worker; hidden values are struck out before a line is kept.
What the host itself says of a module (a failed handler, with its trace) is kept among the module's lines too.
Set up by `dataplane.app`, after the log.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO, cast

import structlog

from dataplane.telemetry import tracing
from dataplane.telemetry.lines import Lines

logger = structlog.get_logger("dataplane.telemetry.outputs")

PACKAGE: Final = "modplane_modules."
"""Names of modules' packages begin so (`dataplane.runtime.importing`)."""
_OURS: Final = ("dataplane", "schemas", "controlplane", "uvicorn", "nats", "opentelemetry")
_DEEP: Final = 40
"""Frames that are looked at for an author's code."""
_PENDING: Final = 64
"""Unfinished lines that wait for their end."""
_UNFINISHED: Final = 8_192
"""Characters of a line that does not end, after which it is taken as one."""

Whose = Callable[[], str]
"""On behalf of which module this task or thread runs; empty: of none, or it is not known."""


class Outputs:
    """The lines of a worker's modules."""

    def __init__(self, lines: Lines, whose: Whose, mask: Callable[[str], str]) -> None:
        self.lines = lines
        self._whose = whose
        self._mask = mask

    def author(self) -> str:
        """The module that writes here; empty: the host."""
        return self._whose() or _by_frames()

    def printed(self, module: str, stream: str, text: str) -> None:
        """A module printed a line."""
        text = self._mask(text)
        unsaid = self.lines.note(module, stream, text)
        if unsaid is not None:
            _say(module, unsaid)
            logger.info("module output", module=module, stream=stream, text=text)

    def logged(self, record: logging.LogRecord) -> bool:
        """Whether a log record may go on; keeps those that a module wrote, or that are about one."""
        about = record.msg.get("module") if isinstance(record.msg, dict) else None
        if record.name == "dataplane.telemetry.outputs":
            return True
        if record.name.split(".", 1)[0] in _OURS:
            if isinstance(about, str):
                self.lines.note(about, record.levelname.lower(), self._mask(_text(record)), limited=False)
            return True
        module = self._whose() or _of_package(record.name)
        if not module:
            return True
        unsaid = self.lines.note(module, record.levelname.lower(), self._mask(_text(record)))
        if unsaid is not None:
            _say(module, unsaid)
        return unsaid is not None


class Sieve(logging.Filter):
    """Looks at each record of the log before it is written."""

    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self._outputs = outputs

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        return self._outputs.logged(record)


class Stream:
    """Standard output or error: what modules write goes to their lines, everything else through."""

    def __init__(self, stream: TextIO, name: str, outputs: Outputs) -> None:
        self._stream = stream
        self._name = name
        self._outputs = outputs
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, int], str] = {}

    def write(self, text: str) -> int:
        """As the stream's."""
        module = self._outputs.author()
        if not module:
            self._stream.write(text)
            return len(text)
        key = (module, threading.get_ident())
        with self._lock:
            whole = self._begun.pop(key, "") + text
            *done, rest = whole.split("\n")
            if len(rest) > _UNFINISHED or (rest and len(self._begun) >= _PENDING):
                done, rest = [*done, rest], ""
            if rest:
                self._begun[key] = rest
        for line in done:
            self._outputs.printed(module, self._name, line)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As the stream's."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install(whose: Whose, mask: Callable[[str], str]) -> Outputs:
    """Stand between modules and this process's streams and log; call it after the log is set up."""
    outputs = Outputs(Lines(), whose, mask)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sieve(outputs))
    sys.stdout = cast("TextIO", Stream(sys.stdout, "stdout", outputs))
    sys.stderr = cast("TextIO", Stream(sys.stderr, "stderr", outputs))
    return outputs


def bound(worker: str, whose: Whose) -> Callable[[], Mapping[str, str]]:
    """What every line of the log says beside its own words: the worker, and where a request runs, whose it is."""

    def found() -> dict[str, str]:
        said = {"worker": worker}
        if module := whose():
            said["module"] = module
        scope = tracing.current.get()
        if scope is not None:
            said["trace_id"] = tracing.trace_id() or ""
            said["request_id"] = tracing.request_id(scope)
        return said

    return found


def _say(module: str, unsaid: int) -> None:
    if unsaid:
        logger.warning("module output dropped", module=module, lines=unsaid)


def _text(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):
        said = {key: value for key, value in record.msg.items() if not key.startswith("_")}
        error = said.pop("exc_info", None)
        words = [str(said.pop("event", ""))]
        words += [f"{key}={value}" for key, value in said.items() if key not in {"level", "logger", "timestamp"}]
        text = " ".join(words)
    else:
        text, error = "", record.exc_info
        with contextlib.suppress(Exception):  # a format that does not fit its arguments is the author's
            text = record.getMessage()
        text = text or str(record.msg)
    return f"{text}\n{_traceback(error)}" if error else text


def _traceback(error: Any) -> str:
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    elif error is True:
        error = sys.exc_info()
    if not isinstance(error, tuple) or error[0] is None:
        return ""
    return logging.Formatter().formatException(error)


def _by_frames() -> str:
    """The module whose code writes, where no context tells: in a thread that it began."""
    frame = sys._getframe(2)  # noqa: SLF001 - the one way to learn who called
    for _ in range(_DEEP):
        if frame is None:
            return ""
        if module := _of_package(frame.f_globals.get("__name__", "")):
            return module
        frame = frame.f_back  # type: ignore[assignment]  # the last one has none
    return ""


def _of_package(name: str) -> str:
    """The module of a package's name: ``modplane_modules.my_shop__ab12….views`` is ``my-shop``'s."""
    if not name.startswith(PACKAGE):
        return ""
    leaf = name.removeprefix(PACKAGE).split(".", 1)[0]
    return leaf.rpartition("__")[0].replace("_", "-")
