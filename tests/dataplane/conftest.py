"""Worker processes for tests, as a supervisor runs them."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

from tests.doubles.keys import trusting
from tests.doubles.leader import Leader
from tests.doubles.nats import RunningNats, running_nats

ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """One ``python -m dataplane worker``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.line: dict[str, Any] = {}

    async def ready(self) -> dict[str, Any]:
        """Wait for its ready line."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 30)
        assert line, self.log.read_text()
        self.line = json.loads(line)
        return self.line

    async def end(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(sign)
        return await asyncio.wait_for(self.process.wait(), 30)


class Workers:
    """A supervisor's shared socket, a NATS server, and the workers on them."""

    def __init__(self, folder: Path, server: RunningNats, leader: Leader) -> None:
        self.folder = folder
        self.server = server
        self.leader = leader
        self.code_root = folder / "data" / "code"
        self.started: list[WorkerProcess] = []
        self.shared = socket.socket()
        self.shared.bind(("127.0.0.1", 0))
        self.shared.listen(2048)

    @property
    def door(self) -> str:
        """The shared door's URL."""
        return f"http://127.0.0.1:{self.shared.getsockname()[1]}"

    async def start(self, *words: str, name: str = "w0", stdin: int | None = subprocess.PIPE) -> WorkerProcess:
        """Start a worker on the shared socket."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dataplane", "worker", "--id", name, "--nats-url", self.server.url,
                "--data-dir", str(self.folder / "data"), "--listen-fd", str(self.shared.fileno()),
                "--keep-alive-seconds", "1", *words,
                stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, pass_fds=(self.shared.fileno(),),
                start_new_session=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self.started.append(WorkerProcess(process, log))
        return self.started[-1]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with running_nats(tmp_path) as server:
        client = await nats.connect(server.url)
        leader = Leader(client)
        await leader.make_buckets()
        trusting(tmp_path / "data")
        made = Workers(tmp_path, server, leader)
        yield made
        for worker in made.started:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
        made.shared.close()
        await client.close()
