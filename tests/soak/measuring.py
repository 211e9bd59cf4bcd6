"""What every process takes over its life, and whether that is flat.

A process is judged over its quiet time: from when it is warm until its last look.  Its first fifth of that time is the
baseline, its last fifth what it has come to.  `growth` is pure.
"""

import contextlib
import json
import os
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.doubles.platform import Platform

WARM = 45.0
"""Seconds of a process's life that say nothing: it loads, and its caches fill."""
ENOUGH = 90.0
"""Seconds of quiet time without which nothing is said of a process."""
SHARE = 0.15
"""How much of its memory a process may gain, beside `SLACK`."""
SLACK = {"memory": 12 << 20, "tasks": 12, "threads": 6, "descriptors": 12}
"""By how much each may be more at the end than at the beginning: bytes; others counted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at: float
    memory: int
    threads: int
    descriptors: int
    tasks: int = -1
    """-1: not asked, or not a process of ours."""


def growth(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Before and after of each quantity that grew too much."""
    found = {}
    for what, slack in SLACK.items():
        values = [float(getattr(sample, what)) for sample in samples if getattr(sample, what) >= 0]
        few = max(len(values) // 5, 1)
        if len(values) < 4:
            continue
        before, after = statistics.median(values[:few]), statistics.median(values[-few:])
        if after > before * (1 + SHARE * (what == "memory")) + slack:
            found[what] = (before, after)
    return found


class Measurements:
    """Samples of every process below a platform, `up` included."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._inside = platform.home / "inside"
        self._born: dict[int, float] = {}
        self._samples: dict[int, list[Sample]] = defaultdict(list)
        self._kinds: dict[int, str] = {}
        self._lock = threading.Lock()
        self.quiet_since = 0.0
        """Only samples behind it are judged."""

    def look(self, *, tasks: bool = False) -> None:
        """Take a sample of each; ``tasks``: also ask each how many tasks it has."""
        for process, kind in self._processes():
            with contextlib.suppress(psutil.Error, OSError):
                with process.oneshot():
                    now = time.monotonic()
                    taken = Sample(
                        now,
                        process.memory_info().rss,
                        process.num_threads(),
                        process.num_fds(),
                        self._tasks(process.pid) if tasks and kind in ("controlplane", "w0", "w1") else -1,
                    )
                with self._lock:
                    self._kinds[process.pid] = kind
                    self._born.setdefault(process.pid, now)
                    self._samples[process.pid].append(taken)

    def grown(self) -> list[str]:
        """Every process that is not flat."""
        return [
            f"{self._kinds[pid]} ({pid}): {what} {_shown(what, before)} → {_shown(what, after)} in {_minutes(samples)}"
            for pid, samples in self._judged()
            for what, (before, after) in growth(samples).items()
        ]

    def lines(self) -> Iterator[str]:
        """A line for each process that lived long enough."""
        for pid, samples in self._judged():
            few = max(len(samples) // 5, 1)
            parts = []
            for what in SLACK:
                values = [float(getattr(each, what)) for each in samples if getattr(each, what) >= 0]
                if values:
                    few = max(len(values) // 5, 1)
                    before, after = statistics.median(values[:few]), statistics.median(values[-few:])
                    parts.append(f"{what} {_shown(what, before)} → {_shown(what, after)}")
            yield f"{self._kinds[pid]:<13} {_minutes(samples):>8}  {', '.join(parts)}"

    def _judged(self) -> Iterator[tuple[int, list[Sample]]]:
        with self._lock:
            for pid, samples in sorted(self._samples.items(), key=lambda item: self._kinds[item[0]]):
                since = max(self._born[pid] + WARM, self.quiet_since)
                quiet = [sample for sample in samples if sample.at >= since]
                if quiet and quiet[-1].at - quiet[0].at >= ENOUGH:
                    yield pid, quiet

    def _processes(self) -> Iterator[tuple[psutil.Process, str]]:
        assert self._platform.process is not None
        with contextlib.suppress(psutil.Error):
            yield psutil.Process(self._platform.process.pid), "up"
        for child in self._platform.children():
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                kind = next((kind for word, kind in _KINDS.items() if word in line), "")
                if kind:
                    yield child, kind

    def _tasks(self, pid: int) -> int:
        place = self._inside / f"{pid}.json"
        place.unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                return int(json.loads(Path(place).read_text())["tasks"])
            threading.Event().wait(0.02)
        return -1


_KINDS = {
    "controlplane serve": "controlplane",
    "worker --id w0": "w0",
    "worker --id w1": "w1",
    "nats-server": "nats",
}


def _shown(what: str, value: float) -> str:
    return f"{value / (1 << 20):.1f} MiB" if what == "memory" else f"{value:.0f}"


def _minutes(samples: Sequence[Sample]) -> str:
    return f"{(samples[-1].at - samples[0].at) / 60:.1f} min"
