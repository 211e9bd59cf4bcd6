"""HTTP/1.1 by hand, byte for byte: requests that no client library would send, and their statuses."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Raw:
    """One answer."""

    status: int
    head: str
    body: bytes


class Line:
    """One kept connection to a door such as ``http://127.0.0.1:8000``."""

    def __init__(self, door: str, timeout: float = 30.0) -> None:
        self._address = ("127.0.0.1", int(door.rsplit(":", 1)[1]))
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def get(self, path: str, *headers: bytes, method: str = "GET") -> Raw:
        """One request; the connection is opened anew if the server closed it."""
        return self.say(request(path, *headers, method=method))

    def say(self, data: bytes) -> Raw:
        """Bytes out, one answer in; once more if a kept connection turned out to be closed."""
        fresh = self._socket is None
        try:
            self._send(data)
            return self.hear()
        except (ConnectionError, EOFError):
            self.close()
            if fresh:
                raise
        self._send(data)
        return self.hear()

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout)
            self._rest = b""
        self._socket.sendall(data)

    def hear(self) -> Raw:
        """The next answer."""
        assert self._socket is not None
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        text = head.decode("latin-1").lower()
        length = 0
        for line in text.split("\r\n"):
            if line.startswith("content-length:"):
                length = int(line.partition(":")[2])
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        if "connection: close" in text:
            self.close()
        return Raw(int(text.split(" ", 2)[1]), text, body)

    def _more(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(65_536)
        if not data:
            raise EOFError
        self._rest += data


def request(path: str, *headers: bytes, method: str = "GET") -> bytes:
    """The bytes of one request without a body."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"host: 127.0.0.1", *headers, b"", b""]
    return b"\r\n".join(lines)


def bearer(token: str | bytes) -> bytes:
    """The usual header of a token."""
    return b"authorization: Bearer " + (token if isinstance(token, bytes) else token.encode())
