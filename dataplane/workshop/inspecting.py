"""Two ways to inspect: in a throw-away child, as the control plane does, or right here, where a debugger can look.

The child takes an import that hangs, exits or crashes; right here is for tests, whose process may end with the code.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from dataplane.inspection import examining
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest

Inspect = Callable[[InspectionRequest], Awaitable[InspectionReport]]


async def here(request: InspectionRequest) -> InspectionReport:
    """Examine in this process, off the loop."""
    return await asyncio.to_thread(examining.examine, request)


class Inspector:
    """``python -m dataplane inspect``, started when it is first needed and again when it has gone."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        """The report; a child that is gone is told as a crash."""
        async with self._turn:
            process = self._process
            if process is None or process.returncode is not None:
                process = self._process = await self._start()
            assert process.stdin is not None, "started with a pipe"
            assert process.stdout is not None, "started with a pipe"
            process.stdin.write(request.model_dump_json(by_alias=True).encode() + b"\n")
            while line := await process.stdout.readline():
                if b'"event"' in line[:16]:
                    continue
                report = InspectionReport.model_validate_json(line)
                if report.id == request.id:
                    return report
            await process.wait()
            self._process = None
        return InspectionReport(
            id=request.id,
            outcome=InspectionOutcome.CRASHED,
            reason="InspectorGone",
            message="the inspecting process ended; save the file again to start another",
        )

    async def close(self) -> None:
        """End the child."""
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None, "started with a pipe"
            self._process.stdin.close()
            await self._process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "dataplane", "inspect"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=1 << 23,
        )
