"""Back-off: exponential with full jitter.

Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015.
"""

from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row: uniform in (0, min(cap, base · factor^(n-1))]."""

    base: float = 0.1
    """Seconds; the ceiling of the first wait."""
    cap: float = 60.0
    """Seconds; no wait is longer."""
    factor: float = 2.0
    source: Random = field(default_factory=Random, compare=False)

    def ceiling(self, failures: int) -> float:
        """The longest wait after ``failures`` (from 1) failures in a row, in seconds."""
        exponent = min(max(failures, 1) - 1, 64)
        return float(min(self.cap, self.base * self.factor**exponent))

    def delay(self, failures: int) -> float:
        """A wait in seconds, drawn anew at each call."""
        return self.ceiling(failures) * (1.0 - self.source.random())


def jittered(seconds: float, share: float, source: Random) -> float:
    """``seconds`` give or take up to ``share`` of it (0.2 means ±20 %), drawn from ``source``."""
    return seconds * (1.0 + share * (2.0 * source.random() - 1.0))
