"""One lasting connection to NATS: connects for ever, notices silence itself, replaces a client that is no good.

The client library's own reconnecting is switched off: it can hang for minutes on a black-holed link, can end its
read loop and still say that it is connected, and recovers watches late.  Here a client lives from its connect to
its first doubt; then it is abandoned whole and a new one is built (the *session* counts).  So whoever holds
subscriptions binds them to a session, and starts anew with the next one.

Always: callbacks of the client only set flags; at most one session is current; `client.flush` and `client.rtt` with
a short time-out are never used (a pong that comes after the time-out ends the client's read loop for good).
Called by both planes; goes to `nats`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.js.client import JetStreamContext

from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock, SystemClock
from schemas.kits.tasks import Tasks

logger = logging.getLogger(__name__)

_UNTRIED = "not tried yet"

T = TypeVar("T")

INBOX: Final = "_INBOX"
"""Where answers come, unless a link that proves itself has an inbox of its own, which others may not read."""
CONNECT_SECONDS: Final = 3.0
"""A connect that takes longer is given up."""
CHECK_SECONDS: Final = 2.0
"""How often a live connection is asked for an answer."""
PATIENCE_SECONDS: Final = 4.0
"""A connection that has not answered for so long is abandoned."""
CALL_SECONDS: Final = 5.0
"""The deadline of a call that names none."""


class LinkError(Exception):
    """NATS could not be asked; nothing was sent."""


class LinkAmbiguousError(LinkError, TimeoutError):
    """The connection ended, or the deadline came, after the call was sent: it may have happened or not."""


@dataclass(eq=False, slots=True)
class Session:
    """One client, from its connect to the moment it is abandoned."""

    client: Client
    generation: int
    """Counts sessions of one link, from 1."""
    js: JetStreamContext
    ended: "asyncio.Future[None]"
    """Done when this client is abandoned; await it, or add a callback."""
    wake: asyncio.Event
    """Set by whatever makes the client worth a look."""
    doubts: list[str] = field(default_factory=list)
    """What the client's callbacks reported (closed, errors)."""

    @property
    def alive(self) -> bool:
        """Whether this is still the session to use."""
        return not self.ended.done()


