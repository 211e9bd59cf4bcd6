"""What the API needs of other rooms, as protocols: discovery is an engine, and doors never import engines.

`controlplane.app` hands in what fulfils them; tests hand in doubles.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeAlias

from controlplane.audit.asking import Wanted
from controlplane.writing import SourceResolver
from schemas.lines import LineReport
from schemas.meta import Json

__all__ = ["Auditor", "Discoverer", "Info", "LastCheck", "Readiness", "SourceResolver", "Tail", "Text"]

Readiness: TypeAlias = Callable[[], Json]
"""Named checks: ``{"store": {"ok": true, "reason": "", "since": "…"}, …}``; ready when every one is ok."""

Info: TypeAlias = Callable[[], Json]
"""What the process says of itself."""

Text: TypeAlias = Callable[[], Awaitable[bytes]]
"""Renders the process's metrics, off the loop."""


LastCheck: TypeAlias = Callable[[str], datetime | None]
"""When the newest check of a module was made, as far as this process has heard since."""


class Discoverer(Protocol):
    """Who scans the modules path."""

    async def discover(self, *, prune: bool = False) -> Json:
        """Scan now; answers what was found, changed, refused and deleted; ``prune``: delete all that is gone."""
        ...


class Auditor(Protocol):
    """Who keeps the audit trail."""

    async def find(self, wanted: Wanted) -> tuple[list[Json], bool]:
        """The records of one page, the oldest first, and whether there are more."""
        ...

    async def verify(self) -> Json:
        """Walk along the whole trail, and hold it against the second place of its checkpoints."""
        ...


class Tail(Protocol):
    """Who asks workers for what modules wrote last."""

    async def lines(self, module: str, known: Mapping[str, tuple[str, int]]) -> list[LineReport]:
        """The lines that each worker of ``known`` has after the given boot's line.  errors.Unreachable."""
        ...
