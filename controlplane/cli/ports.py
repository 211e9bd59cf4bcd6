"""TCP ports of `modplane up`: taken, or refused with a message that says what to do."""

import errno
import socket
from typing import Final

from controlplane.cli import exits

HOST: Final = "127.0.0.1"
_BACKLOG: Final = 2048
"""Connections that wait in the kernel while workers restart."""


def listen(port: int, option: str) -> socket.socket:
    """A listening socket on loopback; port 0 picks a free one.  Raises `exits.Exit` (code 3) if it cannot be had."""
    try:
        return socket.create_server((HOST, port), backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise exits.refused(
                f"port {port} on {HOST} is in use",
                hint=f"Stop what listens there, or choose another port with {option} (0 picks a free one).",
            ) from error
        raise exits.refused(
            f"cannot listen on {HOST}:{port}: {error.strerror or error}", hint=f"Choose another port with {option}."
        ) from error


def free(port: int, option: str) -> int:
    """``port`` itself if it is free now, or for 0 a free one: for a child that has to find it again after a restart."""
    with listen(port, option) as door:
        return int(door.getsockname()[1])


def url(door: socket.socket, scheme: str = "http") -> str:
    """The address of a listening socket."""
    host, port = door.getsockname()[:2]
    return f"{scheme}://{host}:{port}"


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()
    except OSError:
        return False
    return True
