"""What is remembered of callers: as long as it holds, not a moment longer, and never a refusal."""

import gc
import json
import sys
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from dataplane.gateway import authenticating, deciding
from dataplane.gateway.authenticating import Authenticator
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.snapshots import Snapshot
from dataplane.gateway.standing import Admission, Evaluation, NoFlags, NoRevocations, NoTenants, Standing
from schemas.kits.tokens import keys, sources
from schemas.kits.tokens.keys import Algorithm
from schemas.kits.tokens.verifying import Issuer, Verifier
from schemas.principals import Principal
from tests.doubles import issuers
from tests.doubles.asgi import http_scope
from tests.doubles.clock import FakeClock
from tests.doubles.issuers import claims, jwks, public_jwk, token

START = datetime(2030, 1, 1, tzinfo=UTC)
NOW = START.timestamp()
BASIC = Requirement("shop", authenticated=True)
READ = Requirement("shop", authenticated=True, permissions=(frozenset({"read"}),))


class Flags(NoFlags):
    """Flags with revisions of their own."""

    def __init__(self, lit: dict[str, float | None], revisions: dict[str, int] | None = None) -> None:
        self.lit = lit
        self.revisions = revisions or {}

    def revision_of(self, name: str) -> int:
        return self.revisions.get(name, 0)

    def evaluate(self, name: str, principal: Principal | None, now: float) -> Evaluation:
        until = self.lit.get(name, 0.0)
        return Evaluation(name in self.lit and (until is None or now < until), "x", until=until)


class Out(NoRevocations):
    def __init__(self, revision: int, *subjects: str) -> None:
        self.number = revision
        self.subjects = subjects

    @property
    def revision(self) -> int:  # type: ignore[override]
        return self.number

    def revoked(self, principal: Principal, issued_at: float) -> str | None:
        return "SubjectRevoked" if principal.subject in self.subjects else None


class Doors(NoTenants):
    def __init__(self, revision: int, *organisations: str) -> None:
        self.number = revision
        self.organisations = organisations

    def revision_of(self, module: str) -> int:
        return self.number

    def admits(self, module: str, principal: Principal) -> Admission:
        return Admission(principal.organisation in self.organisations, "x", {"of": principal.organisation})


class Bench:
    """A gate over one issuer, and what it has verified."""

    def __init__(self, **more: Any) -> None:
        self.clock = FakeClock(START)
        self.source = sources.FixedKeys(keys.read_set(jwks(public_jwk("RS256", "k1")), Algorithm.RS256))
        self.verifier = Verifier([Issuer(issuers.expectation(), Algorithm.RS256, self.source)])
        self.gate = deciding.Gate(Authenticator(self.verifier), self.clock, **more)
        self.snapshot = Snapshot()

    async def ask(self, text: str | None, asked: Requirement = BASIC) -> Verdict:
        return await self.say(None if text is None else f"Bearer {text}", asked)

    async def say(self, value: str | None, asked: Requirement = BASIC) -> Verdict:
        scope = http_scope("GET", "/", headers={} if value is None else {"authorization": value})
        shown, _ = authenticating.read(scope)
        return self.gate.known(shown, asked, self.snapshot) or await self.gate.learn(shown, asked, self.snapshot)

    def stand(self, **more: Any) -> None:
        self.snapshot = self.snapshot.with_standing(Standing(**more))

    def rotate(self, *found: dict[str, Any]) -> None:
        self.source._keys = keys.read_set(jwks(*found), Algorithm.RS256)
        self.source.revision += 1


def good(**more: Any) -> str:
    return token(claims(NOW, **more))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_caller_is_verified_once(bench: Bench) -> None:
    text = good()
    for _ in range(5):
        verdict = await bench.ask(text)
        assert verdict.allowed
        assert verdict.principal is not None
        assert verdict.principal.subject == "ada"
    assert bench.verifier.verified == 1
    assert bench.gate.wire()["remembered"] == 4


