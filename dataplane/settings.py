"""Every setting of a worker: its unit, its default and why.

A flag wins over the environment (``MODPLANE_…``), which wins over the file ``modplane.env`` in the working folder,
which wins over the default.  Read once, by `dataplane.app`, and handed down: no other room looks at the environment.
"""

import argparse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "MODPLANE_"
FILE = "modplane.env"

Port = Annotated[int, Field(ge=0, le=65_535)]
WorkerId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]

_SHORT = {"worker_id": "--id", "worker_labels": "--labels"}


class LogLevel(StrEnum):
    """From which weight on a line is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is written."""

    CONSOLE = "console"
    JSON = "json"


class Settings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=FILE, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    worker_id: WorkerId = "w0"
    """Name of this worker's slot, a DNS label: the same after a restart, another for each worker.  Default ``w0``,
    the first slot of ``modplane up``."""

    worker_labels: str = ""
    """Labels that ``spec.placement.workerSelector`` looks at, as ``zone=a,disk=fast``.  Default none: a module
    without selector is served by every worker."""

    worker_header: bool = True
    """Whether answers carry ``x-modplane-worker: ID/BOOT``.  Default true: it tells which process answered."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS with JetStream is.  Default: NATS's own port on this machine; ``modplane up`` sets it."""

    data_dir: Path = Path(".modplane")
    """Folder with the packed code (``code/``), the same as the control plane's on this machine.  Default ``.modplane``
    in the working folder."""

    listen_fd: int = -1
    """File descriptor of a listening socket that is shared with other workers; -1 (the default): open one of
    ``DATA_HOST`` and ``DATA_PORT``.  ``modplane up`` hands one down, so that a restart refuses no connection."""

    data_host: str = "127.0.0.1"
    """Address the data plane listens on.  Default loopback: other machines come through a proxy that you choose."""

    data_port: Port = 8000
    """TCP port of the data plane; 0 picks a free one."""

    keep_alive_seconds: Annotated[float, Field(ge=1, le=600)] = 5.0
    """How long an idle connection is kept.  Default 5 s: a draining worker waits so long for idle clients."""

    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long a draining worker waits for busy requests.  Default 30 s, the usual limit of a request."""

    threads: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many ``def`` handlers run at once on this worker.  Default 100: all modules share
    them, and the framework's 40 are soon taken."""

    log_level: LogLevel = LogLevel.INFO
    """``debug``, ``info``, ``warning`` or ``error``.  Default info: one line per change, none per request."""

    log_format: LogFormat = LogFormat.CONSOLE
    """``console`` for people (the default) or ``json``, one object per line, for collectors."""

    @field_validator("worker_labels")
    @classmethod
    def _pairs(cls, text: str) -> str:
        for pair in filter(None, text.split(",")):
            if not pair.partition("=")[0].strip() or "=" not in pair:
                raise ValueError(f"{pair!r} is not key=value; write labels as zone=a,disk=fast")
        return text

    @property
    def labels(self) -> dict[str, str]:
        """The worker's labels by key."""
        pairs = (pair.partition("=") for pair in filter(None, self.worker_labels.split(",")))
        return {key.strip(): value.strip() for key, _, value in pairs}

    @property
    def code_root(self) -> Path:
        """Where packed code lies."""
        return self.data_dir.absolute() / "code"


def load(arguments: Sequence[str] = (), *, program: str = "modplane worker") -> Settings:
    """The settings of this process; each one is also a flag (``data_port`` is ``--data-port``).

    A flag that is unknown or a value that makes no sense ends the process with exit code 2 and a message on stderr
    that names the setting, as `argparse` does.
    """
    parser = argparse.ArgumentParser(prog=program, description="Run one data-plane worker.", allow_abbrev=False)
    for name, field in Settings.model_fields.items():
        parser.add_argument(
            *_flags(name),
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{_one_line(field.description)} [{PREFIX}{name.upper()}]",
        )
    given: dict[str, Any] = vars(parser.parse_args(list(arguments)))
    try:
        return Settings(**given)
    except ValidationError as error:
        parser.error("; ".join(_complaint(dict(problem)) for problem in error.errors()))


def _flags(name: str) -> list[str]:
    long = "--" + name.replace("_", "-")
    return [_SHORT[name], long] if name in _SHORT else [long]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "").replace("%", "%%")


def _complaint(problem: dict[str, Any]) -> str:
    name = str(problem["loc"][0])
    return f"{_flags(name)[0]} / {PREFIX}{name.upper()}: {problem['msg']} (got {problem['input']!r})"