class NatsLink:
    """A connection that is always there or on its way back.

    ``url`` may name several servers, separated by commas.  ``key_file``: the seed (nkey) with which it proves who it
    is, read at each connect; answers then come to ``_INBOX_<inbox>``.  Start it once, close it once; it belongs to the
    event loop that started it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        key_file: str = "",
        inbox: str = "",
        check: float = CHECK_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.url = url
        self.name = name
        self.generation = 0
        """How many sessions there were."""
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(base=0.1, cap=1.0)
        self._options: dict[str, Any] = {"nkeys_seed": key_file, "inbox_prefix": f"{INBOX}_{inbox}"} if key_file else {}
        self._check = check
        self._patience = patience
        self._session: Session | None = None
        self._news = asyncio.Event()
        self._tasks = Tasks(self._clock, Backoff(base=0.1, cap=1.0))
        self._graves: set[asyncio.Task[None]] = set()
        self._last_error = _UNTRIED

    def start(self) -> None:
        """Begin to connect in the background; returns at once."""
        if not len(self._tasks):
            self._tasks.supervise(self._run, f"{self.name} nats link")

    async def close(self) -> None:
        """Stop connecting and close the present client, sending what it still holds."""
        await self._tasks.stop()
        if self._session is not None:
            self._retire(self._session, "closed by us")
        if self._graves:
            await asyncio.wait(self._graves)

    @property
    def connected(self) -> bool:
        """Whether there is a session that nothing speaks against."""
        return self._session is not None

    @property
    def trouble(self) -> str:
        """Why there is no connection, for people; empty while there is one."""
        return "" if self._session is not None else f"NATS at {self.url} is not reachable: {self._last_error}"

    @property
    def away(self) -> bool:
        """Whether a connection was tried and is not there."""
        return self._session is None and self._last_error != _UNTRIED

    def current(self) -> Session | None:
        """The present session, if any."""
        return self._session

    async def session(self) -> Session:
        """The present session; waits until there is one."""
        while self._session is None:
            await self._news.wait()
        return self._session

    async def client(self) -> Client:
        """The present session's client; waits until there is one."""
        return (await self.session()).client

    def abandon(self, reason: str, generation: int | None = None) -> None:
        """Drop the present client; a new one is built at once.

        ``generation``: only if it is still that session (another part of the program may have dropped it already).
        """
        session = self._session
        if session is not None and generation in {None, session.generation}:
            self._retire(session, reason)

    async def call(self, body: Callable[[Session], Awaitable[T]], *, deadline: float = CALL_SECONDS) -> T:
        """Run ``body`` on the present session, with a deadline in seconds over all of it.

        LinkError: there was no session in time, nothing was sent.  LinkAmbiguousError: the session ended or the
        deadline came while ``body`` ran.  What the server answers is raised as the client raises it.
        """
        started = self._clock.monotonic()
        session = self._session
        if session is None:
            try:
                session = await asyncio.wait_for(self.session(), deadline)
            except TimeoutError:
                raise LinkError(self.trouble or "no connection in time") from None
        return await during(session, body(session), deadline - (self._clock.monotonic() - started))

    async def _run(self) -> None:
        failures = 0
        while True:
            session = await self._connect()
            if session is None:
                failures += 1
                await self._clock.sleep(self._backoff.delay(failures))
                continue
            failures = 0
            self._session = session
            self._news.set()
            logger.info("nats connected", extra={"link": self.name, "generation": session.generation})
            try:
                await self._guard(session)
            finally:
                self._retire(session, "; ".join(session.doubts) or "silent")
            await self._clock.sleep(self._backoff.delay(1))

    async def _connect(self) -> Session | None:
        client, doubts = Client(), list[str]()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def closed() -> None:
            doubts.append("connection closed")
            wake.set()

        async def failed(error: Exception) -> None:
            doubts.append(f"{type(error).__name__}: {error}"[:200])

        wake = asyncio.Event()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                server = await self._reachable()
                await client.connect(
                    server,
                    name=self.name,
                    allow_reconnect=False,
                    connect_timeout=int(CONNECT_SECONDS),
                    ping_interval=int(CHECK_SECONDS),
                    max_outstanding_pings=int(PATIENCE_SECONDS / CHECK_SECONDS),
                    closed_cb=closed,
                    disconnected_cb=closed,
                    error_cb=failed,
                    **self._options,
                )
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the answer is to try again
            self._last_error = f"{type(error).__name__}: {error}".rstrip(": ")
            self._bury(client)
            return None
        doubts.clear()
        self.generation += 1
        ended.add_done_callback(lambda _: wake.set())
        return Session(client, self.generation, client.jetstream(timeout=CALL_SECONDS), ended, wake, doubts)

    async def _reachable(self) -> str:
        """The first server, in random order, whose port accepts: the library would retry a refused one for minutes."""
        servers = [part.strip() for part in self.url.split(",")]
        random.shuffle(servers)
        for server in servers:
            parts = urlsplit(server if "://" in server else f"nats://{server}")
            try:
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
            except OSError as error:
                self._last_error = str(error)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return server
        raise ConnectionRefusedError(self._last_error)

    async def _guard(self, session: Session) -> None:
        """Return when the session is no good: closed, abandoned, or without an answer for too long."""
        while session.alive and not session.client.is_closed:
            probe = asyncio.ensure_future(session.client.rtt(timeout=3600))
            try:
                if not await self._answered(session, probe):
                    return
            finally:
                probe.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.wake.wait(), self._check)

    async def _answered(self, session: Session, probe: "asyncio.Future[float]") -> bool:
        either: set[asyncio.Future[Any]] = {probe, session.ended}
        await asyncio.wait(either, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        return probe.done() and not probe.cancelled() and probe.exception() is None

    def _retire(self, session: Session, reason: str) -> None:
        if self._session is session:
            self._session = None
            self._news.clear()
            self._last_error = reason
            logger.info("nats connection ended", extra={"link": self.name, "reason": reason})
        if not session.ended.done():
            session.ended.set_result(None)
            self._bury(session.client)

    def _bury(self, client: Client) -> None:
        task = asyncio.get_running_loop().create_task(_close(client), name=f"{self.name} nats close")
        self._graves.add(task)
        task.add_done_callback(self._graves.discard)


async def during(session: Session, work: Awaitable[T], seconds: float) -> T:
    """Await ``work`` while the session lives, at most ``seconds``; LinkAmbiguousError if either ends first."""
    task = asyncio.ensure_future(work)
    try:
        either: set[asyncio.Future[Any]] = {task, session.ended}
        await asyncio.wait(either, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise LinkAmbiguousError(
            "the connection to NATS ended" if not session.alive else f"no answer in {seconds:.1f} s"
        )
    finally:
        task.add_done_callback(_seen)
        task.cancel()


def _seen(task: "asyncio.Future[Any]") -> None:
    """Look at a task that nobody waits for any more, so that asyncio does not complain of its error."""
    if not task.cancelled():
        task.exception()


async def _close(client: Client) -> None:
    """Close a client without ever hanging on it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.close()
    transport = getattr(client, "_transport", None)
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:  # a close that hangs, or was cut short, leaves the socket open; there is no public way
        writer.transport.abort()