async def test_a_permission_is_of_one_requirement(bench: Bench) -> None:
    text = good()
    assert (await bench.ask(text)).status == 200
    for _ in range(3):
        assert (await bench.ask(text, READ)).status == 403
        assert (await bench.ask(good(sub="eve", permissions=["read"]), READ)).status == 200
    assert (await bench.ask(good(permissions=["read"]), READ)).status == 200


async def test_an_equal_requirement_of_a_new_generation_is_the_same(bench: Bench) -> None:
    text = good(permissions=["read"])
    await bench.ask(text, READ)
    again = Requirement("shop", authenticated=True, permissions=(frozenset({"read"}),))
    assert again is not READ
    await bench.ask(text, again)
    assert bench.gate.wire()["remembered"] == 1
    await bench.ask(text, Requirement("other", authenticated=True, permissions=(frozenset({"read"}),)))
    assert bench.gate.wire()["remembered"] == 1


async def test_it_ends_with_the_token(bench: Bench) -> None:
    text = good(exp=NOW + 100)
    assert (await bench.ask(text)).allowed
    await bench.clock.advance(99.9)
    assert (await bench.ask(text)).allowed
    assert bench.verifier.verified == 1
    # within the leeway it is verified each time, and not remembered
    await bench.clock.advance(0.1)
    assert (await bench.ask(text)).allowed
    assert (await bench.ask(text)).allowed
    assert bench.verifier.verified == 3
    assert bench.gate.wire()["tokens"] == 0
    await bench.clock.advance(10)
    verdict = await bench.ask(text)
    assert (verdict.status, verdict.reason) == (401, "TokenExpired")


async def test_it_is_verified_anew_after_a_while(bench: Bench) -> None:
    text = good()
    await bench.ask(text)
    await bench.clock.advance(299)
    await bench.ask(text)
    assert bench.verifier.verified == 1
    await bench.clock.advance(1)
    await bench.ask(text)
    assert bench.verifier.verified == 2


async def test_without_a_time_to_live_nothing_is_remembered() -> None:
    bench = Bench(ttl=0.0)
    for _ in range(3):
        assert (await bench.ask(good())).allowed
    assert bench.verifier.verified == 3
    assert bench.gate.wire()["tokens"] == 0


async def test_a_rotated_key_takes_its_callers_with_it(bench: Bench) -> None:
    text = good()
    await bench.ask(text)
    bench.rotate(public_jwk("RS256", "k1"), public_jwk("RS256", "k2", "two"))
    assert (await bench.ask(text)).allowed
    assert bench.verifier.verified == 1
    bench.rotate(public_jwk("RS256", "k2", "two"))
    verdict = await bench.ask(text)
    assert (verdict.status, verdict.reason) == (401, "KeyUnknown")
    bench.rotate(public_jwk("RS256", "k1", "two"))
    assert (await bench.ask(text)).reason == "SignatureWrong"


async def test_keys_too_old_to_be_believed_take_their_callers_with_them(bench: Bench) -> None:
    bench.source.until = 50.0
    text = good()
    await bench.ask(text)
    await bench.clock.advance(49)
    await bench.ask(text)
    assert bench.verifier.verified == 1
    await bench.clock.advance(1)
    await bench.ask(text)
    assert bench.verifier.verified == 2


async def test_a_revocation_counts_with_the_next_request(bench: Bench) -> None:
    text, other = good(), good(sub="bob")
    await bench.ask(text)
    await bench.ask(other)
    bench.stand(revocations=Out(1, "ada"))
    verdict = await bench.ask(text)
    assert (verdict.status, verdict.reason) == (401, "SubjectRevoked")
    assert (await bench.ask(other)).allowed
    bench.stand(revocations=Out(2))
    assert (await bench.ask(text)).allowed
    assert bench.verifier.verified == 2


