"""The worker's listening sockets and its uvicorn server, which opens late and closes in good order.

The own door (a loopback port of this worker alone) is open from the start to the end, so that health and information
are there also before the first sync and during the drain.  The shared door, whose socket other workers listen on too,
opens when modules are loaded and closes first.  Measured: draining before exit loses no request, uvicorn's own
shutdown loses some.  Used by `dataplane.app`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from dataplane import connections
from schemas.kits import servers

logger = structlog.get_logger("dataplane.doors")

BACKLOG = 2048
_STEP_SECONDS = 0.02
_CLOSE = (b"connection", b"close")


class DoorTaken(OSError):  # noqa: N818 - named for what happened, as in the rest of the house
    """A listening socket cannot be opened; the message says what to do."""


def open_socket(host: str, port: int) -> socket.socket:
    """A listening TCP socket; DoorTaken if the address is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise DoorTaken(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port (--data-port), or 0 for a free one"
        ) from error
    return sock


def inherited_socket(descriptor: int) -> socket.socket:
    """The listening socket behind a descriptor that a supervisor handed down; DoorTaken if it is none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise DoorTaken(f"--listen-fd {descriptor} is not a listening socket: {error}") from error
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise DoorTaken(f"--listen-fd {descriptor} is not a listening socket: it does not listen")
    return sock


class Server(servers.Server):
    """uvicorn on the own door, then also on the shared one; it leaves signals to `dataplane.app`."""

    def __init__(self, app: ASGIApp, own: socket.socket, *, headers: list[tuple[str, str]], keep_alive: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                http=connections.Connection,
                ws="websockets-sansio",
                headers=headers,
                timeout_keep_alive=keep_alive,  # type: ignore[arg-type] # a fraction of a second works as well
                backlog=BACKLOG,
            )
        )
        self._own = own
        self._own_port = int(own.getsockname()[1])
        self._shared: asyncio.Server | None = None
        self.draining = False

    @property
    def address(self) -> str:
        """URL of the own door."""
        return f"http://127.0.0.1:{self._own_port}"

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `dataplane.app`'s: uvicorn's own handlers would skip the drain."""
        yield

    async def run_own_door(self) -> None:
        """Serve on the own door until `should_exit`."""
        await self.serve(sockets=[self._own])

    async def on_tick(self, counter: int) -> bool:
        """Once a second: connections on which nobody works come to an end."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, connections.Connection):
                connection.tick()
        return await super().on_tick(counter)

    async def open_shared_door(self, sock: socket.socket) -> None:
        """Begin to accept on the shared socket."""
        if not self.draining:
            self._shared = await asyncio.get_running_loop().create_server(self._protocol, sock=sock, backlog=BACKLOG)
            self.servers.append(self._shared)

    async def drain(self, grace: float) -> None:
        """Accept nothing more on the shared door, and wait until its connections are gone.

        Idle clients have their keep-alive time to notice ``connection: close``, busy requests ``grace`` seconds.
        """
        self.draining = True
        if self._shared is not None:
            self._shared.close()
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self._guests():
            _last_answer(connection)
        loop = asyncio.get_running_loop()
        idle_until = loop.time() + self.config.timeout_keep_alive + 1.0
        busy_until = loop.time() + grace
        while guests := self._guests():
            now = loop.time()
            if now > busy_until or (now > idle_until and not any(map(_busy, guests))):
                logger.info("connections cut off", connections=len(guests))
                return
            await asyncio.sleep(_STEP_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state={})

    def _guests(self) -> list[object]:
        """The connections that did not come through the own door."""
        return [
            connection
            for connection in self.server_state.connections
            if (getattr(connection, "server", None) or ("", 0))[1] != self._own_port
        ]


def _busy(connection: object) -> bool:
    cycle = getattr(connection, "cycle", None)
    return cycle is not None and not cycle.response_complete


def _last_answer(connection: object) -> None:
    """Make the answer under way the connection's last; a WebSocket is told to come again (1012)."""
    cycle = getattr(connection, "cycle", None)
    if cycle is not None and not cycle.response_complete:
        cycle.default_headers = [*cycle.default_headers, _CLOSE]
        if cycle.response_started:
            cycle.keep_alive = False
    elif not hasattr(connection, "cycle"):
        shutdown: Callable[[], None] | None = getattr(connection, "shutdown", None)
        if shutdown is not None:
            shutdown()
