"""What a process of a platform carries inside while it is soaked: a wall clock that jumps, and a count of its tasks.

Python imports this by itself where the folder is on ``PYTHONPATH``.  The file ``MODPLANE_TEST_INSIDE/clock`` holds by
how many seconds the wall clock is wrong (monotonic time runs on, as at a real jump); SIGUSR2 has the process write
``MODPLANE_TEST_INSIDE/PID.json``: asyncio tasks by name, threads.  Without the variable nothing is changed.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType


def _told(inside: Path) -> None:
    from asyncio import tasks  # late: most processes are never asked

    def tell(number: int, frame: FrameType | None) -> None:
        alive = [task for task in list(tasks._all_tasks) if not task.done()]  # type: ignore[attr-defined]  # every loop's
        names = Counter(task.get_name().partition("-")[0] for task in alive)
        told = {"tasks": len(alive), "names": dict(names), "threads": [each.name for each in threading.enumerate()]}
        place = inside / f"{os.getpid()}.json"
        place.with_suffix(".new").write_text(json.dumps(told))
        place.with_suffix(".new").replace(place)

    signal.signal(signal.SIGUSR2, tell)


def _jumping(clock: Path) -> None:
    from schemas.kits import clocks  # late: not every process is one of ours

    def now(self: clocks.SystemClock) -> datetime:
        try:
            wrong = float(clock.read_text() or 0)
        except (OSError, ValueError):
            wrong = 0.0
        return datetime.now(UTC) + timedelta(seconds=wrong)

    clocks.SystemClock.now = now  # type: ignore[method-assign]


if (_place := os.environ.get("MODPLANE_TEST_INSIDE")) and {"controlplane", "dataplane"} & set(sys.orig_argv):
    _told(Path(_place))
    _jumping(Path(_place) / "clock")
