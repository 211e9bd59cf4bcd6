"""One supervised child process: started, heard, started again when it dies, ended in the end.

Each child has its own session (so Ctrl-C reaches `up` alone), a pipe as standard input (its end means that `up` is
gone) and its log file as standard error, so that logging never fails when `up` is gone.  A line of JSON with
``"event": "ready"`` on standard output says that it works, one with ``"event": "recycle"`` that it wants a successor,
one with ``"event": "unstored"`` that NATS stores nothing of what it is given.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from schemas import references
from schemas.kits.backoffs import Backoff

LOG_BYTES: Final = 32 * 1024 * 1024
"""Size at which a log file is set aside as ``NAME.log.1``, replacing the one before."""
_STEADY_SECONDS: Final = 30.0
"""Who ran as long as this begins its back-off anew."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    name: str
    """For logs and messages; also the log file's name."""
    command: Sequence[str]
    stop_seconds: float
    """How long it may take to end when asked, beside the ``drainSeconds`` of its ready line."""
    pass_fds: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    confided: bool = False
    """Whether it gets the secrets that our environment holds for modules."""
    answers: Callable[[], bool] | None = None
    """For a child that prints no ready line: whether it works now."""
    attempts: int = 1
    """How often it may end by itself before it was ever ready: a worker that a module's code ended tries without it."""


class FailedError(Exception):
    """A child ended before it had ever worked; the message has its last words."""


class Child:
    """A plan being kept."""

    def __init__(
        self,
        plan: Plan,
        logs: Path,
        *,
        told: Callable[[str], None],
        backoff: Backoff | None = None,
        first_words: Sequence[str] = (),
    ) -> None:
        """``first_words`` are added to the command of the first start only."""
        self.plan = plan
        self._first_words = tuple(first_words)
        self.log = logs / f"{plan.name}.log"
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        """What the first ready line said; `FailedError` if it ended before."""
        self.pid: int | None = None
        self.facts: dict[str, Any] = {}
        """What the newest ready line said."""
        self.on_ready: Callable[[], None] = lambda: None
        self.on_recycle: Callable[[str], None] = lambda reason: None
        """Hears why it wants to be replaced."""
        self.on_unstored: Callable[[str], None] = lambda reason: None
        """Hears why NATS is thought to store nothing."""
        self.on_pid: Callable[[str], None] = lambda line: None
        """Hears ``+PID`` and ``-PID``."""
        self._told = told
        self._backoff = backoff or Backoff(base=0.2, cap=10.0)
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    async def keep(self) -> None:
        """Run until `end`; after each death start anew, later and later."""
        failures = 0
        while not self._ending:
            started = time.monotonic()
            try:
                code = await self._run()
            except OSError as error:
                # It could not even be started: no such program, or its log cannot be written.
                if not self.ready.done():
                    self.ready.set_exception(FailedError(f"cannot start {self.plan.name}: {error}"))
                    return
                code = os.EX_OSERR
            if self._ending:
                return
            failures = 1 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
            if not self.ready.done() and code >= 0 and failures >= self.plan.attempts:
                self.ready.set_exception(FailedError(self._last_words(code)))
                return
            delay = self._backoff.delay(failures)
            self._told(f"{self.plan.name} {_how(code)}; starting it again in {delay:.1f} s (log: {self.log})")
            await asyncio.sleep(delay)

    async def end(self) -> None:
        """Ask it to end, wait, and after its time kill its whole group."""
        self._ending = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal(process.pid, signal.SIGTERM, group=False)
        patience = self.plan.stop_seconds + float(self.facts.get("drainSeconds", 0.0))
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            self._told(f"{self.plan.name} did not end within {patience:.0f} s; killing it")
            self.kill()
            await process.wait()

    def restart(self) -> None:
        """Ask it to end; it is started again as after any death."""
        if self._process is not None and self._process.returncode is None:
            _signal(self._process.pid, signal.SIGTERM, group=False)

    def forget(self) -> None:
        """Nobody will ask any more whether it became ready."""
        if not self.ready.cancel():
            self.ready.exception()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        self._ending = True
        if self._process is not None and self._process.returncode is None:
            _signal(self._process.pid, signal.SIGKILL, group=True)

    async def _run(self) -> int:
        with self._open_log() as log:
            return await self._run_with(log)

    async def _run_with(self, log: IO[bytes]) -> int:
        process = self._process = await asyncio.create_subprocess_exec(
            *self.plan.command,
            *self._first_words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            pass_fds=self.plan.pass_fds,
            start_new_session=True,
            limit=1 << 20,
            env=self._environment(),
        )
        self._first_words = ()
        self.pid = process.pid
        self.on_pid(f"+{process.pid}")
        if self._ending:
            _signal(process.pid, signal.SIGKILL, group=True)
        hearing = asyncio.create_task(self._hear(process, log.fileno()))
        try:
            code = await process.wait()
        finally:
            # What it started is its group; nothing of it may stand in the way of the next one.
            _signal(process.pid, signal.SIGKILL, group=True)
            self.pid = None
            self.on_pid(f"-{process.pid}")
            hearing.cancel()
        return code

    def _environment(self) -> dict[str, str]:
        ours = {
            name: value
            for name, value in os.environ.items()
            if self.plan.confided or not name.startswith(references.ENVIRONMENT)
        }
        return ours | dict(self.plan.environment)

    async def _hear(self, process: asyncio.subprocess.Process, log: int) -> None:
        assert process.stdout is not None, "started with a pipe"
        if self.plan.answers is not None:
            await _until(self.plan.answers)
            self._is_ready({})
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit, and dropped
                continue
            if not line:
                return
            said = _said(line)
            if said.get("event") == "ready":
                self._is_ready(said)
                continue
            with contextlib.suppress(OSError):  # a full disk must not keep us from hearing the rest
                os.write(log, line)
            listener = {"recycle": self.on_recycle, "unstored": self.on_unstored}.get(str(said.get("event")))
            if listener is not None:
                listener(str(said.get("reason", "it gave no reason")))

    def _is_ready(self, said: dict[str, Any]) -> None:
        self.facts = said
        if not self.ready.done():
            self.ready.set_result(said)
        self.on_ready()

    def _open_log(self) -> IO[bytes]:
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def _last_words(self, code: int) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-8:]
        said = "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
        return f"{self.plan.name} {_how(code)} before it was ready; its last words:\n{said}\nAll of its log: {self.log}"


def _said(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict):
            return said
    return {}


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def _signal(pid: int, number: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)


async def _until(check: Callable[[], bool]) -> None:
    while True:
        if await asyncio.to_thread(check):
            return
        await asyncio.sleep(0.02)
