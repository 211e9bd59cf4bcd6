"""The first look at every request: whether it may come in at all, who sends it, and whether that caller may do this.

Pure ASGI, around the whole application.  No web page may drive the control plane: one that rebinds its DNS name to
127.0.0.1 shows in ``Host``; one of another origin shows in ``Origin`` or ``Sec-Fetch-Site`` (Fetch Metadata, W3C).  No
CORS header is ever sent.
"""

from collections.abc import Collection, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.api import answering, authenticating, authorising
from controlplane.audit.noting import Asked, Book
from schemas.kits import exposing

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""Names under which this machine calls itself."""


class Guard:
    """Refuses requests that come under a foreign name, from a web page, or from whoever may not do this.

    Hands on the caller's role as ``role`` of the request's state, and for requests that write ``audit``, which is told
    what becomes of them.
    """

    def __init__(
        self,
        app: ASGIApp,
        callers: authenticating.Callers,
        hosts: Collection[str] = LOOPBACK,
        book: Book | None = None,
    ) -> None:
        self._book = book or Book()
        self._app = app
        self._callers = callers
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in authorising.READING:
            await self._answered(scope, receive, send, None)
        else:
            asked = self._book.asked(scope)
            scope.setdefault("state", {})["audit"] = asked
            await self._noted(scope, receive, send, asked)

    async def _noted(self, scope: Scope, receive: Receive, send: Send, asked: Asked) -> None:
        """A request that is to change something, whatever becomes of it."""
        code = 500

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                asked.ended(code)
            await send(message)

        try:
            await self._answered(scope, receive, watched, asked)
        finally:
            asked.ended(code)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, asked: Asked | None) -> None:
        try:
            self._check(scope["headers"])
            await self._admit(scope, asked)
        except answering.Refusal as refusal:
            if asked is not None:
                asked.reason = answering.reason_of(refusal)
            await answering.refused(refusal, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, asked: Asked | None) -> None:
        needed = authorising.needed(scope["method"], scope["path"])
        if needed is None or (scope["path"] in authorising.LOCAL and exposing.is_local(scope)):
            return
        caller, role = await self._callers.identify(scope["headers"])
        if asked is not None:
            asked.caller = caller
        if role is None or role < needed:
            raise authenticating.missing(needed, caller, role)
        if asked is not None and self._book.full:
            raise answering.Refusal(
                503, "the audit trail cannot be kept, and nothing is changed without its record; see the server's log"
            )
        scope.setdefault("state", {}).update(role=role, caller=caller)

    def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        found: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        for name, value in headers:
            if name in found:
                found[name].append(value.decode("latin-1"))
        if len(found[b"host"]) != 1:
            raise answering.Refusal(400, "exactly one Host header is needed")
        host = host_name(found[b"host"][0])
        if host not in self._hosts and f"*.{host.partition('.')[2]}" not in self._hosts:
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
