"""One soak: a platform, people who use it, faults that befall it, callers who check every answer.

    rounds:  firm ─▶ fault begins ─▶ people act ─▶ fault ends ─▶ all agree (within `BOUND`) ─▶ answers judged ─▶ firm

In the first part of its time everything may be killed; in the last part processes live on, so that what they take can
be watched.  Whatever does not fit raises `Failed` with what was seen.  Called by `tests.soak.__main__` and its test.
"""

import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import psutil

from schemas.kits.tokens import development
from tests.doubles import platform as platforms
from tests.doubles.nats import free_port
from tests.soak import agreeing, callers, faults, histories, measuring, people, sources, watching

BOUND = 150.0
"""Seconds after the end of a fault within which everybody agrees."""
STORM = 0.55
"""The part of a soak in which processes are killed."""
_TOKEN_SECONDS = 3 * 86_400.0
"""The callers' token outlives every jump of the clock."""
_EVERY = 3.0
"""Seconds between two samples of what processes take."""
_INNER = Path(platforms.__file__).parent / "inner"


class Failed(AssertionError):  # noqa: N818 - what `tests.soak` prints, and no more
    """The platform did what it must not."""


@dataclasses.dataclass(slots=True)
class Report:
    """What a soak did and saw."""

    seed: int
    steps: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: int = 0
    answers: Counter[str] = dataclasses.field(default_factory=Counter)
    excused: Counter[str] = dataclasses.field(default_factory=Counter)
    convergence: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    generations: int = 0
    events: int = 0
    restarts: int = 0
    processes: list[str] = dataclasses.field(default_factory=list)


