"""What the API needs of other rooms, as protocols: discovery is an engine, and doors never import engines.

`controlplane.app` hands in what fulfils them; tests hand in doubles.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from controlplane.writing import SourceResolver
from schemas.meta import Json

__all__ = ["Discoverer", "Info", "Readiness", "SourceResolver"]

Readiness: TypeAlias = Callable[[], Json]
"""Named checks: ``{"store": {"ok": true, "reason": "", "since": "…"}, …}``; ready when every one is ok."""

Info: TypeAlias = Callable[[], Json]
"""What the process says of itself."""


class Discoverer(Protocol):
    """Who scans the modules path."""

    async def discover(self, *, prune: bool = False) -> Json:
        """Scan now; answers what was found, changed, refused and deleted; ``prune``: delete all that is gone."""
        ...
