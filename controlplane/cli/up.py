"""``modplane up``: NATS, control plane and workers on this machine, supervised until interrupted.

Order: folder and lock → sockets → NATS → control plane → workers → ``endpoints.json`` → what to try.  The supervisor
holds the listening sockets of API and data plane, so a restarted process loses no waiting connection.  Stopping goes
the other way round: workers drain first.  Nothing survives it, even if it is killed.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from controlplane.cli import endpoints, exits, supervising
from schemas import names
from schemas.kits import natsserver

HOST = "127.0.0.1"
_SETTLE_SECONDS = 20.0
"""How long the first modules may take to settle before we say what to try anyway."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    workers: int
    data_dir: Path
    modules: Path
    control_port: int
    data_port: int
    nats_port: int


@click.command("up", short_help="Run the whole system on this machine")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many workers serve.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(endpoints.DATA_DIR),
    show_default=True,
    envvar="MODPLANE_DATA_DIR",
    help="Folder of everything that has to survive.",
)
@click.option(
    "--modules",
    type=click.Path(path_type=Path),
    default=Path("modules"),
    show_default=True,
    envvar="MODPLANE_MODULES_PATH",
    help="Folder with modules.",
)
@click.option("--control-port", type=click.IntRange(0, 65535), default=7400, show_default=True, help="Of the API.")
@click.option("--data-port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Of the modules.")
@click.option("--nats-port", type=click.IntRange(0, 65535), default=4222, show_default=True, help="Of NATS.")
def command(workers: int, data_dir: Path, modules: Path, control_port: int, data_port: int, nats_port: int) -> int:
    """Run NATS, a control plane and workers on this machine until interrupted (Ctrl-C).

    Port 0 picks a free one.  The addresses are printed and written to DATA_DIR/endpoints.json, where every other
    command finds them.

    \b
    Examples:
      modplane up
      modplane up --workers 4 --modules ./modules --data-port 9000
    """
    plan = Plan(workers, data_dir.absolute(), modules.absolute(), control_port, data_port, nats_port)
    with _folder(plan.data_dir):
        return asyncio.run(_up(plan))