class Soak:
    """One run."""

    def __init__(self, home: Path, seed: int, seconds: float, told: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._rng = Random(seed)
        self.report = Report(seed)
        self._began = time.monotonic()
        self._told_to = told
        self.history = histories.History()
        environment = {
            "PYTHONPATH": f"{_INNER}:{platforms.ROOT}",
            "MODPLANE_TEST_INSIDE": str(home / "inside"),
            "MODPLANE_LOOP_HELD_SECONDS": "2",
        }
        (home / "inside").mkdir(parents=True)
        # whoever starts again finds the callers where they are
        ports = [word for name in ("control", "data", "nats") for word in (f"--{name}-port", str(free_port()))]
        self.platform = platforms.Platform(
            home, workers=len(faults.WORKERS), examples=False, environment=environment, words=ports
        )
        self._ledger = sources.Ledger(self.platform.modules)
        self._people = people.People(self.platform, self.history, self._ledger, self._rng, self._tell)
        self._watcher = watching.Watcher(self.platform, self.history, self._ledger)
        self._look = agreeing.Look(self.platform, self._people, self._ledger)
        self._measured = measuring.Measurements(self.platform)

    def run(self) -> Report:
        """Soak; Failed when something is not as it must be."""
        self.platform.start(timeout=120)
        self._began = time.monotonic()
        ended = threading.Event()
        measuring_on = threading.Thread(target=self._measure, args=(ended,), daemon=True)
        token = development.sign(
            self.platform.data, development.Caller("soak", roles=["soak"]), now=time.time(), seconds=_TOKEN_SECONDS
        )
        clients = callers.Callers(self.platform.door, lambda: list(self._people.names), token, self.report.seed)
        self._clients = clients
        try:
            self._watcher.start()
            measuring_on.start()
            clients.start()
            self._rounds()
            self._finish(clients)
        finally:
            ended.set()
            clients.stop()
            self._watcher.stop()
            self._people.close()
            measuring_on.join(10)
            self._fill_in()
            self._end()
        return self.report

    def _rounds(self) -> None:
        for _ in range(6):
            self._people.create()
        self._settle("start", [])
        storm_ends = self._began + STORM * self._seconds
        deck = faults.deck(self._rng, kills=True)
        while time.monotonic() < storm_ends:
            dealt = [next(deck) for _ in range(self._rng.choice((1, 1, 1, 2)))]
            for sorts in [[each] for each in dealt] if any(each.alone for each in dealt) else [dealt]:
                self._round(sorts, poison=True)
        self._tell("the processes live on from now")
        self._measured.quiet_since = time.monotonic()
        deck = faults.deck(self._rng, kills=False)
        while time.monotonic() < self._began + self._seconds:
            self._round([next(deck)], poison=False)

    def _round(self, sorts: list[type[faults.Fault]], *, poison: bool) -> None:
        befallen = []
        spans = []
        label = " + ".join(sort.name for sort in sorts)
        self._tell(f"fault: {label}")
        try:
            for sort in sorts:
                fault = sort(self.platform, self._rng)
                span = histories.Span(sort.name, time.monotonic(), cuts=sort.cuts, parts=sort.parts, clocks=sort.clocks)
                self.history.spans.append(span)
                spans.append(span)
                fault.begin()
                befallen.append(fault)
            self._act(self._rng.uniform(3, 11), poison=poison)
        finally:
            for fault in reversed(befallen):
                fault.end()
        self._settle(label, spans)
        self._act(self._rng.uniform(1, 4), poison=False)
        self._settle("nothing", [])

    def _act(self, seconds: float, *, poison: bool) -> None:
        """People act for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.platform.modules.exists():
                self._people.step(poison=poison)
            platforms.pause(self._rng.uniform(0.05, 0.8))

    def _settle(self, label: str, spans: list[histories.Span]) -> None:
        """Bad code is replaced, all comes to rest, and everybody agrees; then the answers are judged."""
        began = time.monotonic()
        self._agreed(label, began)
        if healed := self._people.heal():
            self._agreed(f"{label}, then {len(healed)} modules healed", time.monotonic(), kept=False)
        now = time.monotonic()
        for span in [*spans, *self.history.spans]:
            span.until = min(span.until, now)
        self.report.convergence.setdefault(label, []).append(now - began)
        self._judge()
        self._firm(now)

    def _agreed(self, label: str, began: float, *, kept: bool = True) -> None:
        self._people.sweep()
        swept, left = time.monotonic(), ["nobody looked yet"]
        while left := self._look.differences():
            now = time.monotonic()
            if now - began > BOUND:
                raise Failed(f"no agreement {BOUND:.0f} s after {label}:\n  " + "\n  ".join(left))
            if now - swept > 5:
                self._people.sweep()
                swept = now
            if self._watcher.failure is not None:
                raise Failed("the watch failed") from self._watcher.failure
            platforms.pause(0.3)
        self._tell(f"agreed on {len(self._look.modules)} modules {time.monotonic() - began:.1f} s after {label}")

    def _judge(self) -> None:
        """Wait until the watch has seen all that was looked at, then judge every answer."""
        newest = max((int(each["metadata"]["resourceVersion"]) for each in self._look.modules), default=0)
        platforms.wait_for(lambda: self._watcher.revision >= newest or self._watcher.failure, timeout=60,
                           what="the watch is behind")  # fmt: skip
        self.history.take_events(self._look.events)
        wrong = []
        with self._watcher.lock:
            for answer in self._clients.take():
                if verdict := histories.judge(answer, self.history):
                    wrong.append(f"{verdict}\n    {answer}")
                self.report.answers[str(answer.status or "none")] += 1
                if not answer.status:
                    self.report.excused[histories.excuse(answer, self.history.spans)] += 1
        if wrong:
            raise Failed(f"{len(wrong)} answers must not have been:\n  " + "\n  ".join(wrong[:12]))

    def _firm(self, now: float) -> None:
        """From now on every worker serves these, whatever happens."""
        self.history.loose_at = {}
        self.history.firm = {
            module["metadata"]["name"]: histories.Firm(now, module["metadata"]["uid"], module["metadata"]["generation"])
            for module in self._look.modules
            if module["status"].get("state") == "ACTIVE" and not module["metadata"].get("deletionTimestamp")
        }

    def _finish(self, clients: callers.Callers) -> None:
        self._tell("the end: nothing happens any more")
        self._settle("the end", [])
        clients.stop()
        self._settle("the callers' end", [])
        self._measured.look(tasks=True)
        if grown := self._measured.grown():
            raise Failed("what processes take is not flat:\n  " + "\n  ".join(grown))

    def _measure(self, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(_EVERY):
            count += 1
            with contextlib.suppress(psutil.Error, OSError):
                self._measured.look(tasks=count % 4 == 0)

    def _fill_in(self) -> None:
        self.report.steps = self._people.done
        self.report.refused = self._people.refused
        self.report.generations = len(self.history.generations)
        self.report.events = len(self._look.events)
        self.report.restarts = self.platform.output().count("starting it again")
        self.report.processes = list(self._measured.lines())

    def _end(self) -> None:
        """Stop it; nothing of it may be left."""
        family = [psutil.Process(child.pid) for child in self.platform.children()]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.resume()
        alive = family
        try:
            self.platform.stop(timeout=60)
            _, alive = psutil.wait_procs(family, timeout=10)
        finally:
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        if alive:
            raise Failed(f"left behind: {[process.pid for process in alive]}")

    def _tell(self, line: str) -> None:
        self._told_to(f"{time.monotonic() - self._began:7.1f}  {line}")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{key} {count}" for key, count in sorted(counter.items()))


def lines(report: Report) -> Iterator[str]:
    """A report for people."""
    yield f"seed {report.seed}"
    yield f"steps: {report.steps.total()} ({_counted(report.steps)}); {report.refused} applies were not taken"
    yield f"generations: {report.generations}; lifecycle events: {report.events}; restarts: {report.restarts}"
    yield f"answers checked: {report.answers.total()} ({_counted(report.answers)})"
    yield f"calls cut by a fault: {dict(report.excused)}"
    yield "agreement after the end of each fault (times, median, longest, in seconds):"
    for label, times in sorted(report.convergence.items()):
        ordered = sorted(times)
        yield f"  {label:<55} {len(times):>3} {ordered[len(ordered) // 2]:>6.1f} {ordered[-1]:>6.1f}"
    yield "processes that lived long enough in the quiet part (first fifth → last fifth of their time):"
    yield from (f"  {line}" for line in report.processes or ["none"])
