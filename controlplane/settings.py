"""Every setting of the control plane: its unit, its default and why.

A flag wins over the environment (``MODPLANE_…``), which wins over the file ``modplane.env`` in the working
folder, which wins over the default.  Read once, by `controlplane.app`, and handed down: no other room looks at
the environment.  `tests/documents` holds ``docs/reference/settings.md`` to this list.
"""

import argparse
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "MODPLANE_"
FILE = "modplane.env"

Port = Annotated[int, Field(ge=0, le=65_535)]


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

    data_dir: Path = Path(".modplane")
    """Folder of everything that has to survive: database, packed code, NATS files.  Default ``.modplane`` in the
    working folder, so that a trial leaves nothing elsewhere.  Never share one folder between two machines."""

    database_url: str = ""
    """SQLAlchemy URL of the truth: ``sqlite:///FILE`` or ``postgresql+psycopg://…``.  Default: SQLite in
    ``DATA_DIR/modplane.db``, because one machine needs no server; PostgreSQL for more than one."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS with JetStream is.  Default: NATS's own port on this machine; ``modplane up`` sets it."""

    modules_path: Path = Path("modules")
    """Folder that is scanned for modules and in which ``spec.source.path`` is looked up.  Default ``modules`` in
    the working folder; a folder that is not there counts as empty."""

    auto_discover: bool = True
    """Whether the modules path is scanned at start.  Default true: a folder of modules should just run.  Off,
    ``modplane discover`` scans on demand."""

    control_host: str = "127.0.0.1"
    """Address the API listens on.  Default loopback: callers are not authenticated yet, so no other machine may
    reach it."""

    control_port: Port = 7400
    """TCP port of the API; 0 picks a free one."""

    listen_fd: int = -1
    """File descriptor of a listening socket for the API; -1 (the default): open one of ``CONTROL_HOST`` and
    ``CONTROL_PORT``.  ``modplane up`` hands one down, so that a restart refuses no connection."""

    log_level: LogLevel = LogLevel.INFO
    """``debug``, ``info``, ``warning`` or ``error``.  Default info: one line per decision, none per request."""

    log_format: LogFormat = LogFormat.CONSOLE
    """``console`` for people (the default) or ``json``, one object per line, for collectors."""

    @property
    def database(self) -> str:
        """The database URL, with the default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'modplane.db').absolute()}"


def load(arguments: Sequence[str] = (), *, program: str = "modplane controlplane") -> Settings:
    """The settings of this process; each one is also a flag (``control_port`` is ``--control-port``).

    A flag that is unknown or a value that makes no sense ends the process with exit code 2 and a message on
    stderr that names the setting, as `argparse` does.
    """
    parser = argparse.ArgumentParser(prog=program, description="Run one control plane.", allow_abbrev=False)
    for name, field in Settings.model_fields.items():
        parser.add_argument(
            flag(name),
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{_one_line(field.description)} [{PREFIX}{name.upper()}]",
        )
    given: dict[str, Any] = vars(parser.parse_args(list(arguments)))
    try:
        return Settings(**given)
    except ValidationError as error:
        parser.error("; ".join(_complaint(dict(problem)) for problem in error.errors()))


def flag(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "").replace("%", "%%")


def _complaint(problem: dict[str, Any]) -> str:
    name = str(problem["loc"][0])
    return f"{flag(name)} / {PREFIX}{name.upper()}: {problem['msg']} (got {problem['input']!r})"
