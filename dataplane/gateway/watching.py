"""The watchdog of the serving loop: notices that it has not turned, and names the module whose code holds it.

A thread of its own looks a few times in each span that is allowed.  While the loop is held it samples the loop's
thread: one task throughout, at one place or busy all the time, is to blame; a loop that is merely loaded, or that the
machine or another thread did not let run, is not.  Code that never lets go of the interpreter (a regular expression, a
C extension) stops this thread too: for that case the interpreter's own fault handler writes every stack to a file after
twice the span, and the kernel ends the process once it has burnt its last span.  A loop that stays held for that long
is lost: the process ends, and its supervisor starts another.

What is found goes to the log, to ``/modules/system/info`` (`Watchdog.wire`), and to whoever was handed in as ``told``
(the agent, which puts a module out of service on repeat).  Started and ended by `dataplane.app`.
"""

import asyncio
import faulthandler
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from dataplane.gateway import hosting
from dataplane.gateway.serving import Served
from schemas import digests
from schemas.kits.clocks import Clock
from schemas.meta import Json

logger = structlog.get_logger("dataplane.gateway.watching")

LOOKS: Final = 4
"""So often in each span that the loop may be held."""
LOST: Final = 70
"""Exit code of a process whose loop is lost (``EX_SOFTWARE``)."""
_KEPT: Final = 20

_CODE: Final = re.compile(r"/([0-9a-f]{64})/([^\"]+)$")
_DUMPED: Final = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


@dataclass(frozen=True, slots=True)
class Place:
    """One line of a stack."""

    file: str
    line: int
    function: str

    @property
    def code(self) -> tuple[str, str]:
        """The folder of the packed code that has this line, and the file in it; empty if it is no module's."""
        found = _CODE.search(self.file)
        return (found.group(1), found.group(2)) if found else ("", "")

    def __str__(self) -> str:
        return f"{self.code[1] or self.file}:{self.line} in {self.function}"


Stack = Sequence[Place]
"""The innermost place first."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the loop's thread did at one moment."""

    task: object
    point: object
    """Where exactly it was: the same again means that it did not move."""
    ran: float
    """Seconds that it ran since it began."""
    waited: float
    """Seconds that it was ready to run and the machine had no turn for it."""
    stack: Stack


@dataclass(frozen=True, slots=True)
class Block:
    """The loop was held for longer than it may be."""

    at: datetime
    seconds: float
    """How long it had been held when this was seen."""
    module: str
    """Empty: no module's code is to blame."""
    uid: str
    generation: int
    digest: str
    """Of the code; there may be one although no module of this process has it."""
    stack: Stack

    @property
    def place(self) -> str:
        """The innermost line of a module's code, or of any."""
        own = [place for place in self.stack if place.code[0]]
        return str((own or self.stack)[0]) if self.stack else ""

    def wire(self) -> Json:
        """What is shown of it."""
        return {
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 3),
            "module": self.module,
            "generation": self.generation,
            "place": self.place,
        }


class LoopThread:
    """The thread that runs the serving loop, seen from another; made on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._times = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

    def times(self) -> tuple[float, float]:
        """Seconds that it ran, and that it was ready to run and had no turn, since it began; zeros if nobody knows."""
        try:
            ran, waited, _ = (int(word) / 1e9 for word in self._times.read_text(encoding="ascii").split())
        except (OSError, ValueError):
            return 0.0, 0.0
        return ran, waited

    def sample(self) -> Sample:
        """What it does now."""
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001 - how the interpreter offers it
        ran, waited = self.times()
        stack = [Place(each.filename, each.lineno or 0, each.name) for each in traceback.extract_stack(frame)]
        point = None if frame is None else (id(frame), frame.f_lasti)
        return Sample(asyncio.current_task(self._loop), point, ran, waited, stack[::-1])

    def call_soon(self, step: Callable[[], object]) -> None:
        """Run something over there."""
        self._loop.call_soon_threadsafe(step)


class Trap:
    """For code that never lets go of the interpreter: a stack in a file, then the end of the process."""

    def __init__(self, path: Path, *, after: float, last: float) -> None:
        self._after = after
        self._last = last
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def take(self) -> Sequence[Stack]:
        """The stacks that were written, also by a process before this one; that of the main thread first."""
        text = os.pread(self._file, 1 << 20, 0).decode(errors="replace")
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        return dumped(text)

    def set(self) -> None:
        """From now on."""
        faulthandler.dump_traceback_later(self._after, file=self._file)
        signal.setitimer(signal.ITIMER_PROF, self._last)

    def close(self) -> None:
        """Not any more."""
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.close(self._file)


def dumped(text: str) -> Sequence[Stack]:
    """The stacks in what the fault handler wrote: the main thread's, which it writes last, comes first here."""
    stacks: list[list[Place]] = []
    for line in text.splitlines():
        if "(most recent call first)" in line:
            stacks.append([])
        elif stacks and (found := _DUMPED.match(line)):
            stacks[-1].append(Place(found.group(1), int(found.group(2)), found.group(3)))
    return stacks[::-1]


