"""Exactly one record for each decision, with who, what, which policy and why; and nothing where nothing was decided."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import APIRouter, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from dataplane.gateway import auditing, authorising, deciding, dispatching
from dataplane.gateway.authenticating import Authenticator
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.serving import RouteName
from schemas import audit
from schemas.kits import chains
from schemas.kits.chains import Chain
from schemas.kits.tokens.verifying import Verifier
from schemas.policies import EffectivePolicy
from schemas.principals import Principal
from tests.dataplane.gateway.conftest import Gateway
from tests.doubles.asgi import Answer, Socket, call
from tests.doubles.callers import Believer, header
from tests.doubles.modules import routes_of

PREFIX = "/api/v1/modules/v1/shop"
WHERE = {"module": "shop", "generation": 1, "client": "127.0.0.1", "kind": "decision"}


def shop(router: APIRouter) -> None:
    @router.get("/open")
    async def opened() -> str:
        return "open"

    @router.get("/items/{name}")
    async def item(name: str) -> str:
        return name

    @router.get("/prices")
    async def prices() -> str:
        return "prices"

    @router.get("/rule")
    async def rule() -> str:
        return "rule"

    @router.get("/raises")
    async def raises() -> None:
        raise RuntimeError

    @router.get("/waits")
    async def waits() -> PlainTextResponse:
        await asyncio.Event().wait()
        return PlainTextResponse("")

    @router.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()


SHOP = RouteName("shop", "1", 1, "/x", "BASIC")
POLICIES = {
    "/prices": EffectivePolicy(permissions=[["read", "write"], ["export"]]),
    "/rule": EffectivePolicy(admin=True),
}


CHAIN = Chain("w0", "b1")


def spelled(entry: Any, chain: Chain = CHAIN, seq: int = 1) -> bytes:
    """A note as it stands in a chain."""
    filled = auditing.encode(entry)
    return filled.form.spell(chain, seq, filled.values)


def told(entry: Any) -> dict[str, Any]:
    """What a note's record says, apart from its place in a chain."""
    record: dict[str, Any] = json.loads(spelled(entry))
    assert Chain(record.pop("writer"), record.pop("boot")) == CHAIN
    assert record.pop("seq") == 1
    return record


class Desk:
    """A gateway whose records a test reads."""

    def __init__(self, *, opened: bool = False) -> None:
        self.full = False
        self.noted: list[Any] = []
        self.gateway = Gateway()
        gate = deciding.Gate(Authenticator(Verifier([]), {"Test": Believer()}), self.gateway.clock)
        trail = auditing.Trail(self, opened=opened, now=lambda: 1_800_000_000.25)
        host, pages, clock = self.gateway.host, self.gateway.pages, self.gateway.clock
        self.app = dispatching.Dispatcher(host, pages, clock, gate, trail)

    def note(self, entry: Any) -> None:
        self.noted.append(entry)

    async def install(self, **more: Any) -> None:
        guarded = ["/items/{name}", "/prices", "/rule", "/raises", "/waits", "/talk"]
        found: list[Any] = []

        def register(router: APIRouter) -> None:
            shop(router)
            found.append(router)

        from dataplane.gateway import serving
        from tests.dataplane.gateway.conftest import NOW
        from tests.doubles.modules import FakeInstance

        instance = FakeInstance(register, guarded=guarded, **more)
        routes = [
            route.model_copy(update={"policy": POLICIES[route.path]}) if route.path in POLICIES else route
            for route in routes_of(instance.app, guarded)
        ]
        instance.desired = instance.desired.model_copy(update={"routes": routes})
        await self.gateway.host.install(serving.serve(instance, NOW))

    async def get(self, path: str, who: str | None = None, **headers: str) -> Answer:
        return await call(
            self.app, "GET", path if path.startswith("/api") else PREFIX + path,
            headers={**(header(who) if who else {}), **headers},
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        entries, self.noted = self.noted, []
        return [told(entry) for entry in entries]

    def record(self) -> dict[str, Any]:
        (found,) = self.records()
        return found


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.install()
    return made


async def test_a_call_that_is_let_in_says_who_from_where_what_and_under_which_policy(desk: Desk) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await desk.get("/items/a%20b", "ann@acme", traceparent=parent, **{"x-request-id": "r1"})
    assert answer.status == 200
    assert desk.record() == WHERE | {
        "at": "2027-01-15T08:00:00.250Z",
        "outcome": "allow",
        "status": 200,
        "reason": "Allowed",
        "subject": "ann",
        "issuer": "test",
        "organisation": "acme",
        "method": "GET",
        "path": f"{PREFIX}/items/a b",
        "route": "/items/{name}",
        "version": "",
        "policy": "BASIC",
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "request": "r1",
    } | ({"version": desk.gateway.host.snapshot.modules["shop"].desired.version})


@pytest.mark.parametrize(
    ("path", "who", "expected"),
    [
        ("/items/a", None, {"outcome": "deny", "status": 401, "reason": "NoCredentials", "policy": "BASIC"}),
        (
            "/prices",
            "ann",
            {
                "outcome": "deny", "status": 403, "reason": "PermissionMissing", "detail": "read or write",
                "subject": "ann", "policy": "PERMISSION permissions=read|write,export",
            },
        ),
        ("/rule", "ann", {"outcome": "deny", "status": 403, "reason": "AdminNeeded", "policy": "ADMIN"}),
        ("/raises", "ann", {"outcome": "allow", "status": 200, "reason": "Allowed"}),
    ],
)  # fmt: skip
async def test_each_decision_is_one_record(desk: Desk, path: str, who: str | None, expected: dict[str, Any]) -> None:
    await desk.get(path, who)
    record = desk.record()
    assert record | WHERE | expected == record
    assert ("subject" in record) == (who is not None)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing", 404), ("/open", 200), ("/health", 200), ("/api/v1/modules/v1/none/x", 404), ("//items/a", 400)],
)
async def test_where_nothing_is_decided_there_is_no_record(desk: Desk, path: str, status: int) -> None:
    assert (await desk.get(path, "ann")).status == status
    assert desk.records() == []


