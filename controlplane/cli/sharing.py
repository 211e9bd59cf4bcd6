"""One long piece of work, cut into pieces, done by several processes side by side.

Always holds: what comes out is what ``work`` makes of each piece, in order, however many processes there are; a process
that cannot be started, or does not come to its end, leaves its pieces to us; none of them outlives us for longer than
its pieces take.  Processes are forked, since a new interpreter needs half a second to know what we know: so this is for
commands, which have one thread, and for work that only thinks, opening and printing nothing.  Called by `manifests`.
"""

import contextlib
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, NoReturn, TypeVar

P = TypeVar("P")
R = TypeVar("R")

MOST: Final = 2
"""Processes at once, ourselves among them, so that memory stays bounded on machines of many cores."""


def processes() -> int:
    """How many are worth having; one where there is only one core, or where a thread forbids to fork."""
    if threading.active_count() > 1 or not hasattr(os, "sched_getaffinity"):
        return 1
    return min(len(os.sched_getaffinity(0)), MOST)


def share(work: Callable[[P], R], pieces: Sequence[P], count: int) -> list[R]:
    """``work`` of each piece, done by ``count`` processes, ourselves among them.

    Pieces are dealt out in turn, so that a stretch that takes long is everybody's; to us last, who also have to take
    what the others made.
    """
    *hands, ours = [pieces[place::count] for place in range(count)]
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(contextlib.closing(_Other(work, hand))) for hand in hands]
        own = [work(piece) for piece in ours]
        made = [*(other.made() for other in others), own]
    return [made[place % count][place // count] for place in range(len(pieces))]


class _Other(Generic[P, R]):
    """A forked process with pieces of its own, and the pipe through which it tells what it made of them."""

    def __init__(self, work: Callable[[P], R], pieces: Sequence[P]) -> None:
        self._work, self._pieces = work, pieces
        self._told, ours = os.pipe()
        self._pid = _forked()
        if self._pid == 0:
            _do(work, pieces, ours)
        os.close(ours)

    def made(self) -> list[R]:
        """What it made; what we make of its pieces if it did not come to the end."""
        try:
            with open(self._told, "rb", closefd=False) as pipe:
                return [pickle.load(pipe) for _ in self._pieces]  # noqa: S301 (written by ourselves, a moment ago)
        except (EOFError, pickle.UnpicklingError):
            return [self._work(piece) for piece in self._pieces]

    def close(self) -> None:
        """It is of no use any more."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._told)


def _forked() -> int | None:
    """The other process's id, 0 in the other one; None: there cannot be one now."""
    try:
        return os.fork()
    except OSError:
        return None


def _do(work: Callable[[P], R], pieces: Sequence[P], pipe: int) -> NoReturn:
    """The other process, from its beginning to its end: nothing of what we had open is flushed or closed by it."""
    try:
        gc.freeze()  # whatever a look for garbage touches would be copied
        made = [pickle.dumps(work(piece), pickle.HIGHEST_PROTOCOL) for piece in pieces]
        with open(pipe, "wb") as out:
            out.writelines(made)
    finally:  # whatever went wrong happens to us, too, and there are words for it there
        os._exit(0)
