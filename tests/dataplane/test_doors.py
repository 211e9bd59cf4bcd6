"""Sockets: opened, inherited, and refused with a message."""

import socket

import pytest

from dataplane import doors


def test_a_free_port_is_opened_on_both_families() -> None:
    for host in ("127.0.0.1", "::1"):
        sock = doors.open_socket(host, 0)
        assert sock.getsockname()[1] > 0
        sock.close()


def test_a_taken_port_is_a_message() -> None:
    first = doors.open_socket("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(doors.DoorTaken, match="choose another port"):
        doors.open_socket("127.0.0.1", port)
    first.close()


def test_an_inherited_listener_is_used_and_anything_else_refused() -> None:
    first = doors.open_socket("127.0.0.1", 0)
    second = doors.inherited_socket(first.detach())
    assert second.getsockname()[1] > 0
    second.close()
    with pytest.raises(doors.DoorTaken, match="not a listening socket"):
        doors.inherited_socket(987)
    idle = socket.socket()
    with pytest.raises(doors.DoorTaken, match="does not listen"):
        doors.inherited_socket(idle.detach())