async def test_a_flag_counts_with_the_next_request_and_another_does_not_matter(bench: Bench) -> None:
    flagged = Requirement("shop", authenticated=True, flags=("beta",))
    text = good()
    bench.stand(flags=Flags({"beta": None}, {"beta": 1, "other": 1}))
    assert (await bench.ask(text, flagged)).allowed
    bench.stand(flags=Flags({"beta": None}, {"beta": 1, "other": 2}))
    assert (await bench.ask(text, flagged)).allowed
    assert bench.gate.wire()["remembered"] == 1
    bench.stand(flags=Flags({}, {"beta": 2, "other": 2}))
    assert (await bench.ask(text, flagged)).status == 403
    bench.stand(flags=Flags({"beta": None}, {"beta": 3}))
    assert (await bench.ask(text, flagged)).allowed


async def test_a_permission_ends_with_the_earliest_override_that_it_used(bench: Bench) -> None:
    flagged = Requirement("shop", authenticated=True, flags=("beta",))
    text = good()
    bench.stand(flags=Flags({"beta": NOW + 20}))
    assert (await bench.ask(text, flagged)).allowed
    await bench.clock.advance(19)
    assert (await bench.ask(text, flagged)).allowed
    assert bench.gate.wire()["remembered"] == 1
    await bench.clock.advance(1)
    assert (await bench.ask(text, flagged)).status == 403


async def test_an_access_counts_with_the_next_request_and_is_of_one_organisation(bench: Bench) -> None:
    own = Requirement("shop", authenticated=True, tenancy=True)
    acme, umbrella = good(org="acme"), good(org="umbrella")
    bench.stand(tenants=Doors(1, "acme", "umbrella"))
    for _ in range(2):
        assert (await bench.ask(acme, own)).configuration == {"of": "acme"}
        assert (await bench.ask(umbrella, own)).configuration == {"of": "umbrella"}
    bench.stand(tenants=Doors(2, "umbrella"))
    assert (await bench.ask(acme, own)).status == 403
    assert (await bench.ask(umbrella, own)).allowed


async def test_an_unrelated_publish_leaves_everything_warm(bench: Bench) -> None:
    text = good()
    await bench.ask(text)
    for _ in range(10):
        bench.stand()
        assert (await bench.ask(text)).allowed
    assert bench.gate.wire()["decided"] == 1


async def test_refusals_are_not_remembered(bench: Bench) -> None:
    bad = token(claims(NOW), name="two")
    for _ in range(3):
        assert (await bench.ask(bad)).status == 401
    assert bench.gate.wire()["tokens"] == 0
    assert bench.verifier.refused == 3
    bench.rotate(public_jwk("RS256", "k1", "two"))
    assert (await bench.ask(bad)).allowed


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("Basic YTpi", "SchemeUnknown"), ("bearer x", "SchemeUnknown"), ("Bearer", "TokenMalformed"), ("",
        "SchemeUnknown"),
        ("Bearer  x", "TokenMalformed"), ("ApiKey x", "SchemeUnknown"), ("Bearer x y", "TokenMalformed"),
    ],
)  # fmt: skip
async def test_other_headers_are_no_token(bench: Bench, value: str, reason: str) -> None:
    verdict = await bench.say(value)
    assert (verdict.status, verdict.reason) == (401, reason)


async def work(bench: Bench, text: str) -> list[str]:
    """Everything that is called for one decision, Python's functions and the interpreter's own, in order."""
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)
        elif event == "c_call":
            called.append(argument.__qualname__)

    gc.disable()  # what is collected meanwhile is no part of it
    sys.setprofile(note)
    try:
        await bench.ask(text)
    finally:
        sys.setprofile(None)
        gc.enable()
    return called


