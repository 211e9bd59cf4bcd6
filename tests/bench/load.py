"""A small HTTP/1.1 load client: kept connections, one request in flight on each, bounded in count or time.

Only for 127.0.0.1.  It is as lean as asyncio allows, since it runs on the machine that it measures.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

_IDLE_SECONDS = 2.0
"""Well under what servers allow a connection on which nothing comes."""


@dataclass(slots=True)
class Load:
    """What a run of requests took."""

    seconds: float = 0.0
    wrong: int = 0
    """Answers with another status than the expected one."""
    closed: int = 0
    """Connections that the server closed."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, sorted."""

    @property
    def requests(self) -> int:
        """How many were answered."""
        return len(self.latencies)

    @property
    def failures(self) -> int:
        """Wrong answers and closed connections."""
        return self.wrong + self.closed

    def percentile(self, share: float) -> float:
        """The latency in seconds below which ``share`` of the requests were answered."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class _Connection(asyncio.Protocol):
    """Sends the next request when the last is answered, as long as ``more`` says so."""

    def __init__(self, payload: bytes, expect: bytes) -> None:
        self._payload, self._expect = payload, expect
        self._buffer = b""
        self._started = 0.0
        self._seen = Load()
        self._done: asyncio.Future[None] | None = None
        self._more: Callable[[], bool] = lambda: False

    def begin(self, more: Callable[[], bool], seen: Load) -> "asyncio.Future[None]":
        """A run of requests; done when there are no more, or the server closes."""
        self._more, self._seen = more, seen
        done = self._done = asyncio.get_running_loop().create_future()
        self._next()
        return done

    def close(self) -> None:
        """No requests any more."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < end + 4 + _length(self._buffer[:end]):
            return
        self._seen.latencies.append(time.perf_counter() - self._started)
        if not self._buffer.startswith(self._expect):
            self._seen.wrong += 1
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None:
            self._seen.closed += 1
            self._end()

    def _next(self) -> None:
        if self._more():
            self._started = time.perf_counter()
            self._transport.write(self._payload)
        else:
            self._end()

    def _end(self) -> None:
        if self._done is not None:
            self._done.set_result(None)
            self._done = None


def _length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


class Lane:
    """Kept connections to one server: they stay open between runs, so that short runs measure requests alone."""

    def __init__(
        self, host: str, port: int, path: str, *, connections: int = 8, status: int = 200, headers: str = ""
    ) -> None:
        self._where = (host, port)
        self._payload = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode()
        self._expect = f"HTTP/1.1 {status} ".encode()
        self._wanted = connections
        self._connections: list[_Connection] = []
        self._used = 0.0
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, *, requests: int = sys.maxsize, seconds: float = 60.0) -> Load:
        """Send GETs until so many were sent or so much time is over."""
        return self._runner.run(self._run(requests, seconds))

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()
        self._runner.close()

    async def _run(self, requests: int, seconds: float) -> Load:
        await self._connect()
        seen = Load()
        left = requests
        started = time.perf_counter()

        def more() -> bool:
            nonlocal left
            left -= 1
            return left >= 0 and time.perf_counter() < started + seconds

        await asyncio.gather(*(connection.begin(more, seen) for connection in self._connections))
        self._used = time.perf_counter()
        seen.seconds = self._used - started
        seen.latencies.sort()
        return seen

    async def _connect(self) -> None:
        """Open the connections, also anew where a server may have closed them for having been idle."""
        if self._connections and time.perf_counter() - self._used < _IDLE_SECONDS:
            return
        for connection in self._connections:
            connection.close()
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: _Connection(self._payload, self._expect), *self._where)
            for _ in range(self._wanted)
        ]
        self._connections = [protocol for _, protocol in made]


def run(
    host: str,
    port: int,
    path: str,
    *,
    requests: int = sys.maxsize,
    seconds: float = 60.0,
    connections: int = 8,
    status: int = 200,
    headers: str = "",
) -> Load:
    """Send GETs over ``connections`` kept connections until so many were sent or so much time is over."""
    with contextlib.closing(Lane(host, port, path, connections=connections, status=status, headers=headers)) as lane:
        return lane.run(requests=requests, seconds=seconds)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, by the kernel's own clock (clock_getcpuclockid(3)), to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)


def loop_seconds(pid: int) -> float:
    """CPU time of a process's first thread alone, which in our servers is the one that runs the serving loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