class Watchdog:
    """Watches one loop; make it and start it there."""

    def __init__(
        self,
        host: hosting.Host,
        thread: LoopThread,
        clock: Clock,
        *,
        told: Callable[[Block], None],
        trap: Trap | None = None,
        held: float = 1.0,
        lost: float = 30.0,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        """``held``: seconds from which on the loop is called held; ``lost``: from which on the process ends."""
        self._host = host
        self._thread = thread
        self._clock = clock
        self._told = told
        self._trap = trap
        self._held = held
        self._lost = lost
        self._end = end
        self._stride = held / LOOKS
        self._ended = threading.Event()
        self._own: threading.Thread | None = None
        self._looks = 0
        self._turned = self._looked = clock.monotonic()
        self._ran, _ = thread.times()
        self._first: tuple[float, Sample] | None = None
        self._found = False
        self._slow = False
        self.blocks: tuple[Block, ...] = ()
        """The last ones, oldest first."""
        self.count = 0
        """How many there were in this boot."""

    def start(self) -> None:
        """Begin."""
        if self._trap is not None:
            stacks = self._trap.take()
            if stacks:
                self._tell(stacks[0], 0.0, "an earlier process of this worker ended with its interpreter held")
        self._own = threading.Thread(target=self._watch, name="modplane-watchdog", daemon=True)
        self._own.start()

    def stop(self) -> None:
        """End; the loop may be held from now on."""
        self._ended.set()
        if self._own is not None:
            self._own.join(10.0)
        if self._trap is not None:
            self._trap.close()

    def wire(self) -> Json:
        """What ``/modules/system/info`` shows."""
        return {"blocked": self.count, "last": [block.wire() for block in self.blocks]}

    def turn(self) -> None:
        """The loop turns."""
        self._turned = self._clock.monotonic()

    def look(self) -> None:
        """See how the loop does."""
        now = self._clock.monotonic()
        ran_then, (ran, _) = self._ran, self._thread.times()
        slept = now - self._looked - self._stride
        self._looked, self._ran = now, ran
        if slept > self._held:
            self._overslept(now, slept, ran - ran_then)
            return
        held = now - self._turned
        if held < self._held / 2:
            if self._found:
                logger.info("serving loop turns again")
            self._first, self._found, self._slow = None, False, False
            return
        sample = self._thread.sample()
        if self._first is None:
            self._first = (now, sample)
        elif held >= self._held and not self._found:
            since, first = self._first
            self._found = self._judge(first, sample, now - since)
            if self._found:
                self._tell(sample.stack, held, "serving loop is held", sample.task)
            elif not self._slow:
                self._slow = True
                logger.warning("serving loop is slow", seconds=round(held, 3))
        if held >= self._lost:
            logger.critical(
                "serving loop is lost, this worker ends", seconds=round(held, 1), stack=_shown(sample.stack)
            )
            self._end(LOST)

    def _watch(self) -> None:
        while not self._ended.wait(self._stride):
            if self._trap is not None and self._looks % LOOKS == 0:
                self._trap.set()
            self._looks += 1
            try:
                self.look()
            except Exception:
                logger.exception("watchdog failed")
            try:
                self._thread.call_soon(self.turn)
            except RuntimeError:  # the loop is closed
                return

    def _overslept(self, now: float, slept: float, ran: float) -> None:
        """This thread had no turn either: the loop's held the interpreter, another thread did, or nobody ran."""
        self._turned = now
        self._first = None
        stacks: Sequence[Stack] = [] if self._trap is None else self._trap.take()
        if ran >= self._held:
            self._tell(stacks[0] if stacks else [], slept, "the interpreter was held")
        else:
            code = next((stack for stack in stacks if _folder(stack)), [])
            logger.warning("nobody had a turn", seconds=round(slept, 3), stack=_shown(code))

    def _judge(self, first: Sample, last: Sample, seconds: float) -> bool:
        """Whether one piece of work holds the loop: it computes, or stands still although the machine lets it run."""
        computes = last.ran - first.ran >= self._held / LOOKS
        stands = last.point == first.point and last.waited - first.waited < seconds / 2
        somebodys = last.task is not None or bool(_folder(last.stack))
        return last.task is first.task and somebodys and (computes or stands)

    def _tell(self, stack: Stack, seconds: float, event: str, task: object = None) -> None:
        now = self._clock.now()
        everyone = self._host.everyone()
        inside = (served for served in everyone if task is not None and task in served.tasks)
        served = next(inside, None) or _owner(stack, everyone)
        if served is None:
            folder = _folder(stack)
            block = Block(now, seconds, "", "", 0, digests.PREFIX + folder if folder else "", tuple(stack))
        else:
            block = Block(now, seconds, served.name, served.uid, served.generation, served.desired.digest, tuple(stack))
        self.count += 1
        self.blocks = (*self.blocks, block)[-_KEPT:]
        logger.error(
            event, module=block.module, generation=block.generation, seconds=round(seconds, 3), place=block.place,
            stack=_shown(stack),
        )  # fmt: skip
        self._told(block)


def _owner(stack: Stack, everyone: Iterable[Served]) -> Served | None:
    """The module whose code is the innermost of a stack."""
    folder = _folder(stack)
    return next((served for served in everyone if folder and served.desired.digest.endswith(folder)), None)


def _folder(stack: Stack) -> str:
    """The folder of the innermost packed code."""
    return next((place.code[0] for place in stack if place.code[0]), "")


def _shown(stack: Stack) -> str:
    """For a log: as Python draws a stack, the innermost line last."""
    lines = (f'  File "{place.file}", line {place.line}, in {place.function}' for place in reversed(stack))
    return "\n".join(["Stack (most recent call last):", *lines])
