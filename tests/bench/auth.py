"""What it costs to know a caller: a remembered decision, a token verified anew, and what does not grow.

Tables.  In one process, by CPU time: a remembered decision beside bare python-jose, which gets a key that was
made ready; and whole requests through the gateway, where what is called for one request is no longer in the
processor's caches for the next.  In a worker, by the CPU clock of the thread that serves and of the
whole process, per request: the same handler open, guarded, and guarded with a flag; with the audit records that each
decision leaves.  What a million decisions leave behind.  And what the audit trail adds (`tests.bench.audit`).
"""

import asyncio
import collections
import gc
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter
from jose import jwk, jwt

from dataplane.gateway import auditing, authenticating, deciding, dispatching, flags, hosting, pages, serving
from dataplane.gateway.authenticating import Authenticator
from dataplane.gateway.authorising import Requirement
from dataplane.gateway.snapshots import Snapshot
from dataplane.gateway.standing import Standing
from schemas.flag import FlagDefinition
from schemas.kits.clocks import SystemClock
from schemas.kits.tokens.verifying import Verifier
from schemas.policies import EffectivePolicy
from tests.bench import audit, dispatch
from tests.bench.tables import median, table
from tests.doubles import issuers
from tests.doubles.asgi import http_scope
from tests.doubles.modules import FakeInstance
from tests.doubles.platform import Platform, running, wait_for

ROUNDS = 15
TIMES = 2_000
REQUEST_ROUNDS = 600
REQUESTS = 40
"""In one round: few, so that what is compared is some milliseconds apart, whatever else the machine does."""
WORKER_ROUNDS = 80
DECISIONS = 1_000_000
TOKENS = 10_000
_WHO: dict[str, Any] = {"org": "acme", "roles": ["editor"], "permissions": ["read_analytics"], "jti": "t1"}
_READ = Requirement("shop", authenticated=True, permissions=(frozenset({"read_analytics"}),))
_FLAGGED = Requirement("shop", authenticated=True, permissions=_READ.permissions, flags=("beta",))

_WITH_HEADER = "open, with the token's header"

MODULE = """from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth


class Priced(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="priced", version="1.0.0")

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/open")
        @require_module_auth("NONE")
        async def opened():
            return {"say": "hello"}

        @router.get("/guarded")
        @require_module_auth(permissions=["read_analytics"])
        async def guarded():
            return {"say": "hello"}

        @router.get("/flagged")
        @require_module_auth(permissions=["read_analytics"], feature_flags=["beta"])
        async def flagged():
            return {"say": "hello"}
"""

FLAG = {
    "apiVersion": "modplane.dev/v1",
    "kind": "FeatureFlag",
    "metadata": {"name": "beta"},
    "spec": {"defaultVariant": "on"},
}


def run(folder: Path) -> str:
    """The tables."""
    alone = asyncio.run(_in_process()) + asyncio.run(_through_the_gateway())
    return alone + _in_a_worker(folder) + asyncio.run(_what_grows()) + audit.run(folder)


class _Gate:
    """A gate with one issuer and one flag."""

    def __init__(self, tokens: int = TOKENS) -> None:
        self.verifier: Verifier = issuers.verifier()
        self.gate = deciding.Gate(Authenticator(self.verifier), SystemClock(), tokens=tokens)
        lit = flags.FlagSet().with_changes({"beta": FlagDefinition(default_variant="on")})
        self.snapshot = Snapshot().with_standing(Standing(flags=lit))

    async def ask(self, token: str, asked: Requirement) -> Callable[[], object]:
        """Make the caller known; returns what asks once more."""
        headers = {"user-agent": "bench", "accept": "*/*", "authorization": f"Bearer {token}"}
        scope = http_scope("GET", "/", headers=headers)
        shown, _ = authenticating.read(scope)
        verdict = self.gate.known(shown, asked, self.snapshot) or await self.gate.learn(shown, asked, self.snapshot)
        assert verdict.allowed, verdict
        return lambda: self.gate.known(authenticating.read(scope)[0], asked, self.snapshot)


