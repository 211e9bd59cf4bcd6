"""What a scan came to, for the answer and the log."""

from dataclasses import dataclass, field
from typing import Final

from controlplane.discovery.scanning import Failure
from schemas.meta import Json

LISTS: Final = ("applied", "unchanged", "updated", "pinned", "missing", "prunable", "deleted")
"""The lists of module names in an answer."""


@dataclass(slots=True)
class Result:
    """What a scan came to; the lists hold module names."""

    scanned: int = 0
    applied: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    """Their new code was taken."""
    pinned: list[str] = field(default_factory=list)
    """Newer code lies there, but somebody pinned the digest."""
    missing: list[str] = field(default_factory=list)
    """Their code is gone; they stay and serve on."""
    prunable: list[str] = field(default_factory=list)
    """Those of them that a prune deletes."""
    deleted: list[str] = field(default_factory=list)
    inspecting: list[str] = field(default_factory=list)
    """Paths of sources whose code has not answered yet."""
    held: str = ""
    """Why none of them was deleted by itself."""
    failed: list[Failure] = field(default_factory=list)
    again: float | None = None
    """In how many seconds another scan may say more; None: only a change will."""

    def look_again(self, seconds: float) -> None:
        """Another scan is due then, at the latest."""
        self.again = seconds if self.again is None else min(self.again, seconds)

    def wire(self, seconds: float) -> Json:
        """The answer; ``seconds``: how long it took."""
        return {
            "scanned": self.scanned,
            **{word: sorted(getattr(self, word)) for word in LISTS},
            "held": self.held or None,
            "inspecting": [text(path) for path in self.inspecting],
            "failed": [{"path": text(failure.path), "message": text(failure.message)} for failure in self.failed],
            "durationSeconds": round(seconds, 3),
        }


def text(told: str) -> str:
    """Text that can be sent: a file's name may be any bytes."""
    return told.encode(errors="replace").decode()
