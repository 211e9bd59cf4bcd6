"""The processes of `modplane up` as one system: started in order, kept, ended in the opposite order.

Order: sockets → guard → NATS → control plane → workers → ``endpoints.json``.  `up` holds the listening sockets of
the API and the data plane, so that a restarted process loses no waiting connection.  Workers drain first at the end.
Called by `controlplane.cli.up`; each process is a `children.Child`.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.cli import children, endpoints, folders, guarding, ports
from schemas.kits import natsserver

_NATS, _CONTROL = "nats", "controlplane"


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    workers: int
    modules: Path
    control_port: int
    data_port: int
    nats_port: int


class System:
    """Every process of one `up`."""

    def __init__(self, wish: Wish, folder: folders.DataFolder, told: Callable[[str], None]) -> None:
        """Raises `exits.Exit` for a port that cannot be had."""
        self._wish = wish
        self._folder = folder
        self._told = told
        self._api = ports.listen(wish.control_port, "--control-port")
        self._door = ports.listen(wish.data_port, "--data-port")
        self._nats_port = ports.free(wish.nats_port, "--nats-port")
        self._guard: asyncio.subprocess.Process | None = None
        self._children: dict[str, children.Child] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    @property
    def found(self) -> endpoints.Endpoints:
        """Where everything is."""
        workers = [child for name, child in self._children.items() if name not in (_NATS, _CONTROL)]
        return endpoints.Endpoints(
            _url(self._api), _url(self._door), self._nats_url, tuple(str(child.facts["address"]) for child in workers)
        )

    async def start(self) -> None:
        """Start everything and write ``endpoints.json``; `children.FailedError` if a process ends at its start."""
        await self._start_guard()
        await self._begin(self._nats())
        await self._begin(self._plan(_CONTROL, "controlplane", "serve", self._api, 15.0, *self._control_settings()))
        slots = [f"w{slot}" for slot in range(self._wish.workers)]
        workers = [
            self._plan(slot, "dataplane", "worker", self._door, 45.0, *self._worker_settings(slot)) for slot in slots
        ]
        await asyncio.gather(*(self._begin(worker) for worker in workers))
        for child in self._children.values():
            child.on_ready = self._write
        self._write()

    async def stop(self) -> None:
        """End everything: workers, control plane, NATS, guard."""
        endpoints.remove(self._folder.path)
        named = dict(self._children)
        last = [named.pop(name) for name in (_CONTROL, _NATS) if name in named]
        await asyncio.gather(*(child.end() for child in named.values()))
        for child in last:
            await child.end()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()
        self._api.close()
        self._door.close()

    def kill(self) -> None:
        """End everything at once."""
        for child in self._children.values():
            child.kill()

    async def _start_guard(self) -> None:
        self._guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", guarding.__file__, str(guarding.GRACE_SECONDS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(self._folder.lock,),
            start_new_session=True,
        )

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._guard.stdin.write(f"{line}\n".encode())

    async def _begin(self, plan: children.Plan) -> None:
        child = children.Child(plan, self._folder.logs, told=self._told)
        child.on_pid = self._tell_guard
        self._children[plan.name] = child
        keeping = asyncio.create_task(child.keep(), name=f"keep {plan.name}")
        self._keeping.add(keeping)
        await child.ready

    def _nats(self) -> children.Plan:
        command = natsserver.command(self._folder.path / "nats", self._nats_port)
        port = self._nats_port
        return children.Plan(_NATS, command, 10.0, answers=lambda: ports.answers(port))

    @property
    def _nats_url(self) -> str:
        return f"nats://{ports.HOST}:{self._nats_port}"

    def _plan(  # one argument for each thing that differs between the planes
        self, name: str, package: str, verb: str, door: socket.socket, stop_seconds: float, *more: str
    ) -> children.Plan:
        # -P keeps the working folder off the module path
        command = [sys.executable, "-P", "-m", package, verb, "--listen-fd", str(door.fileno()), *more]
        return children.Plan(name, command, stop_seconds, pass_fds=(door.fileno(),))

    def _control_settings(self) -> tuple[str, ...]:
        folder, modules = str(self._folder.path), str(self._wish.modules)
        return ("--data-dir", folder, "--modules-path", modules, "--nats-url", self._nats_url)

    def _worker_settings(self, slot: str) -> tuple[str, ...]:
        return ("--id", slot, "--data-dir", str(self._folder.path), "--nats-url", self._nats_url)

    def _write(self) -> None:
        """A restarted worker has a new address of its own."""
        endpoints.write(self._folder.path, self.found)


def _url(door: socket.socket) -> str:
    return f"http://{ports.HOST}:{door.getsockname()[1]}"
