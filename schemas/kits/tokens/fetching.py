"""The keys behind an address: fetched in the background, kept while it is silent, and seldom sought for a stranger.

Always: https only, to the one host that an operator named, whose addresses are looked at before one is dialled; no
redirect, no proxy of the environment, no compression, no more bytes, keys or seconds than a key set needs.  A set that
is not better than none leaves the last good one in force, up to a hard age; then its tokens are refused.  The last good
set is on disk, so that a worker starts without its identity provider.

Source: RFC 8725 section 3.10; OWASP API7:2023 (server-side request forgery).
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import math
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from schemas.kits.backoffs import Backoff, jittered
from schemas.kits.clocks import Clock
from schemas.kits.tokens import keys
from schemas.kits.tokens.keys import Algorithm, KeySet, VerifyingKey

if TYPE_CHECKING:
    import httpx

logger = structlog.get_logger("schemas.kits.tokens.fetching")

REFRESH_SECONDS: Final = 300.0
"""How old keys get before they are fetched anew."""
SEEK_SECONDS: Final = 30.0
"""An unknown key id causes at most one fetch in this time."""
DEADLINE_SECONDS: Final = 3.0
"""For one whole fetch."""
_WAITERS: Final = 100
"""So many requests may wait for a fetch; more are refused at once."""


class FetchFailed(Exception):  # noqa: N818 - named for what happened, as in the rest of the house
    """Keys could not be fetched; says why, for operators."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a key set is, and how far its server is trusted."""

    url: str
    private: bool = False
    """Whether the host may have addresses that are not public."""
    authorities: Path | None = None
    """Certificates that sign the server's; None: those of this machine."""


async def fetch(address: Address, context: ssl.SSLContext, *, deadline: float = DEADLINE_SECONDS) -> bytes:
    """The bytes behind the address; FetchFailed if there are none to be had in time."""
    import httpx  # late: only a process that fetches needs a client

    try:
        async with asyncio.timeout(deadline):
            return await _fetch(httpx, address, context)
    except TimeoutError:
        raise FetchFailed(f"no whole answer within {deadline:g} s") from None
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise FetchFailed(f"{type(error).__name__}: {error}") from error


