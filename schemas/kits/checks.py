"""Named checks of a process: whether each part works, why not, and since when.

A check that is found again as it was keeps its moment; so does the reason's text, which may move.  Somebody looks
every second, whether anybody asks or not: since when is not since somebody asked.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from schemas.kits.clocks import Clock

LOOK_SECONDS: Final = 1.0


class Checks:
    """The checks of one process."""

    def __init__(self, find: Callable[[], Mapping[str, tuple[bool, str]]], clock: Clock) -> None:
        """``find`` says of each part by its name whether it works, and what is wrong; it is cheap."""
        self._find = find
        self._clock = clock
        self._known: dict[str, tuple[bool, datetime]] = {}

    def told(self) -> dict[str, Any]:
        """Name → ``{"ok", "reason", "since"}`` as it is now."""
        return {name: self._told(name, ok, reason) for name, (ok, reason) in self._find().items()}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.told()
            await self._clock.sleep(LOOK_SECONDS)

    def _told(self, name: str, ok: bool, reason: str) -> dict[str, Any]:
        known = self._known.get(name)
        if known is None or known[0] is not ok:
            self._known[name] = known = (ok, self._clock.now())
        return {"ok": ok, "reason": "" if ok else reason, "since": known[1].isoformat()}
