"""The first look at every request: until callers are authenticated, no web page may drive the control plane.

Pure ASGI, around the whole application.  A page that rebinds its DNS name to 127.0.0.1 shows in ``Host``; a page
of another origin shows in ``Origin`` or ``Sec-Fetch-Site`` (Fetch Metadata, W3C).  No CORS header is ever sent.
"""

from collections.abc import Collection, Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from controlplane.api import answering

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""Names under which this machine calls itself."""


class Guard:
    """Refuses requests that come under a foreign name or from a web page."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on."""
        if scope["type"] == "http":
            try:
                self._check(scope["headers"])
            except answering.Refusal as refusal:
                await answering.refused(refusal, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        found: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        for name, value in headers:
            if name in found:
                found[name].append(value.decode("latin-1"))
        if len(found[b"host"]) != 1:
            raise answering.Refusal(400, "exactly one Host header is needed")
        host = host_name(found[b"host"][0])
        if host not in self._hosts:
            known = " or ".join(sorted(self._hosts))
            raise answering.Refusal(421, f"this server does not answer to the name {host[:100]!r}; call it as {known}")
        if found[b"origin"] or any(site in ("cross-site", "same-site") for site in found[b"sec-fetch-site"]):
            raise answering.Refusal(
                403,
                "requests from web pages are refused; use the command line, kubectl or any client outside a browser",
            )


def host_name(header: str) -> str:
    """The name in a ``Host`` header, without port and final dot, in lower case."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[: header.find("]") + 1]
    return header.partition(":")[0].removesuffix(".")
