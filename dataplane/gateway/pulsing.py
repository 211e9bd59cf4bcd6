"""How one module does on this worker: how its calls end, whether its circuit is closed, what its last check said.

Written on the serving loop by `dataplane.gateway.entering`, once per call, and by `dataplane.gateway.hosting`;
read from the agent's thread, which sees whole numbers.  A generation has its own counts; a fresh instance of the same
generation goes on with them.
"""

from datetime import datetime
from typing import Final

from dataplane.gateway.breaking import Breaker
from dataplane.runtime import asking
from schemas.meta import Json
from schemas.module import DesiredModule

SLOW: Final = 0.75
"""Share of a call's time limit from which on its answer counts as slow."""


class Pulse:
    """The counts of one generation."""

    __slots__ = ("_slow", "answer", "breaker", "calls", "checked_at", "errors", "well")

    def __init__(self, desired: DesiredModule, before: "Pulse | None" = None) -> None:
        """``before``: of the generation whose instance goes on serving under this one."""
        self.calls = 0
        """Requests that the module was given."""
        self.errors = 0
        """Those that ended with 5xx, or without an answer in time."""
        self.well: bool = True if before is None else before.well
        """False while the module's own check says that it is not (`dataplane.agent.probing`)."""
        self.answer: asking.Answer | None = None if before is None else before.answer
        """The last answer of the module's own check, and when it was given."""
        self.checked_at: datetime | None = None if before is None else before.checked_at
        self.breaker = Breaker(desired.breaker)
        self._slow = desired.limits.timeout_seconds * SLOW

    def admit(self, now: float, kind: str) -> int:
        """Whether a call may be handed on while the circuit is not closed: its turn as a probe; 0: it may not.

        A WebSocket (``kind``: the scope's type) is no probe, for it may last.
        """
        return self.breaker.admit(now) if kind == "http" else 0

    def ended(self, status: int, took: float, now: float, turn: int) -> None:
        """A call has left the module: with which status, 0 if nobody knows, and how long its answer took to begin."""
        if not status:
            self.breaker.withdraw(turn)
            return
        self.calls += 1
        failed = status >= 500
        if failed:
            self.errors += 1
        self.breaker.note(now, failed=failed, slow=took > self._slow, turn=turn)

    def wire(self) -> Json:
        """What ``/modules/system/info`` shows."""
        answer = self.answer
        return {
            "calls": self.calls,
            "errors": self.errors,
            "circuit": self.breaker.state.value,
            "circuitReason": self.breaker.message,
            "healthy": self.well,
            "lastCheck": None if self.checked_at is None else self.checked_at.isoformat(),
            "lastAnswer": None
            if answer is None
            else {"healthy": answer.healthy, "reason": answer.reason, "message": answer.message, **answer.details},
        }
