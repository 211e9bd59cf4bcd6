"""Attacks on what leads to a route, and on what stands behind it, against a running worker with cold and warm caches.

The numbers are those of the fault catalogue: A23 and A24 of its group A, R1 and R6 to R9 of its group R.  The others of
both groups are in `tests.faults.test_token_attacks` (A1 to A22, R3 to R5, R10), `tests.faults.test_key_age` (A20),
`tests.dataplane.gateway.test_deciding` (what A22 asks of time), and, with every path and both parsers, in
`tests.dataplane.gateway.test_one_reading` (R1, R2); what a connection refuses is in `tests.dataplane.test_connections`
(R1, R7).
"""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from schemas.kits.tokens import development
from tests.doubles.platform import BY_HAND, Platform, running, wait_for
from tests.doubles.wire import Line, bearer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

BASE = "/api/v1/modules/v1/vault"

MODULE = '''"""Counts who gets in."""

from typing import Any

from fastapi import APIRouter, Request, WebSocket

from dataplane.sdk import BaseModuleRouter, CurrentPrincipal, ModuleMetadata, require_module_auth


class Vault(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="vault", version="1.0.0", permissions=["open"])
    turn = 0

    def register_routes(self, router: APIRouter) -> None:
        inside = {"calls": 0}

        @router.get("/count")
        @require_module_auth("NONE")
        async def count() -> int:
            return inside["calls"]

        @router.api_route("/echo", methods=["GET", "POST"])
        @require_module_auth("NONE")
        async def echo(request: Request) -> dict[str, Any]:
            return {"url": str(request.url), "client": request.client.host, "length": len(await request.body())}

        @router.api_route("/open", methods=["GET", "POST"])
        @require_module_auth(permissions=["open"])
        async def opened() -> str:
            inside["calls"] += 1
            return "open"

        @router.get("/hidden")
        async def hidden() -> str:
            inside["hidden"] = 1
            return "hidden"

        @router.get("/found")
        @require_module_auth("NONE")
        async def found() -> bool:
            return "hidden" in inside

        @router.get("/beta")
        @require_module_auth(feature_flags=["beta"])
        async def beta() -> str:
            return "beta"

        @router.get("/gamma")
        @require_module_auth(feature_flags=["gamma"])
        async def gamma() -> str:
            return "gamma"

        @router.websocket("/live")
        async def live(socket: WebSocket, caller: CurrentPrincipal) -> None:
            inside["calls"] += 1
            await socket.accept()
            await socket.send_text(caller.subject)
            await socket.close()
'''