@contextlib.contextmanager
def _folder(data_dir: Path) -> Iterator[None]:
    """The data folder, made, writable, and ours alone."""
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise exits.refused(
            f"the data folder {data_dir} cannot be written: {error.strerror} ({error.filename})",
            hint="Give this user the right to write it, or choose another folder with --data-dir.",
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            raise exits.refused(
                f"another `modplane up` (process {pid}) already runs on {data_dir}",
                hint=f"Stop it with: kill {pid}   or choose another folder with --data-dir.",
            ) from error
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


async def _up(plan: Plan) -> int:
    ending = asyncio.Event()
    system = System(plan)

    def interrupted() -> None:
        if ending.is_set():
            _say("stopping at once")
            system.kill()
        else:
            _say("stopping (again to stop at once)")
        ending.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    starting = asyncio.create_task(system.start())
    ended = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await ended
    except supervising.StartFailed as error:
        what, _, words = str(error).partition("\n")
        raise exits.refused(f"could not start: {what}", hint=words or f"See {plan.data_dir / 'logs'}.") from error
    finally:
        for task in (starting, ended):
            task.cancel()
        await system.stop()
    _say("stopped")
    return exits.YES


class System:
    """Every process of one ``up``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children: list[supervising.Child] = []
        self._api = _listen(plan.control_port, "--control-port")
        self._door = _listen(plan.data_port, "--data-port")
        self._nats_port = _free(plan.nats_port, "--nats-port")
        self._complete = False

    async def start(self) -> None:
        """Start everything in order and say where it is."""
        plan = self._plan
        self._nats = await self._begin(supervising.Program("nats", self._nats_command, ready=self._nats_answers))
        self._control = await self._begin(
            supervising.Program("controlplane", self._control_command, (self._api.fileno(),))
        )
        workers = [
            supervising.Program(
                f"w{slot}", lambda slot=slot: self._worker_command(slot), (self._door.fileno(),), stop_seconds=45.0
            )
            for slot in range(plan.workers)
        ]
        self._workers = await asyncio.gather(*(self._begin(worker) for worker in workers))
        await self._settled()
        self._complete = True
        self._write()
        await self._introduce()

    async def stop(self) -> None:
        """Stop everything: workers, control plane, NATS."""
        endpoints.remove(self._plan.data_dir)
        groups: dict[int, list[supervising.Child]] = {}
        for child in self._children:
            groups.setdefault({"nats": 2, "controlplane": 1}.get(child.program.name, 0), []).append(child)
        for _, children in sorted(groups.items()):
            await asyncio.gather(*(child.stop() for child in children))
        self._api.close()
        self._door.close()

    def kill(self) -> None:
        """End everything without asking."""
        for child in self._children:
            child.kill()

    async def _begin(self, program: supervising.Program) -> supervising.Child:
        child = supervising.Child(program, self._plan.data_dir / "logs", _say, lambda _: self._write())
        self._children.append(child)
        await child.start()
        return child

    def _nats_command(self) -> list[str]:
        return natsserver.command(self._plan.data_dir / "nats", self._nats_port)

    async def _nats_answers(self, child: supervising.Child) -> dict[str, Any]:
        while (url := natsserver.read_url(self._plan.data_dir / "nats", child.pid)) is None:
            await asyncio.sleep(0.02)
        self._nats_port = int(url.rsplit(":", 1)[1])
        return {"url": url}

    def _control_command(self) -> list[str]:
        return [
            *_python("controlplane", "serve"),
            *("--data-dir", str(self._plan.data_dir)),
            *("--modules-path", str(self._plan.modules)),
            *("--nats-url", str(self._nats.facts["url"])),
            *("--listen-fd", str(self._api.fileno())),
        ]

    def _worker_command(self, slot: int) -> list[str]:
        return [
            *_python("dataplane", "worker"),
            *("--id", f"w{slot}"),
            *("--data-dir", str(self._plan.data_dir)),
            *("--nats-url", str(self._nats.facts["url"])),
            *("--listen-fd", str(self._door.fileno())),
        ]

    def _write(self) -> None:
        """Say where everything is; a restarted worker has a new address of its own."""
        if self._complete:
            workers = tuple(str(worker.facts["address"]) for worker in self._workers)
            endpoints.write(
                self._plan.data_dir,
                endpoints.Endpoints(_url(self._api), _url(self._door), str(self._nats.facts["url"]), workers),
            )

    async def _settled(self) -> None:
        """Wait until the first modules are served or refused, but not for ever."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_SECONDS
        while loop.time() < deadline:
            ready = await asyncio.to_thread(_get, f"{_url(self._api)}/ready")
            modules = await asyncio.to_thread(_modules, _url(self._api))
            if ready is not None and all(_state(module) in ("ACTIVE", "ERROR") for module in modules):
                return
            await asyncio.sleep(0.1)

    async def _introduce(self) -> None:
        modules = await asyncio.to_thread(_modules, _url(self._api))
        lines = [
            "",
            f"  control plane  {_url(self._api)}",
            f"  data plane     {_url(self._door)}   ({self._plan.workers} worker{'s' * (self._plan.workers > 1)})",
            f"  NATS           {self._nats.facts['url']}",
            f"  modules        {self._plan.modules}",
            f"  data and logs  {self._plan.data_dir}",
            "",
        ]
        if modules:
            width = max(len(module["metadata"]["name"]) for module in modules)
            lines += [f"  {module['metadata']['name']:<{width}}  {_state(module)}" for module in modules] + [""]
        lines += ["  Try:", *(f"    {line}" for line in self._tries(modules)), "", "  Ctrl-C stops everything.", ""]
        click.echo("\n".join(lines))
        sys.stdout.flush()

    def _tries(self, modules: list[dict[str, Any]]) -> list[str]:
        program = "modplane" if self._plan.data_dir == Path(endpoints.DATA_DIR).absolute() else ""
        prefix = program or f"MODPLANE_DATA_DIR={self._plan.data_dir} modplane"
        calls = [f"curl {_url(self._door)}{path}" for module in modules for path in _open_paths(module)[:1]]
        return [*calls[:4], f"{prefix} get modules", f"{prefix} events", f"curl {_url(self._door)}/openapi.json"]


def _python(package: str, verb: str) -> list[str]:
    """Our own interpreter; ``-P`` keeps the working folder off the module path."""
    return [sys.executable, "-P", "-m", package, verb]


def _open_paths(module: dict[str, Any]) -> list[str]:
    """Addresses of a module that a plain GET reaches without a token."""
    routing = module["spec"].get("routing", {})
    base = f"{names.MODULES_PREFIX}/{routing.get('apiVersion')}/{routing.get('namespace')}"
    return [
        base + route["path"]
        for route in module.get("status", {}).get("routes", [])
        if route["method"] == "GET" and route["auth"] == "NONE" and "{" not in route["path"]
    ]


def _state(module: dict[str, Any]) -> str:
    return str(module.get("status", {}).get("state", "DISCOVERED"))


def _modules(api: str) -> list[dict[str, Any]]:
    found = _get(f"{api}{names.API_PREFIX}/modules?limit=500")
    return [] if found is None else list(found["items"])


def _get(url: str) -> dict[str, Any] | None:
    """The JSON at ``url``, or None if it does not answer with 200."""
    import httpx  # late: only `up` asks while it starts

    try:
        answer = httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return None
    return answer.json() if answer.status_code == 200 else None  # type: ignore[no-any-return]


def _listen(port: int, option: str) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=2048)
    except OSError as error:
        raise _taken(port, option, error) from error


def _free(port: int, option: str) -> int:
    """``port``, if nobody listens there."""
    if port:
        _listen(port, option).close()
    return port


def _taken(port: int, option: str, error: OSError) -> exits.Exit:
    if error.errno == errno.EADDRINUSE:
        return exits.refused(
            f"port {port} on {HOST} is in use by another process",
            hint=f"Stop that process, or choose another port with {option} (0 picks a free one).",
        )
    return exits.refused(
        f"cannot listen on {HOST}:{port}: {error.strerror}", hint=f"Choose another port with {option}."
    )


def _url(sock: socket.socket) -> str:
    return f"http://{HOST}:{sock.getsockname()[1]}"


def _say(text: str) -> None:
    click.echo(f"modplane up: {text}")
    sys.stdout.flush()
