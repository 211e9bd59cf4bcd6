"""The door of the API: its listening socket, who may be let near it, and the server behind it.

Always: tokens travel in the clear on this machine only.  A door that other machines reach speaks TLS, and asks
everybody for a token.  Called by `controlplane.app`.
"""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from controlplane import errors, securing, settings
from schemas.kits import servers
from schemas.kits.clocks import Clock

_GRACE_SECONDS = 5
"""How long requests may still run after the API was told to stop."""


def certificate(chosen: settings.Settings, clock: Clock) -> securing.Certificate | None:
    """What the door shows; None for plain HTTP.  ModplaneError when the files cannot be used."""
    if not chosen.tls_cert_file:
        if chosen.tls_key_file:
            raise errors.ModplaneError("--tls-key-file needs its certificate: give --tls-cert-file too")
        return None
    return securing.Certificate(chosen.tls_cert_file, chosen.tls_key_file or chosen.tls_cert_file, clock)


def opened(chosen: settings.Settings) -> socket.socket:
    """The listening socket.  ModplaneError when it cannot be had, or when too many could reach it."""
    if chosen.listen_fd >= 0:
        return socket.socket(fileno=chosen.listen_fd)
    _check(chosen)
    try:
        return socket.create_server((chosen.control_host, chosen.control_port), backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise errors.PortInUse(chosen.control_host, chosen.control_port, "--control-port") from error
        place = f"{chosen.control_host}:{chosen.control_port}"
        raise errors.ModplaneError(
            f"cannot listen on {place}: {error.strerror or error}; see --control-host and --control-port"
        ) from error


def _check(chosen: settings.Settings) -> None:
    if _is_loopback(chosen.control_host):
        return
    if chosen.control_anonymous:
        raise errors.ModplaneError(
            f"MODPLANE_CONTROL_ANONYMOUS lets everybody in, and {chosen.control_host} can be reached from other "
            "machines: leave it out, and name an issuer of tokens"
        )
    if not chosen.tls_cert_file:
        raise errors.ModplaneError(
            f"{chosen.control_host} can be reached from other machines, and tokens would travel in the clear: give "
            "--tls-cert-file and --tls-key-file, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except OSError:
        return False


def url(door: socket.socket, shown: securing.Certificate | None) -> str:
    """Where clients find it."""
    host, port = door.getsockname()[:2]
    return f"{'https' if shown else 'http'}://{host}:{port}"


class Server(servers.Server):
    """uvicorn without its own signal handlers: ours decide when it ends."""

    def __init__(self, api: ASGIApp, shown: securing.Certificate | None) -> None:
        super().__init__(
            uvicorn.Config(
                api,
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                ssl_context_factory=(lambda *_: shown.context) if shown else None,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
