"""The last lines that a module wrote on a worker: asked for and told over NATS, nothing kept on the way.

Lines are numbered within a boot, so that who asks again names the last one it has.
"""

from typing import Annotated, Final

from pydantic import Field

from schemas.meta import Model

LINES_MAX: Final = 200
"""Lines of one module that a worker keeps."""
BYTES_MAX: Final = 65_536
"""Characters of them together."""


class Line(Model):
    """One line."""

    number: int
    at: float
    """Seconds since 1970."""
    level: str
    """``stdout``, ``stderr``, or the level of a log record."""
    text: str


class LineRequest(Model):
    """Who asks for what."""

    id: Annotated[str, Field(max_length=64)]
    module: Annotated[str, Field(max_length=63)]
    boot: Annotated[str, Field(max_length=64)] = ""
    after: int = 0
    """The last line that is known of this boot."""


class LineReport(Model):
    """What a worker has."""

    id: str
    worker: str
    boot: str
    lines: list[Line] = []
    dropped: int = 0
    """Lines that were too many for the worker's log, since its start."""
