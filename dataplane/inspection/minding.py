"""One child as its parent sees it: forked, asked, heard, and ended with everything that it started.

Always holds: what a child left running does not outlive it for long, also what has daemonised itself: the zygote
inherits it (`confining.reap`) and ends it.  Called by `dataplane.inspection.zygotes`, on its one thread.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dataplane.inspection import children, surroundings
from schemas.inspections import InspectionRequest

_CHUNK: Final = 1 << 16
_NICE: Final = 5
"""How much a slow child stands back."""
_ROUNDS: Final = 50
"""How often we look for processes that start others while we stop them."""


@dataclass(slots=True, eq=False)
class Child:
    """One child's handles, and what it has answered so far."""

    pid: int
    exit_fd: int
    """Readable when it has ended."""
    request_fd: int
    answer_fd: int
    output_fd: int
    answer: bytearray = field(default_factory=bytearray)
    untidy: bool = False
    """Whether it may leave processes behind."""
    delayed: float = 0.0
    """For how many seconds it had waited for the processor when `waited` was asked last."""

    @property
    def size(self) -> int:
        """Of the present frame, as far as it is known."""
        return children.HEAD + int.from_bytes(self.answer[:4], "big")

    @property
    def too_long(self) -> bool:
        """Whether the frame is larger than a frame may be."""
        return len(self.answer) >= children.HEAD and self.size > children.HEAD + children.ANSWER_MAX

    def complete(self) -> bool:
        """Whether the whole frame arrived, or as much as is read of one that is too long."""
        return self.too_long or (len(self.answer) >= children.HEAD and len(self.answer) >= self.size)

    def take(self) -> tuple[bytes, bool, bool]:
        """The answer that is complete; whether another request may follow, and whether processes were left behind."""
        after, answer = self.answer[children.HEAD - 1], bytes(self.answer[children.HEAD : self.size])
        more = len(self.answer) > self.size
        self.answer.clear()
        return (
            answer,
            after == children.After.CLEAN and not more,
            after
            not in (
                children.After.CLEAN,
                children.After.USED,
            ),
        )

    def drain(self) -> bool:
        """Read what has arrived; True if the child closed its side."""
        while len(self.answer) <= children.ANSWER_MAX + children.HEAD:
            try:
                chunk = os.read(self.answer_fd, _CHUNK)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            self.answer += chunk
        return False

    def ask(self, request: InspectionRequest) -> None:
        """Hand it a request; one that is gone already is heard of in a moment."""
        self.waited()
        line = request.model_dump_json(by_alias=True).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self.request_fd, line) :]

    def waited(self) -> float:
        """For how many seconds it was ready to run and had no processor, since this was asked last."""
        before, self.delayed = self.delayed, _delayed(self.pid)
        return self.delayed - before

    def slow_down(self) -> None:
        """Let others come first, on the processor."""
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, self.pid, _NICE)

    def kill(self) -> None:
        """End it with its group; `bury` it when ``exit_fd`` says that it has ended.

        Before that, its group's id cannot be another's; a child that ended by itself keeps its own status.
        """
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def status(self) -> int:
        """How it ended: the exit code, or minus the signal; waits for the end."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def bury(self) -> None:
        """Let go of it; waits for the end."""
        os.waitpid(self.pid, 0)
        for fd in (self.exit_fd, self.answer_fd, self.request_fd, self.output_fd):
            os.close(fd)


def fork(number: int, host: surroundings.Host, prepare: Callable[[], None]) -> Child:
    """A child that prepares itself and waits to be asked."""
    theirs, request_fd = os.pipe()
    answer_fd, writer = os.pipe()
    os.set_blocking(answer_fd, False)
    output_fd = os.memfd_create("output")
    pid = os.fork()
    if pid == 0:
        children.run(theirs, writer, output_fd, number, host, prepare)
    os.close(theirs)
    os.close(writer)
    return Child(pid, os.pidfd_open(pid), request_fd, answer_fd, output_fd)


def _delayed(pid: int) -> float:
    """Seconds that a process's first thread has waited for the processor; 0 where the system does not count them."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def sweep(known: Collection[int]) -> bool:
    """End every process below this one that does not belong to the children ``known``; whether some are left.

    First they are stopped, until there is none that could start another; then they are killed.
    """
    strays: set[int] = set()
    for _ in range(_ROUNDS):
        found = _below(os.getpid(), known) - strays
        if not found:
            break
        _signal(found, signal.SIGSTOP)
        strays |= found
    _signal(strays, signal.SIGKILL)
    for pid in strays:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return bool(strays)


def _below(root: int, known: Collection[int]) -> set[int]:
    """The descendants of ``root``, but for the processes ``known`` and theirs."""
    parents = {int(place.name): parent for place in Path("/proc").iterdir() if (parent := _parent(place)) is not None}
    found: set[int] = set()
    ring = {root}
    while ring := {pid for pid, parent in parents.items() if parent in ring and pid not in known}:
        found |= ring
    return found


def _parent(place: Path) -> int | None:
    if not place.name.isdigit():
        return None
    try:
        return int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def _signal(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
