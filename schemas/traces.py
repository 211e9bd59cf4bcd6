"""The steps of a change on its way from the one who asked for it to the last worker that serves it.

A worker tells its own on ``modplane.steps.<worker>``; the control plane keeps those of each module's last change.
"""

from typing import Annotated, Self

from pydantic import Field

from schemas.meta import Model

TEXT_MAX = 256

Text = Annotated[str, Field(max_length=TEXT_MAX)]


class Step(Model):
    """One piece of work; the same span that a collector gets where tracing is on."""

    trace: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    parent: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    name: Text
    who: Text
    """``controlplane``, or the worker."""
    module: Text = ""
    """Whose step it is; empty: of every module of this change."""
    start: Annotated[int, Field(ge=0, lt=1 << 62)]
    """Microseconds since 1970."""
    micros: Annotated[int, Field(ge=0, lt=1 << 62)]
    error: Text = ""

    @classmethod
    def unchecked(cls, **words: str | int) -> Self:
        """A step of words of one's own, of which none has to be looked at; every field is given."""
        made = cls.__new__(cls)
        object.__setattr__(made, "__dict__", words)
        object.__setattr__(made, "__pydantic_fields_set__", set(words))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


class StepReport(Model):
    """What one worker tells at once."""

    worker: str
    boot: str
    steps: Annotated[list[Step], Field(max_length=1_000)] = []