async def test_a_method_that_no_route_has_is_no_decision(desk: Desk) -> None:
    assert (await call(desk.app, "POST", f"{PREFIX}/prices")).status == 405
    assert desk.records() == []


async def test_two_tokens_are_a_refusal_with_a_reason(desk: Desk) -> None:
    scope_headers = [(b"host", b"x"), (b"authorization", b"Test ann"), (b"authorization", b"Test bob")]
    answer = Answer()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        answer.messages.append(message)

    from tests.doubles.asgi import http_scope

    await desk.app({**http_scope("GET", f"{PREFIX}/items/a"), "headers": scope_headers}, receive, send)
    assert answer.status == 401
    assert desk.record()["reason"] == "SeveralCredentials"


async def test_open_routes_are_recorded_where_that_is_wanted() -> None:
    desk = Desk(opened=True)
    await desk.install()
    await desk.get("/open")
    record = desk.record()
    assert (record["outcome"], record["reason"], record["policy"]) == ("allow", "Open", "NONE")


async def test_a_websocket_is_decided_before_it_is_accepted(desk: Desk) -> None:
    socket = Socket(desk.app, f"{PREFIX}/talk")
    assert (await socket.hear())["status"] == 401
    await socket.task
    record = desk.record()
    assert (record["method"], record["outcome"], record["reason"]) == ("WEBSOCKET", "deny", "NoCredentials")


async def test_a_module_that_cannot_serve_is_an_error_whoever_calls() -> None:
    desk = Desk()
    desk.gateway.block(shop, guarded=["/prices"])
    assert (await desk.get("/prices")).status == 503
    assert (await desk.get("/open")).status == 503
    assert [(each["outcome"], each["status"], each["reason"]) for each in desk.records()] == [
        ("error", 503, "ImportFailed")
    ] * 2


async def test_a_module_with_too_many_calls_is_an_error_and_no_permission() -> None:
    desk = Desk()
    await desk.install(limits={"maxConcurrency": 1})
    waiting = asyncio.create_task(desk.get("/waits", "ann"))
    while not desk.noted:
        await asyncio.sleep(0)
    assert (await desk.get("/prices", "ann")).status == 403
    assert (await desk.get("/items/a", "bob@acme")).status == 503
    records = desk.records()
    assert [(each["outcome"], each["reason"], each["subject"]) for each in records] == [
        ("allow", "Allowed", "ann"),
        ("deny", "PermissionMissing", "ann"),
        ("error", "TooManyCalls", "bob"),
    ]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_without_room_for_its_record_an_admin_route_is_not_served_and_others_are(desk: Desk) -> None:
    ruler = Principal(issuer="test", subject="root", roles=frozenset({"admin"}), expires=4e9)
    believer = Believer()

    async def believe(credentials: bytes) -> Principal | None:
        return ruler if credentials == b"root" else None

    believer.authenticate = believe  # type: ignore[method-assign]
    gate = deciding.Gate(Authenticator(Verifier([]), {"Test": believer}), desk.gateway.clock)
    trail = auditing.Trail(desk)
    app = dispatching.Dispatcher(desk.gateway.host, desk.gateway.pages, desk.gateway.clock, gate, trail)
    assert (await call(app, "GET", f"{PREFIX}/rule", headers=header("root"))).status == 200
    desk.full = True
    refused = await call(app, "GET", f"{PREFIX}/rule", headers=header("root"))
    assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
    assert "audit trail" in refused.json["detail"]
    assert (await call(app, "GET", f"{PREFIX}/items/a", headers=header("root"))).status == 200
    assert (await call(app, "GET", f"{PREFIX}/rule")).status == 401
    desk.full = False
    assert (await call(app, "GET", f"{PREFIX}/rule", headers=header("root"))).status == 200
    assert [(each["outcome"], each["reason"]) for each in desk.records()] == [
        ("allow", "Allowed"),
        ("error", "AuditTrailFull"),
        ("allow", "Allowed"),
        ("deny", "NoCredentials"),
        ("allow", "Allowed"),
    ]


