"""The supervisor of `modplane up`: starts the parts in order, keeps them, ends them in the opposite order.

Order: guard, NATS, then control plane and workers at once.  When all have said that they work and the first modules
have settled, ``endpoints.json`` is written, and again whenever a worker comes back with another address.  An ending
(Ctrl-C, SIGTERM, SIGHUP) stops the workers, which drain, then the control plane, then NATS; a second one kills.
Called by `controlplane.cli.up`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.cli import children, endpoints, exits, folders, guarding

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class System:
    """What is to run."""

    folder: folders.DataFolder
    nats: children.Plan
    controlplane: children.Plan
    workers: tuple[children.Plan, ...]
    doors: tuple[socket.socket, ...]
    """The listening sockets of API and data plane: held here, so that a restart refuses no connection."""
    control_url: str
    data_url: str
    nats_url: str
    patience: float = 30.0
    """Seconds after which a start that is not ready says what it waits for."""


@dataclass
class Supervisor:
    """A system being run."""

    system: System
    told: Told
    """Hears what a person should know, a line at a time."""
    settled: Callable[[endpoints.Endpoints], Coroutine[Any, Any, None]]
    """Waits until the first modules are served or refused."""
    greet: Callable[[endpoints.Endpoints], Coroutine[Any, Any, None]]
    """Says that all is ready, and what to try."""
    _children: list[children.Child] = field(default_factory=list)
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: list[int] = field(default_factory=list)
    _guard: "Guard | None" = None
    _ready: bool = False

    async def run(self) -> int:
        """Run until told to end; returns the exit code.  Raises `exits.Exit` when the start fails."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                loop.add_signal_handler(number, self._signalled, number)
        self._guard = Guard(self.system.folder.lock)
        starting = asyncio.create_task(self._start(), name="start")
        ended = asyncio.create_task(self._ending.wait(), name="ending")
        try:
            await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                starting.result()
                await ended
        except children.FailedError as error:
            raise exits.refused(str(error)) from error
        finally:
            for task in (starting, ended):
                task.cancel()
            await asyncio.gather(starting, ended, return_exceptions=True)
            await self._stop()
        self.told("stopped")
        return exits.INTERRUPTED if self._signals[:1] == [signal.SIGINT] else exits.YES

    async def _start(self) -> None:
        await self._all_ready([self._add(self.system.nats)])
        plans = (self.system.controlplane, *self.system.workers)
        await self._all_ready([self._add(plan) for plan in plans])
        await self.settled(self._endpoints())
        self._ready = True
        self._publish()
        await self.greet(self._endpoints())

    def _add(self, plan: children.Plan) -> children.Child:
        child = children.Child(plan, self.system.folder.logs, told=self.told)
        child.on_pid = self._guarded
        child.on_ready = self._publish
        self._children.append(child)
        self._keepers.append(asyncio.create_task(child.keep(), name=plan.name))
        return child

    async def _all_ready(self, parts: list[children.Child]) -> None:
        while True:
            done, left = await asyncio.wait(
                [part.ready for part in parts], timeout=self.system.patience, return_when=asyncio.FIRST_EXCEPTION
            )
            for future in done:
                future.result()
            if not left:
                return
            for part in (part for part in parts if not part.ready.done()):
                self.told(f"still waiting for {part.plan.name}; its log: {part.log}")

    def _endpoints(self) -> endpoints.Endpoints:
        return endpoints.Endpoints(
            control_plane=self.system.control_url,
            data_plane=self.system.data_url,
            nats=self.system.nats_url,
            workers=tuple(str(worker.facts.get("address", "")) for worker in self._children[2:]),
        )

    def _publish(self) -> None:
        if self._ready and not self._ending.is_set():
            endpoints.write(self.system.folder.path, self._endpoints())

    def _guarded(self, line: str) -> None:
        assert self._guard is not None, "the guard starts first"
        self._guard.tell(line)

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        self._ending.set()
        if len(self._signals) == 1:
            self.told("stopping: requests are finished first (again to stop at once)")
            return
        for child in self._children:
            child.kill()

    async def _stop(self) -> None:
        self._ending.set()
        endpoints.remove(self.system.folder.path)
        for door in self.system.doors:
            door.close()
        nats, plane, workers = self._children[:1], self._children[1:2], self._children[2:]
        for group in (workers, plane, nats):
            await asyncio.gather(*(child.end() for child in group))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for child in self._children:
            child.forget()
        if self._guard is not None:
            self._guard.close()


class Guard:
    """Our end of the guard process."""

    def __init__(self, lock: int, grace: float = guarding.GRACE_SECONDS) -> None:
        reading, self._pipe = os.pipe()
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", str(Path(guarding.__file__)), str(grace)],
                dict(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reading, 0),
                    (os.POSIX_SPAWN_DUP2, lock, max(lock, reading, self._pipe) + 1),
                ],
                setsid=True,
            )
        finally:
            os.close(reading)

    def tell(self, line: str) -> None:
        """``+PID``: started; ``-PID``: gone."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode() + b"\n")

    def close(self) -> None:
        """Let it end, and wait until it has."""
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def python(package: str, *words: object) -> list[str]:
    """``python -m package words…`` with this very interpreter; ``-P`` keeps the working folder off the module path."""
    return [sys.executable, "-P", "-m", package, *(str(word) for word in words)]
