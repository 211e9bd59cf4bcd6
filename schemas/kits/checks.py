"""Named checks of a process: whether each part works, why not, and since when.

A check that is told again as it was keeps its moment; so does the reason's text, which may move.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from schemas.kits.clocks import Clock


class Checks:
    """The checks of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[bool, datetime]] = {}

    def told(self, found: Mapping[str, tuple[bool, str]]) -> dict[str, Any]:
        """Name → ``{"ok", "reason", "since"}`` of what was found: whether it works, and what is wrong."""
        return {name: self._told(name, ok, reason) for name, (ok, reason) in found.items()}

    def _told(self, name: str, ok: bool, reason: str) -> dict[str, Any]:
        known = self._known.get(name)
        if known is None or known[0] is not ok:
            self._known[name] = known = (ok, self._clock.now())
        return {"ok": ok, "reason": "" if ok else reason, "since": known[1].isoformat()}
