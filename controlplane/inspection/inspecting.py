"""Inspections over one warm process that forks children for them.

The process is started at the first need and again after it died.  An inspection that was under way then is done once
more in a process of its own, so that code which kills its inspector harms nobody but itself.  Called by reconcile and
discovery as their ``Inspector``; runs on the control plane's loop.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from controlplane import errors
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

logger = structlog.get_logger("controlplane.inspection.inspecting")

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 2.0
_LINE_MAX: Final = 8 << 20
_ALONE: Final = 2
"""Processes of their own at once."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_KEPT_ENVIRONMENT: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
_KEPT_PREFIXES: Final = ("PYTHON", "COVERAGE")

COMMAND: Final = (sys.executable, "-P", "-m", "dataplane", "inspect")
"""``-P``: the folder that we were started in is not searched for modules."""


class _DiedError(Exception):
    """The inspection process ended, or stopped answering, with inspections under way."""


class _Inspector:
    """One running inspection process."""

    def __init__(self, process: Process, host_version: str) -> None:
        self.host_version = host_version
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[InspectionReport]] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="inspection reports")
        self._heard = 0.0

    @property
    def alive(self) -> bool:
        return not self._reader.done()

    async def ask(self, request: InspectionRequest, patience: float) -> InspectionReport:
        """The report on ``request``; _DiedError if the process ends first or is silent for ``patience`` seconds."""
        number = str(next(self._numbers))
        answer: asyncio.Future[InspectionReport] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            assert self._process.stdin is not None
            line = request.model_copy(update={"id": number}).model_dump_json(by_alias=True)
            self._process.stdin.write(line.encode() + b"\n")
            if not self.alive:
                raise _DiedError
            report = await self._answered(answer, patience)
        except (ConnectionError, TimeoutError) as error:
            _kill(self._process)
            await self.close()
            raise _DiedError from error
        finally:
            self._waiting.pop(number, None)
        return report.model_copy(update={"id": request.id})

    async def _answered(self, answer: "asyncio.Future[InspectionReport]", patience: float) -> InspectionReport:
        """The answer; TimeoutError when nothing at all was heard for ``patience`` seconds: others may come first."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while True:
            end = max(begin, self._heard) + patience
            done, _ = await asyncio.wait({answer}, timeout=end - loop.time())
            if done:
                return answer.result()
            if max(begin, self._heard) + patience <= loop.time():
                raise TimeoutError

    async def close(self) -> None:
        """End the process and everything it started: its input ends, and it ends its children and itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        _kill(self._process)
        await self._process.wait()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._hear(line)
        except ValueError as error:
            logger.warning("inspection answer unreadable", error=str(error))
            _kill(self._process)
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_DiedError())

    def _hear(self, line: bytes) -> None:
        try:
            report = InspectionReport.model_validate_json(line)
        except ValidationError:
            logger.warning("inspection line ignored", line=line[:500].decode(errors="replace"))
            return
        self._heard = asyncio.get_running_loop().time()
        answer = self._waiting.get(report.id)
        if answer is not None and not answer.done():
            answer.set_result(report)


class InspectionPool:
    """Inspections; `start` it, and `close` it at the end.

    All that is asked is with the process at once, which decides who is next and has few children at work.
    """

    def __init__(self, *, command: Sequence[str] = COMMAND, grace: float = 10.0) -> None:
        self._command = tuple(command)
        self._grace = grace
        self._turns = asyncio.Semaphore(_ALONE)
        self._starting = asyncio.Lock()
        self._inspector: _Inspector | None = None
        self._closed = False
        self.host_version = ""
        """What the inspection process says of its host; empty until it first started."""

    async def start(self) -> None:
        """Start the inspection process and learn the host version; Unreachable if it does not come up."""
        await self._ready()

    async def close(self) -> None:
        """End the inspection process; inspections under way fail."""
        self._closed = True
        async with self._starting:
            if self._inspector is not None:
                await self._inspector.close()

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """The report on ``request``; Unreachable if no inspection process can be had."""
        patience = 2 * request.timeout_seconds + self._grace  # what hangs behind others hangs once more, alone
        try:
            return await (await self._ready()).ask(request, patience)
        except _DiedError:
            logger.warning("inspection process died", source=request.source_path, digest=request.digest)
        async with self._turns:
            return await self._alone(request, patience)

    async def _alone(self, request: InspectionRequest, patience: float) -> InspectionReport:
        if self._closed:
            raise errors.Unreachable("the control plane is shutting down; inspect again later")
        own = await self._started()
        try:
            return await own.ask(request, patience)
        except _DiedError:
            return InspectionReport(
                id=request.id,
                outcome=InspectionOutcome.CRASHED,
                reason="InspectorKilled",
                message=f"{request.source_path}: the process that inspects this code died twice while it did; "
                "a module must not end processes that are not its own",
                host_version=self.host_version,
            )
        finally:
            await own.close()

    async def _ready(self) -> _Inspector:
        async with self._starting:
            if self._closed:
                raise errors.Unreachable("the control plane is shutting down; inspect again later")
            if self._inspector is None or not self._inspector.alive:
                if self._inspector is not None:
                    await self._inspector.close()
                self._inspector = await self._started()
                self.host_version = self._inspector.host_version
            return self._inspector

    async def _started(self) -> _Inspector:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                limit=_LINE_MAX,
            )
        except OSError as error:
            raise errors.Unreachable(f"the inspection process cannot be started: {error}") from error
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                hello = json.loads(await process.stdout.readline())
            version = str(hello["hostVersion"])
        except (TimeoutError, ValueError, KeyError, TypeError) as error:
            _kill(process)
            await process.wait()
            raise errors.Unreachable(
                f"the inspection process {' '.join(self._command)!r} ended or said nothing at its start; "
                "run it by hand to see why"
            ) from error
        logger.info("inspection process started", pid=process.pid, host=version)
        return _Inspector(process, version)


def _kill(process: Process) -> None:
    """Kill its whole session; not by ``Process.kill``, which may reap it behind the loop's back."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """What a module's code may see of our environment: no settings, no secrets."""
    kept = {
        key: value for key, value in os.environ.items() if key in _KEPT_ENVIRONMENT or key.startswith(_KEPT_PREFIXES)
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), kept.get("PYTHONPATH", "")]))
    return kept
