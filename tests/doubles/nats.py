"""A real nats-server on a free port of this machine, to be killed, frozen and started anew."""

import asyncio
import contextlib
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from schemas.kits import natsserver


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningNats:
    """One server; it keeps its port and its folder through every restart."""

    def __init__(self, folder: Path, port: int | None = None, *, room: str | None = None) -> None:
        """``room``: how much the server may store (as ``300MB``); None: three quarters of the free disk."""
        self.folder = folder
        self.room = room
        self.users: Sequence[natsserver.User] = ()
        """Who may connect; nobody is asked while there is none."""
        self.port = port or free_port()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the server and wait until it greets."""
        assert self.process is None
        command = natsserver.command(self.folder, self.port, users=self.users)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.room is not None:
            file = self.folder / "nats.conf"
            file.write_text(file.read_text().replace("jetstream {", f"jetstream {{\n  max_file_store: {self.room}"))
        with (self.folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        async with asyncio.timeout(30):
            while not await self._greets():
                if self.process.returncode is not None:
                    raise AssertionError((self.folder / "server.log").read_text())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self.process.wait()), 0.02)

    async def terminate(self) -> None:
        """End it in good order (SIGTERM); a frozen one is thawed first."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """SIGKILL, then start on the same port and folder."""
        await self.kill()
        await self.start()

    def stop(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers.  Returns when its last thread stands still."""
        self._signal(signal.SIGSTOP)
        pause = threading.Event()
        while not self._stands_still():
            pause.wait(0.001)

    def _stands_still(self) -> bool:
        assert self.process is not None
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return all((each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in threads)

    def cont(self) -> None:
        """Thaw it (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove everything it stored; only while it is down."""
        assert self.process is None
        shutil.rmtree(self.folder / "store", ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        if (process := self.process) is None:
            return
        self.process = None
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        await process.wait()

    async def _greets(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO ")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def running_nats(folder: Path, *, started: bool = True, room: str | None = None) -> AsyncIterator[RunningNats]:
    """A server below ``folder`` (pass `tmp_path`), ended at the end of the block whatever state it is in."""
    server = RunningNats(folder / "nats", room=room)
    try:
        if started:
            await server.start()
        yield server
    finally:
        await server.kill()
