"""The supervisor of `modplane up`: starts the parts in order, keeps them, ends them in the opposite order.

Order: guard, NATS, then control plane and workers at once.  When all have said that they work and the first modules
have settled, ``endpoints.json`` is written, and again whenever a worker comes back with another address.  SIGHUP
replaces the workers one by one (`controlplane.cli.rolling`).  An ending (Ctrl-C, SIGTERM, or the terminal is gone)
stops the workers, which drain, then the control plane, then NATS; a second one kills.  Called by `controlplane.cli.up`.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from controlplane.cli import admitting, children, endpoints, exits, folders, guarding, rolling

_AGAIN_SECONDS: Final = 1.0
_ROOM_BYTES: Final = 16 << 20
"""What the disk has to have free so that a restart of NATS helps."""

_LOOK_SECONDS: Final = 5.0
"""After a look at NATS and its disk, what more parts say of it within so many seconds is the same news."""

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
    replace_seconds: float = rolling.DEADLINE_SECONDS
    """How long the successor of a worker may take until it is ready."""


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
    """All that run: NATS, the control plane, and workers, also those that come and those that go."""
    _workers: list[children.Child] = field(default_factory=list)
    """By slot."""
    _keepers: dict[children.Child, asyncio.Task[None]] = field(default_factory=dict)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: list[int] = field(default_factory=list)
    _guard: "Guard | None" = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _roller: rolling.Roller = field(init=False)
    _terminal: bool = False
    """Whether there is a terminal that may hang up."""
    _nohup: bool = False
    _again: asyncio.TimerHandle | None = None
    """When ``endpoints.json``, which could not be written, is tried again."""
    _nats_next_look: float = 0.0
    """Before this moment of the monotonic clock, no look at NATS is due."""

    async def run(self) -> int:
        """Run until told to end; returns the exit code.  Raises `exits.Exit` when the start fails."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        self._roller = rolling.Roller(
            self._workers, self._add, self._retire, self.told, self._publish, self.system.replace_seconds
        )
        self._terminal, self._nohup = terminal(), signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._guard = Guard(self.system.folder.lock)
        rolling_on = asyncio.create_task(self._roll(), name="replace workers")
        admin = asyncio.create_task(self._admission.keep(self.system.control_url, self.told), name="renew")
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
            tasks = (starting, ended, rolling_on, admin)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()
        self.told("stopped")
        return exits.INTERRUPTED if self._signals[:1] == [signal.SIGINT] else exits.YES

    async def _start(self) -> None:
        await self._all_ready([self._add(self.system.nats)])
        plane = self._add(self.system.controlplane)
        self._workers += [self._add(plan) for plan in self.system.workers]
        for slot, worker in enumerate(self._workers):
            worker.on_recycle = functools.partial(self._roller.recycle, slot)
        await self._all_ready([plane, *self._workers])
        await self.settled(self._endpoints())
        self._ready.set()
        self._publish()
        await self.greet(self._endpoints())

    def _add(self, plan: children.Plan, first_words: Sequence[str] = ()) -> children.Child:
        child = children.Child(plan, self.system.folder.logs, told=self.told, first_words=first_words)
        child.on_pid = self._guarded
        child.on_ready = self._publish
        child.on_unstored = self._restart_nats
        self._children.append(child)
        self._keepers[child] = asyncio.create_task(child.keep(), name=plan.name)
        return child

    def _restart_nats(self, reason: str) -> None:
        """After a full disk NATS stores nothing until it is started anew, which helps once there is room.

        Every part that writes notices it by itself, at about the same time: one look is for all of them.
        """
        now = time.monotonic()
        if now < self._nats_next_look:
            return
        self._nats_next_look = now + _LOOK_SECONDS
        folder = self.system.folder.path
        if shutil.disk_usage(folder).free < _ROOM_BYTES:
            self.told(f"NATS stores nothing ({reason}): the disk of {folder} is full; free space there")
            return
        self.told(f"NATS stores nothing ({reason}), and its disk has room: starting it again")
        self._children[0].restart()

    def _retire(self, child: children.Child) -> None:
        self._children.remove(child)
        self._keepers.pop(child).cancel()
        child.forget()

    async def _roll(self) -> None:
        await self._ready.wait()
        await self._roller.run()

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
            workers=tuple(str(worker.facts.get("address", "")) for worker in self._workers),
            token_file=str(self._admission.token_file),
            kubeconfig=str(self._admission.kubeconfig),
            ca_file=str(self._admission.ca_file),
        )

    @property
    def _admission(self) -> admitting.Admission:
        return admitting.Admission(self.system.folder.path)

    def _publish(self) -> None:
        """Write down where everybody is; until that succeeds, say so once and try again."""
        if not self._ready.is_set() or self._ending.is_set():
            return
        try:
            endpoints.write(self.system.folder.path, self._endpoints())
        except OSError as error:
            if self._again is None:
                where = endpoints.path(self.system.folder.path)
                self.told(f"{where} cannot be written: {error.strerror}; it is tried again until there is room")
            self._cancel_again()
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._publish)
        else:
            self._cancel_again()

    def _cancel_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

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

    def _hung_up(self) -> None:
        """SIGHUP by hand; or the terminal that we were started from is gone, which ends us, but not under nohup."""
        gone = self._terminal and not terminal()
        self._terminal = self._terminal and not gone
        if gone and not self._nohup:
            self._signalled(signal.SIGHUP)
        elif not gone and not self._ending.is_set():
            self._roller.wish_all("SIGHUP")

    async def _stop(self) -> None:
        self._ending.set()
        endpoints.remove(self.system.folder.path)
        for door in self.system.doors:
            door.close()
        nats, plane, workers = self._children[:1], self._children[1:2], self._children[2:]
        for group in (workers, plane, nats):
            await asyncio.gather(*(child.end() for child in group))
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
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


def terminal() -> bool:
    """Whether this process has a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
