"""What applying needs of others: who publishes modules, and who writes down how long it took.

Met by `dataplane.agent.crossing` (the gateway, across the loops) and `dataplane.agent.tracking`; called by
`dataplane.agent.applying`.
"""

import contextlib
from datetime import datetime
from typing import Protocol

from dataplane.agent.holding import Wanted
from dataplane.gateway import serving


class Gateway(Protocol):
    """What `dataplane.gateway.hosting.Host` offers, reached across the loops by `dataplane.agent.crossing`."""

    async def install(self, served: serving.Served) -> None:
        """Start and publish."""
        ...

    async def renew(self, module: Wanted) -> datetime | None:
        """Publish around the instance that serves; when, or None if none does."""
        ...

    async def block(self, served: serving.Served, *, instead: bool = False) -> None:
        """Publish trouble; ``instead``: also in place of a generation that serves."""
        ...

    async def remove(self, name: str, uid: str) -> None:
        """Unpublish and drain."""
        ...


class Tracks(Protocol):
    """Who writes down how long each step of a change takes (`dataplane.agent.tracking`)."""

    def step(self, module: str, name: str) -> contextlib.AbstractContextManager[None]:
        """A block that is a step."""
        ...

    def split(self, module: str, name: str, moment: int) -> None:
        """What came after ``moment`` of the last step is one of its own."""
        ...

    def placed(self, module: str, order: tuple[int, int], error: str = "") -> None:
        """The change is in place, or refused."""
        ...

    def gone(self, module: str) -> None:
        """Nobody wants the module any more."""
        ...


class NoTracks:
    """Nobody."""

    def step(self, module: str, name: str) -> contextlib.AbstractContextManager[None]:
        """Only the block."""
        return contextlib.nullcontext()

    def split(self, module: str, name: str, moment: int) -> None:
        """Nothing."""

    def placed(self, module: str, order: tuple[int, int], error: str = "") -> None:
        """Nothing."""

    def gone(self, module: str) -> None:
        """Nothing."""
