"""Settings of a process: flag > environment > file > default, told apart and explained the same way everywhere.

A plane derives its own settings from `Options`, one annotated field with a docstring for each; `load` makes flags of
them.  Source of the order: the twelve-factor convention, with flags above it.
"""

import argparse
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "MODPLANE_"
FILE: Final = "modplane.env"

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


class Options(BaseSettings):
    """What an operator may set in every process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=FILE, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    log_level: LogLevel = LogLevel.INFO
    """``debug``, ``info``, ``warning`` or ``error``.  Default info: one line per change, none per request."""

    log_format: LogFormat = LogFormat.CONSOLE
    """``console`` for people (the default) or ``json``, one object per line, for collectors."""


Chosen = TypeVar("Chosen", bound=Options)


def load(
    model: type[Chosen],
    arguments: Sequence[str] = (),
    *,
    program: str,
    description: str,
    short: Mapping[str, str] | None = None,
) -> Chosen:
    """The settings of this process; each one is also a flag (``data_port`` is ``--data-port``).

    ``short`` gives fields a shorter flag besides.  A flag that is unknown or a value that makes no sense ends the
    process with exit code 2 and a message on stderr that names the setting, as `argparse` does.
    """
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    given_short = short or {}
    for name, field in model.model_fields.items():
        parser.add_argument(
            *flags(name, given_short),
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{_one_line(field.description)} [{PREFIX}{name.upper()}]",
        )
    given: dict[str, Any] = vars(parser.parse_args(list(arguments)))
    try:
        return model(**given)
    except ValidationError as error:
        parser.error("; ".join(_complaint(dict(problem), given_short) for problem in error.errors()))


def flags(name: str, short: Mapping[str, str]) -> list[str]:
    """The flags of a setting, the shortest first."""
    long = "--" + name.replace("_", "-")
    return [short[name], long] if name in short else [long]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "").replace("%", "%%")


def _complaint(problem: dict[str, Any], short: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    return f"{flags(name, short)[0]} / {PREFIX}{name.upper()}: {problem['msg']} (got {problem['input']!r})"