async def test_a_note_that_waits_holds_no_module(desk: Desk) -> None:
    await desk.get("/items/a", "ann")
    (entry,) = desk.noted
    allowed = (str, int, float, tuple, Verdict, type(None))
    assert [type(part) for part in entry if not isinstance(part, allowed)] == []


async def test_the_token_is_in_no_note_and_no_record(desk: Desk) -> None:
    await desk.get("/items/a", "very-secret-word", cookie="session=very-secret-word", **{"x-request-id": "r1"})
    ((*_, headers, _),) = desk.noted
    assert headers == ((b"x-request-id", b"r1"),)
    record = desk.record()
    record.pop("subject")
    assert "very-secret-word" not in json.dumps(record)


def plain(entry: Any) -> dict[str, Any]:
    """A note's record, key by key."""
    at, verdict, named, method, path, client, headers, trace = entry
    caller = verdict.principal
    known = audit.record(
        at=audit.moment(at), kind="decision", status=verdict.status, reason=verdict.reason, detail=verdict.detail,
        outcome={200: "allow", 401: "deny", 403: "deny"}.get(verdict.status, "error"), method=method, **named._asdict(),
        client=client and client[0], trace=trace, issuer=caller and caller.issuer, subject=caller and caller.subject,
        organisation=caller and caller.organisation,
    )  # fmt: skip
    return {"path": audit.text(path), **audit.carried(headers), **known}


TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
words = st.text(max_size=5) | st.sampled_from(["", "x" * 300, "100%", "%s %(a)s", '"', "a\\", "\ud800", "é\u2028"])
callers = st.none() | st.builds(
    Principal, issuer=words, subject=words, organisation=st.none() | words, expires=st.just(4e9)
)
carried = st.lists(
    st.tuples(st.just(b"x-request-id"), st.binary(max_size=300))
    | st.tuples(st.just(b"traceparent"), st.binary(max_size=60) | st.just(TRACEPARENT)),
    max_size=3,
)
notes = st.tuples(
    st.floats(0, 4e9),
    st.builds(Verdict, st.sampled_from([200, 401, 403, 503]), words, words, callers),
    st.builds(RouteName, words, words, st.integers(0, 2**53), words, words),
    st.sampled_from(["GET", "WEBSOCKET", "PURGE%"]),
    words,
    st.none() | st.tuples(words.filter(bool), st.integers(0, 65535)),
    carried.map(tuple),
    st.none() | st.just("0af7651916cd43dd8448eb211c80319d"),
)


@given(notes, st.integers(1, 2**53 - 1))
def test_a_record_in_a_form_is_the_record_as_it_was_spelled_key_by_key(entry: Any, seq: int) -> None:
    """Also when its words were met before, and in another chain."""
    for chain in (CHAIN, CHAIN, Chain("w9", "b9")):
        assert spelled(entry, chain, seq) == chains.canonical(plain(entry) | chain._asdict() | {"seq": seq})
        assert chains.belongs(spelled(entry, chain, seq), chain, seq)


@given(st.text(), st.text(), st.text(max_size=400), st.binary(max_size=600))
def test_whatever_comes_from_outside_neither_breaks_a_line_nor_moves_a_cursor(
    subject: str, organisation: str, path: str, request: bytes
) -> None:
    caller = Principal(issuer="i\r\n", subject=subject, organisation=organisation, expires=1)
    headers = [(b"x-request-id", request), (b"traceparent", request)]
    entry = (1e9, Verdict(200, "Allowed", principal=caller), SHOP, "GET", path, None, headers, None)
    record = told(entry)
    assert all(len(value) <= audit.TEXT_MAX for value in record.values() if isinstance(value, str))
    assert all(value.isprintable() for value in record.values() if isinstance(value, str))
    body = spelled(entry)
    assert b"\n" not in body
    assert len(body) < 8_192
    assert chains.belongs(body, CHAIN, 1)


def test_a_very_large_value_is_cut() -> None:
    assert audit.text("a" * 1_000_000) == "a" * 255 + "…"
    assert audit.text("\x1b[31mred\r\nSet-Cookie: a") == "\\x1b[31mred\\r\\nSet-Cookie: a"
    assert audit.text("\u202egnp.exe") == "\\u202egnp.exe"


def test_a_policy_in_words_has_all_of_it() -> None:
    asked = Requirement(
        "shop",
        authenticated=True,
        permissions=(frozenset({"b", "a"}),),
        roles=(frozenset({"editor"}),),
        flags=("beta", "gamma"),
        tenancy=True,
    )
    assert str(asked) == "ROLE permissions=a|b roles=editor flags=beta,gamma tenancy=organisation"
    assert str(Requirement("shop", authenticated=False, flags=("beta",))) == "NONE flags=beta"
    assert authorising.ALLOWED == "Allowed"