async def test_a22_who_cannot_sign_learns_nothing_of_a_subject_by_the_time_it_takes(bench: Bench) -> None:
    """The same work is done for a wrong signature whoever is named: who is remembered, revoked, or nobody at all."""
    bench.stand(revocations=Out(1, "mallory"))
    assert (await bench.ask(good(sub="ada"))).status == 200
    assert (await bench.ask(good(sub="mallory"))).status == 401
    names: list[dict[str, Any]] = [
        {"sub": "ada"},
        {"sub": "mallory"},
        {"sub": "nobody"},
        {"sub": "ada", "org": "acme", "roles": ["admin"]},
    ]
    forged = [token(claims(NOW, **more), name="two") for more in names]
    done = [await work(bench, text) for text in forged + forged]
    assert "_signed" in done[0]
    assert all(each == done[0] for each in done)
    assert await work(bench, good(sub="nobody")) != done[0]


async def test_two_headers_are_none(bench: Bench) -> None:
    scope = http_scope("GET", "/", headers={"authorization": f"Bearer {good()}"})
    scope["headers"].append((b"authorization", b"Bearer x"))
    shown, _ = authenticating.read(scope)
    verdict = bench.gate.known(shown, BASIC, bench.snapshot)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (401, "SeveralCredentials")


async def test_nobody_is_asked_twice(bench: Bench) -> None:
    assert (await bench.ask(None)).reason == "NoCredentials"
    anonymous = Requirement("shop", authenticated=False, flags=("beta",))
    bench.stand(flags=Flags({"beta": None}))
    assert (await bench.ask(None, anonymous)).allowed
    assert (await bench.ask(good(), anonymous)).principal is not None
    assert (await bench.ask("x", anonymous)).status == 401


async def test_memory_is_bounded_and_the_last_used_stay() -> None:
    bench = Bench(tokens=10)
    first = good(sub="first")
    await bench.ask(first)
    for number in range(50):
        await bench.ask(good(sub=f"n{number}"))
        await bench.ask(first)
    shown = bench.gate.wire()
    assert (shown["tokens"], shown["evicted"]) == (10, 41)
    assert bench.verifier.verified == 51
    for number in range(1_000):
        await bench.ask(first, Requirement(f"m{number}", authenticated=True))
    (session,) = [each for each in bench.gate._sessions.values() if each.caller.principal.subject == "first"]
    assert len(session.decisions) <= 128


async def test_an_auth_provider_is_asked_once_until_it_changes() -> None:
    class Badges:
        scheme = "Badge"
        revision = 0
        asked = 0
        failing = False

        async def authenticate(self, credentials: bytes) -> Principal | None:
            self.asked += 1
            if self.failing:
                raise RuntimeError("of the provider")
            expires = NOW + 50 if credentials == b"42" else NOW - 1
            return None if credentials == b"0" else Principal(issuer="badges", subject="ada", expires=expires)

        async def run(self) -> None:
            return

    badges = Badges()
    bench = Bench()
    authenticator = Authenticator(bench.verifier, {"Badge": badges})
    bench.gate = deciding.Gate(authenticator, bench.clock)
    assert authenticator.challenges.missing == (
        (b"www-authenticate", b'Bearer realm="modplane"'), (b"www-authenticate", b'Badge realm="modplane"'),
    )  # fmt: skip
    for _ in range(3):
        assert (await bench.say("Badge 42")).allowed
    assert badges.asked == 1
    badges.revision = 1
    assert (await bench.say("Badge 42")).allowed
    assert badges.asked == 2
    assert (await bench.say("Badge 0")).reason == authenticating.NOT_KNOWN
    assert (await bench.say("Badge 1")).reason == authenticating.NOT_KNOWN
    assert (await bench.say("badge 42")).reason == authenticating.SCHEME
    badges.revision, badges.failing = 2, True
    assert (await bench.say("Badge 42")).reason == authenticating.PROVIDER


async def test_a_gate_without_issuers_believes_nobody() -> None:
    gate = deciding.closed(FakeClock(START))
    shown = (f"Bearer {good()}".encode(),)
    assert gate.known(shown, BASIC, Snapshot()) is None
    assert (await gate.learn(shown, BASIC, Snapshot())).reason == "IssuerUnknown"
    assert json.dumps(gate.wire())
