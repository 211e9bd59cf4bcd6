"""Child processes that are kept running until they are told to stop, and never outlive their supervisor.

Each child has a session of its own (Ctrl-C in the terminal reaches the supervisor only), a pipe as standard input
whose end of file means that the supervisor is gone, and on Linux a parent-death signal for programs that do not watch
it.  Standard error goes to a log file; standard output carries one JSON object a line, of which ``{"event": "ready"}``
says that the child serves.  A child that ends is started anew with back-off.  Called by `controlplane.cli.up`.
"""

import asyncio
import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from schemas.kits.backoffs import Backoff

_PR_SET_PDEATHSIG: Final = 1
_STEADY_SECONDS: Final = 10.0
"""A child that lived for so long starts with the shortest back-off again."""
_LOG_LIMIT: Final = 10 * 1024 * 1024
"""A log file above this many bytes is set aside when its child starts."""
_TAIL: Final = 15

Say = Callable[[str], None]


class StartFailed(Exception):  # noqa: N818 - named for what happened
    """A child ended before it was ready; the message ends with its last words."""


@dataclass(slots=True)
class Program:
    """What one child runs, and how it tells that it is ready."""

    name: str
    command: Callable[[], Sequence[str]]
    """Made anew for each start."""
    descriptors: tuple[int, ...] = ()
    """Handed down open."""
    ready: Callable[["Child"], Awaitable[dict[str, Any]]] | None = None
    """Waits until the child serves; None: its ``ready`` line says so."""
    stop_seconds: float = 15.0
    """Patience after SIGTERM."""


@dataclass(eq=False, slots=True)
class Child:
    """One program, through every restart."""

    program: Program
    logs: Path
    say: Say
    on_ready: Callable[["Child"], None]
    process: asyncio.subprocess.Process | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What its last ready line said."""
    starts: int = 0
    stopping: bool = False
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the running process; 0: none runs."""
        return self.process.pid if self.process is not None and self.process.returncode is None else 0

    @property
    def log(self) -> Path:
        """Where its standard error goes."""
        return self.logs / f"{self.program.name}.log"

    async def start(self) -> None:
        """Start it for the first time and wait until it serves; StartFailed if it ends before."""
        process = await self._spawn()
        ended = asyncio.create_task(process.wait())
        serving = asyncio.create_task(self._until_ready(process))
        try:
            await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done() or serving.exception() is not None:
                raise StartFailed(f"{self.program.name} ended with {_code(await ended)}\n{self.last_words()}")
        finally:
            for task in (ended, serving):
                task.cancel()
        self._keeping = asyncio.create_task(self._keep(process), name=f"keep {self.program.name}")

    async def stop(self) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        self.stopping = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.program.stop_seconds)
        except TimeoutError:
            self.say(f"{self.program.name} does not stop; killing it")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it without asking."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL:])

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.program.command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=self.program.descriptors,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self.starts += 1
        return self.process

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        if self.program.ready is not None:
            self.facts = await self.program.ready(self)
        else:
            assert process.stdout is not None
            async for line in process.stdout:
                if (said := _said(line)).get("event") == "ready":
                    self.facts = said
                    break
            else:
                raise StartFailed(self.program.name)
        self.on_ready(self)

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(base=0.2, cap=10.0)
        failures, since = 0, loop.time()
        while True:
            await _drained(process)
            failures = 1 if loop.time() - since > _STEADY_SECONDS else failures + 1
            pause = 0.0 if failures == 1 else backoff.delay(failures)
            self.say(f"{self.program.name} ended with {_code(process.returncode or 0)}; starting it again")
            await asyncio.sleep(pause)
            since = loop.time()
            process = await self._spawn()
            ready = asyncio.create_task(self._until_ready(process))
            ended = asyncio.create_task(process.wait())
            try:
                await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ready.done() and ready.exception() is None:
                    self.say(f"{self.program.name} is back")
            finally:
                ready.cancel()
                ended.cancel()


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Wait for the end, reading what it still says, so that it never waits for us."""
    assert process.stdout is not None
    async for _ in process.stdout:
        continue
    await process.wait()


def _said(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _code(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _die_with_parent() -> None:
    """In the child: be ended when the supervisor dies.  Programs that watch their standard input end by themselves."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
