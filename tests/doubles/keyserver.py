"""A key server over TLS on 127.0.0.1 that answers as a test says: well, not at all, slowly, or with lies."""

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.doubles import issuers

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def certificate(folder: Path, *, names: tuple[str, ...] = ("keys.example", "localhost")) -> Path:
    """A self-signed server certificate with its key, which is also the authority that clients are given."""
    key = issuers.ec_key("ES256", "server")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keys of a test")])
    now = datetime.now(UTC)
    alternatives = [*map(x509.DNSName, names), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


class KeyServer:
    """What is asked of it, and what it says."""

    def __init__(self, port: int, authorities: Path) -> None:
        self.authorities = authorities
        self.port = port
        self.url = f"https://localhost:{port}/keys"
        self.asked = 0
        self.heads: list[bytes] = []
        self.answer: Answer = plain(issuers.jwks(issuers.public_jwk("RS256", "k1")))
        self.answers: dict[str, Answer] = {}
        """Of single paths, before `answer`."""
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [head.split(b" ", 2)[1].decode() for head in self.heads]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.asked += 1
            await self.answers.get(self.paths[-1], self.answer)(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            del self._open[task]

    async def close(self) -> None:
        """Let go of every connection, also of those that a lie still goes over."""
        tasks = list(self._open)
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # a transport that was aborted closes its socket in the next turn of the loop


def plain(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """One whole answer."""

    async def say(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return say


def dripping(first: bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n") -> Answer:
    """A byte now and then, for ever."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)  # the attack is to be slow

    return say


def endless() -> Answer:
    """More than anybody wants."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        for _ in range(2_000):
            writer.write(b" " * 65_536)
            await writer.drain()

    return say


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[KeyServer]:
    """A key server until the end of the block."""
    path = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    made: list[KeyServer] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made[0].handle(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    made.append(KeyServer(server.sockets[0].getsockname()[1], path))
    async with server:
        yield made[0]
        server.close()
        await made[0].close()


@contextmanager
def beside(folder: Path) -> Iterator[KeyServer]:
    """A key server in a thread of its own, for tests that drive real processes."""
    made: list[KeyServer] = []
    ready, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with running(folder) as server:
            made.append(server)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="key server", daemon=True)
    thread.start()
    assert ready.wait(30), "the key server does not start"
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()