async def _in_process() -> str:
    token = issuers.token(issuers.claims(**_WHO))
    small, large = _Gate(), _Gate()
    for number in range(TOKENS - 2):
        await large.ask(issuers.token(issuers.claims(**{**_WHO, "jti": f"t{number}"}), algorithm="RS256"), _READ)
    raw, now = token.encode(), time.time()
    ready = jwk.construct(issuers.private("RS256").public_key(), "RS256")
    ways: dict[str, Callable[[], object]] = {
        "remembered": await small.ask(token, _READ),
        "remembered, one flag": await small.ask(token, _FLAGGED),
        f"remembered, one flag, {TOKENS} tokens": await large.ask(token, _FLAGGED),
        "RS256, bare python-jose": lambda: jwt.decode(
            token, ready, algorithms=["RS256"], audience=issuers.AUDIENCE, issuer=issuers.ISSUER
        ),
        "RS256, verified anew": lambda: _driven(small.verifier.verify(raw, now)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(_cpu(way))
    bare = taken["RS256, bare python-jose"]
    rows = []
    for name, each in taken.items():
        ratio = median([mine / theirs for mine, theirs in zip(each, bare, strict=True)])
        rows.append((name, f"{median(each):.1f}", f"{ratio:.2f}"))
    title = f"A caller in one process: medians of {ROUNDS} interleaved rounds of {TIMES}"
    return table(title, ("decision", "CPU µs", "× bare python-jose"), rows)


def _driven(coroutine: object) -> None:
    """Run a coroutine that does not wait."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        return
    raise AssertionError("it waited")


def _cpu(way: Callable[[], object]) -> float:
    started = time.process_time()
    for _ in range(TIMES):
        way()
    return (time.process_time() - started) / TIMES * 1e6


class _Kept:
    """Where notes of the audit trail go, as a recorder takes them."""

    full = False

    def __init__(self) -> None:
        self.note = collections.deque[Any](maxlen=TIMES).append


async def _through_the_gateway() -> str:
    """Whole requests, without the server's sockets and without the threads that write and send audit records."""
    bench = _Gate()
    host = hosting.Host(grace=5.0)
    host.stand(bench.snapshot.standing)
    policies = {
        "/open": EffectivePolicy(authenticated=False),
        "/guarded": EffectivePolicy(permissions=[["read_analytics"]]),
        "/flagged": EffectivePolicy(permissions=[["read_analytics"]], feature_flags=["beta"]),
    }

    def register(router: APIRouter) -> None:
        async def say() -> dict[str, str]:
            return {"say": "hello"}

        for path in policies:
            router.add_api_route(path, say)

    instance = FakeInstance(register, name="shop")
    routes = [route.model_copy(update={"policy": policies[route.path]}) for route in instance.desired.routes]
    instance.desired = instance.desired.model_copy(update={"routes": routes})
    await host.install(serving.serve(instance, datetime.now(UTC)))
    shown = pages.Pages(host, ready=dict, info=dict, version="1")
    app = dispatching.Dispatcher(host, shown, SystemClock(), bench.gate, auditing.Trail(_Kept()))
    headers = {"user-agent": "bench", "accept": "*/*"}
    known = {**headers, "authorization": f"Bearer {issuers.token(issuers.claims(**_WHO))}"}
    ways = {
        "open": ("/open", headers),
        _WITH_HEADER: ("/open", known),
        "guarded, remembered": ("/guarded", known),
        "guarded, one flag, remembered": ("/flagged", known),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(REQUEST_ROUNDS):
        for name, (path, sent) in ways.items() if number % 2 else reversed(ways.items()):
            taken[name].append(await _requests(app, f"/api/v1/modules/v1/shop{path}", sent))
    rows = []
    for name, each in taken.items():
        added = median([mine - theirs for mine, theirs in zip(each, taken[_WITH_HEADER], strict=True)])
        quiet = _quiet(each) - _quiet(taken[_WITH_HEADER])
        rows.append((name, f"{median(each):.1f}", f"{added:+.1f}", f"{quiet:+.1f}"))
    title = (
        f"A request through the gateway in one process: medians of {REQUEST_ROUNDS} interleaved rounds of {REQUESTS}"
    )
    heads = ("route", "CPU µs/request", "beside open with header", "the same in the quickest tenth of the rounds")
    return table(title, heads, rows)


def _quiet(taken: list[float]) -> float:
    """What the rounds took that nothing else on the machine slowed down: the median of the quickest tenth."""
    return median(sorted(taken)[: max(len(taken) // 10, 1)])


async def _requests(app: dispatching.Dispatcher, path: str, headers: dict[str, str]) -> float:
    """CPU microseconds of one; each scope is made just before, as by a server, which has just read its header."""
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    started = time.process_time()
    for _ in range(REQUESTS):
        await app(http_scope("GET", path, headers=headers), receive, send)
    taken = (time.process_time() - started) / REQUESTS * 1e6
    assert set(statuses) == {200}, set(statuses)
    return taken


def _in_a_worker(folder: Path) -> str:
    home = folder / "auth"
    (home / "modules").mkdir(parents=True)
    (home / "modules" / "priced.py").write_text(MODULE)
    with running(home, examples=False) as platform, dispatch.bare() as bare:
        token = _prepared(platform)
        base = "/api/v1/modules/v1/priced"
        servers = [
            bare,
            dispatch.worker(platform, "open", f"{base}/open"),
            dispatch.worker(platform, _WITH_HEADER, f"{base}/open", headers=token),
            dispatch.worker(platform, "guarded, remembered", f"{base}/guarded", headers=token),
            dispatch.worker(platform, "guarded, one flag, remembered", f"{base}/flagged", headers=token),
            dispatch.worker(platform, "guarded, no token", f"{base}/guarded", 401),
        ]
        taken = dispatch.interleaved(servers, WORKER_ROUNDS, dispatch.REQUESTS)
    rows = []
    for name, runs in taken.items():
        added = [dispatch.added_to_loop(runs, taken[other]) for other in ("open", _WITH_HEADER)]
        added.append(dispatch.added(runs, taken[_WITH_HEADER]))
        failures = sum(each.seen.failures for each in runs)
        loop = median([each.loop for each in runs])
        rows.append((name, f"{loop:.0f}", *(f"{each:+.1f}" for each in added), failures))
    title = (
        f"A caller at a worker: medians of {WORKER_ROUNDS} interleaved rounds of {dispatch.REQUESTS} requests; "
        "audit records are written and sent on other threads"
    )
    heads = (
        "server", "CPU µs/request on the serving loop", "beside open", "beside open with header",
        "the whole process beside open with header", "wrong answers",
    )  # fmt: skip
    return table(title, heads, rows)


def _prepared(platform: Platform) -> str:
    """The header of a token for the module, once the worker serves it with its flag on."""
    platform.wait_state("priced", "ACTIVE")
    platform.cli("apply", "-f", "-", stdin=json.dumps(FLAG))
    words = ("token", "create", "--sub", "ada", "--org", "acme", "--permission", "read_analytics")
    header = f"Authorization: Bearer {platform.cli(*words, '--data-dir', str(platform.data)).strip()}"
    name, _, value = header.partition(": ")
    wait_for(
        lambda: platform.call("v1/priced/flagged", headers={name: value}).status_code == 200, what="the flag is on"
    )
    return f"{header}\r\n"


async def _what_grows() -> str:
    bench = _Gate(tokens=1_000)
    words = issuers.claims(**_WHO)
    texts = [issuers.token({**words, "jti": f"t{number}"}) for number in range(2_000)]
    asking = [await bench.ask(text, _FLAGGED) for text in texts]
    process = psutil.Process()
    rows = []
    for part in range(5):
        for number in range(DECISIONS // 5):
            if asking[number % 1_000 + 1_000]() is None:
                await bench.ask(texts[number % 2_000], _FLAGGED)
        bench.snapshot = bench.snapshot.with_standing(bench.snapshot.standing)  # a publish that changes no flag
        gc.collect()
        shown = bench.gate.wire()
        memory = process.memory_info().rss / 2**20
        rows.append((f"{(part + 1) * DECISIONS // 5:,}", f"{memory:.1f}", shown["tokens"], shown["decided"]))
    title = "A million decisions of 1,000 callers, with a publish of something else after each fifth"
    return table(title, ("decisions", "resident MiB", "tokens remembered", "decided, not remembered"), rows)
