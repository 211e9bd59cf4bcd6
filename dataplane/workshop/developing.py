"""``python -m dataplane dev PATH``: the modules of a path at their real address, reloaded on save.

One process with the real gateway and the real loader, one child that inspects; no NATS, no control plane.  Ends with
Ctrl-C, SIGTERM, or the end of a piped standard input.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import uvloop
import watchfiles

from dataplane import doors
from dataplane.errors import StartFailed
from dataplane.gateway import deciding, dispatching, hosting, pages
from dataplane.runtime import confiding, masking
from dataplane.workshop import benches, inspecting, showing, sources, staging
from schemas.kits import endings
from schemas.meta import Json
from schemas.principals import Principal

_LOOK_MS = 2_000
"""Without a word from the file system we look ourselves: network folders and containers forget to tell."""
_GRACE_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Serve until told to end; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="modplane dev", description="Serve modules from their folder, reloading on save."
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-auth", action="store_true")
    parser.add_argument("--caller", type=json.loads, default=None)
    parser.add_argument("--organisations", type=json.loads, default={})
    parser.add_argument("--flags", type=json.loads, default={})
    options = parser.parse_args(arguments)
    if not options.path.exists():
        sys.stderr.write(f"modplane dev: {options.path}: no such file or folder\n")
        return 1
    try:
        door = doors.open_socket(options.host, options.port)
    except doors.DoorTaken as error:
        why = error.__cause__ or error
        where = f"{options.host}:{options.port}"
        sys.stderr.write(f"modplane dev: cannot listen on {where}: {why}; choose another with --port, or 0\n")
        return 1
    masking.veil()
    scenery = staging.Scenery(options.flags, options.organisations, confiding.Secrets.of(os.environ))
    try:
        scenery.standing(())
    except StartFailed as error:
        sys.stderr.write(f"modplane dev: --org-config: {error.message}\n")
        return 1
    caller = None if options.caller is None else staging.principal(**options.caller)
    session = Developing(options.path, door, guarded=not options.no_auth, scenery=scenery, caller=caller)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(session.run())


class Developing:
    """One session at the bench."""

    def __init__(
        self,
        path: Path,
        door: socket.socket,
        *,
        guarded: bool,
        scenery: staging.Scenery,
        caller: Principal | None = None,
    ) -> None:
        """``caller``: who calls when a request brings no credentials."""
        self._path = path
        self._scenery = scenery
        self._stood: set[str] | None = None
        self._guarded = guarded
        self._host = hosting.Host(grace=_GRACE_SECONDS)
        cast = staging.Cast()
        self._server = serve(self._host, door, cast.gate(), "" if caller is None else cast.credentials(caller))
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to end."""
        endings.watch(asyncio.get_running_loop(), lambda reason: self._ended.set())
        anyio.to_thread.current_default_thread_limiter().total_tokens = 100
        inspector = inspecting.Inspector()
        show = showing.Show(self._server.address)
        bench = benches.Bench(
            self._path,
            self._host,
            show.told,
            inspect=inspector.inspect,
            check=admission,
            guarded=self._guarded,
            secrets=self._scenery.secrets,
        )
        show.places(bench.roots, bench.code_root)
        show.listen()
        sys.stdout.write(f"modplane dev: {self._path} at {self._server.address}, Ctrl-C ends it\n")
        sys.stdout.flush()
        with bench:
            serving = asyncio.create_task(self._server.run_own_door(), name="own door")
            following = asyncio.create_task(self._follow(bench), name="follow")
            ended = asyncio.create_task(self._ended.wait(), name="ending")
            done, _ = await asyncio.wait({serving, following, ended}, return_when=asyncio.FIRST_COMPLETED)
            self._ended.set()
            await following
            self._server.should_exit = True
            await serving
            await self._host.close()
            await inspector.close()
        return 0 if ended in done else 1

    async def _follow(self, bench: benches.Bench) -> None:
        await bench.refresh()
        self._stand()
        async for _ in changes(self._path, self._ended):
            await bench.refresh()
            self._stand()

    def _stand(self) -> None:
        """Give the organisations access to what is there now."""
        if (modules := set(self._host.snapshot.modules)) != self._stood:
            self._host.stand(self._scenery.standing(modules))
            self._stood = modules


async def changes(path: Path, ended: asyncio.Event) -> AsyncIterator[None]:
    """Once per burst of changes below ``path``, and from time to time without any, until ``ended``."""
    folder, recursive = sources.watched(path)
    watching = watchfiles.awatch(
        folder,
        stop_event=ended,
        debounce=200,
        step=50,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        recursive=recursive,
        ignore_permission_denied=True,
    )
    async for _ in watching:
        yield


def serve(host: hosting.Host, door: socket.socket, gate: deciding.Gate, assumed: str = "") -> doors.Server:
    """A server whose only door shows ``host``; ``assumed``: the credentials of who brings none."""

    def ready() -> Json:
        return {"ready": True, "state": "dev", "reason": "", "since": ""}

    def info() -> Json:
        modules = [{"name": each.name, "generation": each.generation} for each in host.snapshot.modules.values()]
        return {"plane": "data", "version": "dev", "modules": modules}

    gateway = dispatching.Dispatcher(host, pages.Pages(host, ready=ready, info=info, version="dev"), gate=gate)
    app = staging.Assumed(gateway, assumed) if assumed else gateway
    return doors.Server(app, door, headers=[], keep_alive=5.0)


async def admission(file: Path) -> list[str]:
    """What ``modplane validate`` says against a manifest, by line and column."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "controlplane.cli.main", "validate", "-f", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with contextlib.suppress(ProcessLookupError):
        said, _ = await process.communicate()
        lines = said.decode().splitlines()
        return [line for line in lines if not line.endswith(" is valid")] if process.returncode == 1 else []
    return []