def document(kind: str, name: str, **spec: Any) -> str:
    return json.dumps({"apiVersion": "modplane.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})


class Vault:
    """The running platform, a connection to its worker, and callers."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.line = Line(platform.door)

    def token(self, subject: str = "ada", organisation: str | None = None, **rights: Any) -> str:
        caller = development.Caller(subject, organisation, **rights)
        return development.sign(self.platform.data, caller, now=time.time(), seconds=3_600.0)

    def status(self, path: str, *headers: bytes, method: str = "GET") -> int:
        return self.line.get(BASE + path, *headers, method=method).status

    def count(self) -> int:
        return int(self.line.get(f"{BASE}/count").body)

    def raw(self, *pieces: bytes) -> bytes:
        """Everything that comes back for these bytes until the worker closes the connection."""
        place = httpx.URL(self.platform.door)
        found = b""
        line = socket.create_connection((place.host, place.port or 0), 30)
        with line, contextlib.suppress(ConnectionError):
            for piece in pieces:
                line.sendall(piece)
            while data := line.recv(65_536):
                found += data
        return found


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with running(tmp_path_factory.mktemp("vault"), examples=False, environment=BY_HAND) as platform:
        (platform.modules / "vault.py").write_text(MODULE)
        made = document("Module", "vault", entryPoint="vault:Vault", permissions=["open"])
        flag = document("FeatureFlag", "beta", defaultVariant="on")
        platform.cli("apply", "--wait", "-f", "-", stdin=f"{made}\n---\n{flag}")
        vault = Vault(platform)
        yield vault
        vault.line.close()


@pytest.fixture(params=["cold", "warm"])
def good(vault: Vault, request: pytest.FixtureRequest) -> str:
    """A token that may open; warm: the worker remembers its caller."""
    text = vault.token(permissions=["open"])
    if request.param == "warm":
        assert [vault.status("/open", bearer(text)) for _ in range(2)] == [200, 200]
    return text


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1:1", b"localhost@evil.example", b"[::1]", b"."])
def test_r6_a_poisoned_host_opens_nothing_and_forwarding_headers_say_nothing(
    vault: Vault, good: str, host: bytes
) -> None:
    def ask(path: str, *headers: bytes) -> bytes:
        lines = [
            b"GET " + BASE.encode() + path.encode() + b" HTTP/1.1",
            b"host: " + host,
            b"connection: close",
            *headers,
        ]
        return vault.raw(b"\r\n".join([*lines, b"", b""]))

    before = vault.count()
    forwarded = (
        b"x-forwarded-host: evil.example", b"x-forwarded-proto: https", b"x-forwarded-for: 10.0.0.1",
        b"forwarded: for=10.0.0.1;host=evil.example", b"x-original-url: /count", b"x-rewrite-url: /count",
    )  # fmt: skip
    assert ask("/open", *forwarded)[9:12] in (b"401", b"400")
    assert ask("/open", bearer(vault.token()), *forwarded)[9:12] in (b"403", b"400")
    assert vault.count() == before
    assert ask("/open", bearer(good), *forwarded)[9:12] in (b"200", b"400")
    answer = vault.line.get(f"{BASE}/echo", *forwarded)
    found = json.loads(answer.body)
    assert found["url"].startswith("http://127.0.0.1")
    assert found["client"] == "127.0.0.1"


def head(*headers: bytes, target: bytes = b"", host: bytes = b"host: 127.0.0.1") -> bytes:
    """A request for the guarded route."""
    lines = [b"GET " + (target or BASE.encode() + b"/open") + b" HTTP/1.1", *([host] if host else []), *headers]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


TWO_READINGS = {
    "an absolute target": lambda own: head(own, target=b"http://evil" + BASE.encode() + b"/open"),
    "an absolute target of our own": lambda own: head(own, target=b"http://127.0.0.1" + BASE.encode() + b"/open"),
    "two hosts": lambda own: head(own, b"host: evil"),
    "no host": lambda own: head(own, host=b""),
    "length and encoding": lambda own: head(own, b"transfer-encoding: chunked", b"content-length: 5") + b"0\r\n\r\n",
    "bare line feeds": lambda own: head(own).replace(b"\r\n", b"\n"),
    "a head of 300 kB": lambda own: head(own, b"x-long: " + b"x" * 300_000),
    "two authorizations": lambda own: head(own, own),
    "a folded authorization": lambda own: head(own.replace(b"Bearer ", b"Bearer\r\n ")),
    "an authorization with an underscore": lambda own: head(own.replace(b"authorization", b"authorization_")),
    "a blank before the colon": lambda own: head(own.replace(b":", b" :")),
    "a fragment": lambda own: head(own, target=BASE.encode() + b"/open#/../count"),
}


@pytest.mark.parametrize("made", TWO_READINGS.values(), ids=TWO_READINGS)
def test_r1_what_two_readers_would_read_differently_reaches_no_handler(
    vault: Vault, good: str, made: Callable[[bytes], bytes]
) -> None:
    """Also with a token that may: the same bytes in order are let in, so it is their form that is refused."""
    before = vault.count()
    assert vault.raw(head(bearer(good)))[9:12] == b"200"
    answers = vault.raw(made(bearer(good)))
    assert b"HTTP/1.1 200" not in answers
    assert answers[9:12] in (b"", b"400", b"401", b"431")
    assert vault.count() == before + 1


SMUGGLED = b"GET /api/v1/modules/v1/vault/hidden HTTP/1.1\r\nhost: x\r\nx-a: "
PAIRS = {
    "length before chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks before length": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 0\r\ncontent-length: 100\r\n\r\n",
    "a signed length": b"content-length: +4\r\n\r\n",
    "a length in hexadecimal": b"content-length: 0x4\r\n\r\n",
    "a blank before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab behind the encoding": b"transfer-encoding:\tchunked\t\r\n\r\n0\r\n\r\n",
    "another encoding": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an encoding in a folded line": b"x-b: 1\r\n transfer-encoding: chunked\r\n\r\n",
    "a bare line feed": b"x-b: 1\ntransfer-encoding: chunked\r\n\r\n",
    "a chunk that is too long to count": b"transfer-encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
    "an odd end of a chunk": b"transfer-encoding: chunked\r\n\r\n1\nZ\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_r7_nothing_is_smuggled_behind_a_request_of_somebody_who_may(vault: Vault, good: str, pair: bytes) -> None:
    """The first request has the right token; what hides behind it has none, and must not have the first one's."""
    head = b"POST " + BASE.encode() + b"/open HTTP/1.1\r\nhost: x\r\n" + bearer(good) + b"\r\n"
    answers = vault.raw(head + pair + SMUGGLED, b"1\r\nconnection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200") <= 1
    assert json.loads(vault.line.get(f"{BASE}/found").body) is False


def test_r8_an_upgrade_is_no_way_around_a_policy(vault: Vault, good: str) -> None:
    upgrade = (b"upgrade: websocket", b"connection: upgrade, close", b"sec-websocket-version: 13",
               b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip

    def ask(path: str, *headers: bytes) -> bytes:
        lines = [b"GET " + BASE.encode() + path.encode() + b" HTTP/1.1", b"host: 127.0.0.1", *upgrade, *headers]
        return vault.raw(b"\r\n".join([*lines, b"", b""]))[9:12]

    before = vault.count()
    for path in ("/open", "/live"):
        assert ask(path) in (b"401", b"403", b"404", b"405")
        assert ask(path, b"origin: https://evil.example", b"cookie: token=" + good.encode()) != b"101"
    assert ask("/open", bearer(good)) in (b"404", b"405")
    assert vault.status("/live", bearer(good)) in (404, 405, 426)
    url = f"{vault.platform.door.replace('http', 'ws', 1)}{BASE}/live"
    with pytest.raises(InvalidStatus) as refused, connect(url, origin=Origin("https://evil.example"), proxy=None):
        pass
    assert refused.value.response.status_code == 401
    assert vault.count() == before


def test_r9_no_request_slips_in_while_routes_are_exchanged(vault: Vault, good: str) -> None:
    """While the module is replaced again and again, nobody is let in who may not, and who may is."""
    stranger, over = vault.token("eve"), threading.Event()
    seen: dict[str, set[int]] = {"nobody": set(), "eve": set(), "ada": set()}
    headers = {"nobody": (), "eve": (bearer(stranger),), "ada": (bearer(good),)}

    def call(who: str) -> None:
        line = Line(vault.platform.door)
        while not over.is_set():
            seen[who].add(line.get(f"{BASE}/open", *headers[who]).status)
        line.close()

    threads = [threading.Thread(target=call, args=(who,)) for who in seen]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            for policy in ({}, {"level": "ROLE", "roles": ["nobody-has"]}):
                (vault.platform.modules / "vault.py").write_text(MODULE.replace("turn = 0", f"turn = {time.time_ns()}"))
                spec = {"entryPoint": "vault:Vault", "permissions": ["open"], "config": {"turn": turn}}
                text = document("Module", "vault", **spec, **({"auth": policy} if policy else {}))
                vault.platform.cli("apply", "--wait", "--force", "-f", "-", stdin=text)
        plain = document("Module", "vault", entryPoint="vault:Vault", permissions=["open"])
        vault.platform.cli("apply", "--wait", "--force", "-f", "-", stdin=plain)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert (seen["nobody"], seen["eve"]) == ({401}, {403})
    assert seen["ada"] <= {200, 403}


def test_a24_the_control_plane_is_not_for_workers_modules_or_tenants(vault: Vault, good: str) -> None:
    platform = vault.platform
    seed = (platform.data / "nats" / "keys" / "w0.nk").read_text().strip()
    reader = (platform.data / "nats" / "keys" / "reader.password").read_text().strip()
    tenant = vault.token("root", "acme", roles=["admin"])
    path = f"{platform.control}/apis/modplane.dev/v1"
    credentials = {
        "nobody": ({}, 401),
        "a caller of a module": ({"authorization": f"Bearer {good}"}, 403),
        "a tenant's administrator": ({"authorization": f"Bearer {tenant}"}, 403),
        "a worker's key": ({"authorization": f"Bearer {seed}"}, 401),
        "an event reader's password": ({"authorization": f"Bearer {reader}"}, 401),
        "another scheme": ({"authorization": f"ApiKey {seed}"}, 401),
        "an identity in a header": ({"x-modplane-principal": "admin", "x-user-id": "admin"}, 401),
    }
    for _ in range(2):
        for who, (headers, status) in credentials.items():
            for method, target in (
                ("GET", f"{path}/modules"),
                ("DELETE", f"{path}/modules/vault"),
                ("POST", f"{path}/apply"),
                ("GET", f"{platform.control}/api/v1/module-management/modules"),
                ("GET", f"{platform.control}/modules/system/info"),
            ):
                answer = platform.http.request(method, target, headers=headers)
                assert answer.status_code == status, (who, method, target)
    assert platform.object("modules", "vault") is not None


def test_a23_flags_stay_as_last_known_while_nobody_tells_them_and_after_a_restart(vault: Vault, good: str) -> None:
    """Runs last: it takes NATS and the control plane away."""
    platform = vault.platform
    assert vault.status("/beta", bearer(good)) == 200
    silenced = [platform.child("nats-server"), platform.child("controlplane", "serve")]
    worker = platform.child("dataplane", "worker")
    for process in silenced:
        process.send_signal(signal.SIGSTOP)
    try:
        for text in (good, vault.token("new", permissions=["open"])):
            assert [vault.status(path, bearer(text)) for path in ("/beta", "/gamma")] == [200, 403]
        worker.kill()
        wait_for(lambda: _replaced(platform, worker), what="another worker serves")
        fresh = Line(platform.door)
        for text in (good, vault.token("newer", permissions=["open"])):
            found = [fresh.get(f"{BASE}{path}", bearer(text)).status for path in ("/beta", "/gamma")]
            assert found == [200, 403]
        fresh.close()
    finally:
        for process in silenced:
            process.send_signal(signal.SIGCONT)


def _replaced(platform: Platform, worker: psutil.Process) -> bool:
    with contextlib.suppress(httpx.TransportError, AssertionError):
        now = platform.child("dataplane", "worker")
        return now.pid != worker.pid and platform.call("v1/vault/count").status_code == 200
    return False
