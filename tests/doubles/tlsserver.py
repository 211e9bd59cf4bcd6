"""A server that speaks TLS and answers every GET with an empty list, for clients that decide whom to believe."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controlplane.cli import authority


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"kind": "ModuleList", "items": []}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(server_file: Path | None, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve with the key and certificate in one file (None: without TLS); yields the port."""
    with http.server.ThreadingHTTPServer((host, 0), _Handler) as server:
        if server_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(server_file)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def made(folder: Path, *, ago: timedelta = timedelta()) -> authority.Authority:
    """An authority in a folder, with a server's certificate, as it was made some time ago."""
    found = authority.Authority(folder)
    when = datetime.now(UTC) - ago
    found.ensure(when)
    found.issue(when)
    return found
