"""A small HTTP/1.1 load client: kept connections, one request in flight on each, bounded in count or time.

Only for 127.0.0.1.  It is as lean as asyncio allows, since it runs on the machine that it measures.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop


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

    def __init__(self, payload: bytes, expect: bytes, more: Callable[[], bool], seen: Load) -> None:
        self._payload, self._expect, self._more, self._seen = payload, expect, more, seen
        self._buffer = b""
        self._started = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

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
        if not self.done.done():
            self._seen.closed += 1
            self.done.set_result(None)

    def _next(self) -> None:
        if self._more():
            self._started = time.perf_counter()
            self._transport.write(self._payload)
        else:
            self.done.set_result(None)
            self._transport.close()


def _length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


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
    payload = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode()
    seen = Load()
    left = requests
    until = time.perf_counter() + seconds

    def more() -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and time.perf_counter() < until

    async def all_of_it() -> None:
        loop = asyncio.get_running_loop()
        expect = f"HTTP/1.1 {status} ".encode()
        made = [
            await loop.create_connection(lambda: _Connection(payload, expect, more, seen), host, port)
            for _ in range(connections)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in made))

    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())
    seen.seconds = time.perf_counter() - started
    seen.latencies.sort()
    return seen


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, by the kernel's own clock (clock_getcpuclockid(3)), to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)
