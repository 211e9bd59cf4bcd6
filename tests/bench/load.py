"""A small HTTP/1.1 load client: kept connections, one request in flight on each, bounded in count.

Only for 127.0.0.1.  It exists because what is measured is the *server's* CPU, not the client's speed.
"""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of requests took."""

    requests: int
    seconds: float
    failures: int
    latencies: list[float]
    """Seconds, sorted."""

    def percentile(self, share: float) -> float:
        """The latency in seconds below which ``share`` of the requests were answered."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


async def _connection(host: str, port: int, payload: bytes, expect: bytes, count: int, out: list[float]) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    failures = 0
    try:
        for _ in range(count):
            started = time.perf_counter()
            writer.write(payload)
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if length:
                await reader.readexactly(length)
            out.append(time.perf_counter() - started)
            if not head.startswith(expect):
                failures += 1
    finally:
        writer.close()
    return failures


def run(host: str, port: int, path: str, *, requests: int, connections: int = 8, status: int = 200) -> Load:
    """Send ``requests`` GETs over ``connections`` kept connections and wait for every answer."""
    payload = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    expect = f"HTTP/1.1 {status}".encode()
    latencies: list[float] = []

    async def all_of_it() -> int:
        each = requests // connections
        calls = [_connection(host, port, payload, expect, each, latencies) for _ in range(connections)]
        return sum(await asyncio.gather(*calls))

    started = time.perf_counter()
    failures = asyncio.run(all_of_it())
    return Load(len(latencies), time.perf_counter() - started, failures, sorted(latencies))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, by the kernel's own clock (clock_getcpuclockid(3)), to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)