async def _fetch(http: Any, address: Address, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(address.url)
    assert parts.hostname, "checked with the settings"
    ip = await _resolved(parts.hostname, parts.port or 443, private=address.private)
    host = f"[{ip}]" if ":" in ip else ip
    url = f"https://{host}:{parts.port or 443}{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    headers = {"host": parts.netloc, "accept": "application/json", "accept-encoding": "identity"}
    transport: httpx.AsyncHTTPTransport = http.AsyncHTTPTransport(verify=context, trust_env=False, retries=0)
    async with transport:
        request = http.Request("GET", url, headers=headers, extensions={"sni_hostname": parts.hostname})
        answer = await transport.handle_async_request(request)
        try:
            return await _body(answer)
        finally:
            await answer.aclose()


async def _body(answer: "httpx.Response") -> bytes:
    if answer.status_code != 200:
        raise FetchFailed(f"the server answered {answer.status_code}; redirects are not followed")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("the answer is compressed, which was not asked for")
    found = bytearray()
    async for piece in answer.aiter_raw():
        found += piece
        if len(found) > keys.SET_BYTES:
            raise FetchFailed(f"the answer has more than {keys.SET_BYTES} bytes")
    return bytes(found)


async def _resolved(host: str, port: int, *, private: bool) -> str:
    """The address to dial, after a look at all of them, so that no name leads to a place of this network."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = [ipaddress.ip_address(str(info[4][0])) for info in infos]
    for each in found:
        never = each.is_link_local or each.is_multicast or each.is_unspecified
        if never or not (private or each.is_global):
            raise FetchFailed(f"{host} has the address {each}, which is not public")
    if not found:
        raise FetchFailed(f"{host} has no address")
    return str(found[0])


class FetchedKeys:
    """The keys of one issuer behind an address."""

    def __init__(
        self,
        address: Address,
        algorithm: Algorithm,
        clock: Clock,
        *,
        hard_age: float,
        kept: Path | None = None,
        deadline: float = DEADLINE_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        """``hard_age``: seconds for which keys are believed unseen.  ``kept``: folder of the last good sets."""
        self._address = address
        self._algorithm = algorithm
        self._clock = clock
        self._hard_age = hard_age
        self._kept = None if kept is None else kept / f"{hashlib.sha256(address.url.encode()).hexdigest()[:32]}.json"
        self._deadline = deadline
        self._backoff = backoff or Backoff(base=1.0, cap=60.0)
        self._keys = KeySet()
        self._seen = -math.inf
        """When the keys were last fetched, by the monotonic clock."""
        self._seek_again = -math.inf
        self._flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self._trouble = ""
        self._context: ssl.SSLContext | None = None
        self.revision = 0
        self.fetches = 0
        self._remember()

    @property
    def until(self) -> float:
        """When the keys are too old to be believed."""
        return self._seen + self._hard_age

    def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of that id, unless all are too old."""
        return self._keys.find(kid) if self._clock.monotonic() < self.until else None

    async def seek(self, kid: str | None) -> VerifyingKey | None:
        """Fetch the keys for the sake of an unknown id, once in a while; everybody shares one fetch."""
        if kid is None or self._waiting >= _WAITERS:
            return None
        now = self._clock.monotonic()
        if self._flight is None:
            if now < self._seek_again:
                return None
            self._seek_again = now + SEEK_SECONDS
            self._start()
        flight = self._flight
        assert flight is not None, "begun above"
        self._waiting += 1
        try:
            await asyncio.wait({flight})
        finally:
            self._waiting -= 1
        return self.find(kid)

    async def run(self) -> None:
        """Fetch, and again when the keys get old, until cancelled."""
        failures = 0
        while True:
            self._start()
            assert self._flight is not None, "begun above"
            await asyncio.wait({self._flight})
            failures = failures + 1 if self._trouble else 0
            await self._clock.sleep(self._backoff.delay(failures) if failures else self._refresh_seconds())

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        age = self._clock.monotonic() - self._seen
        return {
            "kind": "url",
            "url": self._address.url,
            "keys": len(self._keys.keys),
            "ageSeconds": round(age, 1) if math.isfinite(age) else None,
            "fetches": self.fetches,
            "trouble": self._trouble,
        }

    def _refresh_seconds(self) -> float:
        """A few times within the hard age, so that one failure or two do not turn callers away."""
        return jittered(min(REFRESH_SECONDS, self._hard_age / 3), 0.1, self._backoff.source)

    def _start(self) -> None:
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._refresh(), name="fetch keys")

    async def _refresh(self) -> None:
        self.fetches += 1
        began = self._clock.monotonic()
        try:
            if self._context is None:
                self._context = await asyncio.to_thread(_context, self._address.authorities)
            raw = await fetch(self._address, self._context, deadline=self._deadline)
            found = await asyncio.to_thread(keys.read_set, raw, self._algorithm)
        except Exception as error:  # noqa: BLE001 - whatever a server says, the last good set stays
            if str(error) != self._trouble:
                logger.warning("keys not fetched", url=self._address.url, error=str(error))
            self._trouble = str(error) or type(error).__name__
        else:
            self._trouble = ""
            self._take(found, began)
            await asyncio.to_thread(self._save, raw)
        finally:
            self._flight = None

    def _take(self, found: KeySet, seen: float) -> None:
        self._seen = seen
        if not found.same(self._keys):
            self._keys = found
            self.revision += 1
            logger.info("keys changed", url=self._address.url, keys=len(found.keys), left_out=list(found.left_out))

    def _save(self, raw: bytes) -> None:
        """Keep the set for the next start; that it cannot be kept is told, not fatal."""
        if self._kept is None:
            return
        document = {"url": self._address.url, "fetched": self._clock.now().timestamp(), "set": raw.decode("utf-8")}
        part = self._kept.with_suffix(f".{os.getpid()}.part")
        try:
            self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(document))
            part.chmod(0o600)
            part.replace(self._kept)
        except OSError as error:
            logger.warning("keys not kept", path=str(self._kept), error=str(error))

    def _remember(self) -> None:
        """Begin with the set of the last start, as old as it is by now."""
        if self._kept is None:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(self._kept.read_text())
            age = max(0.0, self._clock.now().timestamp() - float(document["fetched"]))
            if document["url"] == self._address.url and age < self._hard_age:
                self._take(keys.read_set(document["set"].encode(), self._algorithm), self._clock.monotonic() - age)


def _context(authorities: Path | None) -> ssl.SSLContext:
    """What is believed of servers; made in a thread, since it reads many files."""
    return ssl.create_default_context(cafile=None if authorities is None else str(authorities))
