"""The last lines of each module on this worker, and how many a second go into the worker's log.

Always: bounded in lines and characters for each module and for all; what is over the rate is dropped and counted, and
the count is said with the next line.  Called from any thread, by `dataplane.telemetry.outputs`; read by the agent,
which is asked for them.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from schemas.lines import BYTES_MAX, LINES_MAX, Line

TEXT_MAX: Final = 4_096
"""Characters of one entry; of a longer one the middle is cut out, since a trace-back says most at its end."""
_HEAD: Final = 1_024
_CUT: Final = "\n[…]\n"
ALL_MAX: Final = 16 * 1024 * 1024
"""Characters of all modules together; whoever wrote nothing for longest is forgotten first."""
RATE: Final = 100.0
"""Lines of one module that go on in a second."""
BURST: Final = 500.0
"""Lines that may come at once."""


class _Kept:
    __slots__ = ("allowance", "at", "dropped", "lines", "size", "unsaid")

    def __init__(self, now: float) -> None:
        self.lines: deque[Line] = deque()
        self.size = 0
        self.allowance = BURST
        self.at = now
        self.dropped = 0
        self.unsaid = 0


class Lines:
    """What the modules of one worker wrote."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._modules: OrderedDict[str, _Kept] = OrderedDict()
        self._number = 0
        self._size = 0

    def note(self, module: str, level: str, text: str, *, limited: bool = True) -> int | None:
        """Keep a line; None: it is one too many.  Otherwise how many were dropped before it and not told yet."""
        with self._lock:
            kept = self._kept(module)
            if limited and not self._may(kept):
                kept.dropped += 1
                kept.unsaid += 1
                return None
            unsaid, kept.unsaid = kept.unsaid, 0
            if unsaid:
                self._add(kept, "warning", f"{unsaid} lines were dropped here: more than {RATE:.0f} a second")
            self._add(kept, level, text)
            while self._size > ALL_MAX and len(self._modules) > 1:
                _, old = self._modules.popitem(last=False)
                self._size -= old.size
            return unsaid

    def of(self, module: str, after: int = 0) -> tuple[list[Line], int]:
        """The lines of a module with a higher number, in order, and how many were dropped so far."""
        with self._lock:
            kept = self._modules.get(module)
            if kept is None:
                return [], 0
            return [line for line in kept.lines if line.number > after], kept.dropped

    def _kept(self, module: str) -> _Kept:
        kept = self._modules.get(module)
        if kept is None:
            kept = self._modules[module] = _Kept(self._monotonic())
        else:
            self._modules.move_to_end(module)
        return kept

    def _may(self, kept: _Kept) -> bool:
        now = self._monotonic()
        kept.allowance = min(BURST, kept.allowance + (now - kept.at) * RATE)
        kept.at = now
        if kept.allowance < 1.0:
            return False
        kept.allowance -= 1.0
        return True

    def _add(self, kept: _Kept, level: str, text: str) -> None:
        self._number += 1
        if len(text) > TEXT_MAX:
            text = text[:_HEAD] + _CUT + text[_HEAD + len(_CUT) - TEXT_MAX :]
        kept.lines.append(Line.model_construct(number=self._number, at=self._now(), level=level, text=text))
        kept.size += len(text)
        self._size += len(text)
        while len(kept.lines) > LINES_MAX or kept.size > BYTES_MAX:
            gone = len(kept.lines.popleft().text)
            kept.size -= gone
            self._size -= gone
