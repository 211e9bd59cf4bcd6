"""Who may call: every clause of a requirement, how things stand, and nothing that is unknown lets anybody in."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dataplane.gateway import authorising
from dataplane.gateway.authorising import Requirement
from dataplane.gateway.standing import Admission, Evaluation, NoFlags, NoRevocations, NoTenants, Standing
from schemas.module import Tenancy
from schemas.policies import OPEN, AuthLevel, AuthRequirement, EffectivePolicy, Match, conjoin
from schemas.principals import Principal

NOW = 1_900_000_000.0


def caller(**more: Any) -> Principal:
    words: dict[str, Any] = {name: frozenset(more.pop(name, ())) for name in ("roles", "permissions")}
    return Principal(issuer="https://issuer.example", subject="ada", expires=NOW + 60, **words, **more)


class Lamps(NoFlags):
    def __init__(self, **lit: float) -> None:
        self.lit = lit

    def evaluate(self, name: str, principal: Principal | None, now: float) -> Evaluation:
        until = self.lit.get(name)
        return Evaluation(until is not None, "FlagOn" if until is not None else "FlagOff", until=until or None)


class Doors(NoTenants):
    def admits(self, module: str, principal: Principal) -> Admission:
        allowed = (module, principal.organisation) == ("shop", "acme")
        return Admission(allowed, "Admitted" if allowed else "NoAccess", {"colour": "red"} if allowed else {})


class Out(NoRevocations):
    def revoked(self, principal: Principal, issued_at: float) -> str | None:
        return "SubjectRevoked" if principal.subject == "eve" or issued_at < 10 else None


def asked(policy: EffectivePolicy, tenancy: Tenancy = Tenancy.SHARED) -> Requirement | None:
    return authorising.requirement("shop", policy, tenancy)


def answer(requirement: Requirement | None, who: Principal | None, standing: Standing | None = None) -> tuple[int, str]:
    assert requirement is not None
    verdict = authorising.decide(requirement, who, 100.0, standing or Standing(), NOW)
    assert verdict.allowed is (verdict.status == 200)
    return verdict.status, verdict.reason


clauses = st.lists(st.frozensets(st.sampled_from(["a", "b", "', '"]), min_size=1), max_size=2).map(tuple)
compiled = st.builds(
    Requirement,
    st.sampled_from(["shop", "a"]),
    authenticated=st.booleans(),
    admin=st.booleans(),
    permissions=clauses,
    roles=clauses,
    flags=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    tenancy=st.booleans(),
)


@given(compiled, compiled)
def test_requirements_have_one_key_exactly_if_they_are_equal(one: Requirement, other: Requirement) -> None:
    """A decision that is remembered for one requirement never answers for another."""
    same = Requirement(
        one.module, authenticated=one.authenticated, admin=one.admin, permissions=one.permissions, roles=one.roles,
        flags=one.flags, tenancy=one.tenancy,
    )  # fmt: skip
    assert (one.key == other.key) is (one == other)
    assert same.key == one.key
    moved = Requirement(
        one.module, authenticated=one.authenticated, permissions=one.roles, roles=one.permissions, flags=one.flags
    )
    assert (moved.key == one.key) is (moved == one)


def test_an_open_policy_asks_for_nothing() -> None:
    assert asked(OPEN) is None
    assert asked(conjoin(None, AuthRequirement(level=AuthLevel.NONE))) is None


def test_basic_asks_for_a_caller() -> None:
    basic = asked(conjoin(None, None))
    assert answer(basic, None) == (401, "NoCredentials")
    assert answer(basic, caller()) == (200, "Allowed")


def test_clauses_conjoin() -> None:
    floor = AuthRequirement(level=AuthLevel.ROLE, roles=["keeper", "owner"])
    route = AuthRequirement(level=AuthLevel.PERMISSION, permissions=["read", "write"], permissions_match=Match.ALL)
    both = asked(conjoin(floor, route))
    assert answer(both, caller(roles=["owner"], permissions=["read", "write", "more"])) == (200, "Allowed")
    assert answer(both, caller(roles=["owner"], permissions=["read"])) == (403, "PermissionMissing")
    assert answer(both, caller(permissions=["read", "write"])) == (403, "RoleMissing")
    anything = asked(conjoin(None, AuthRequirement(permissions=["a", "b"], permissions_match=Match.ANY)))
    assert answer(anything, caller(permissions=["b"])) == (200, "Allowed")
    verdict = authorising.decide(anything, caller(), 100.0, Standing(), NOW)  # type: ignore[arg-type]
    assert verdict.detail == "a or b"


def test_admin_is_a_role() -> None:
    admin = asked(conjoin(None, AuthRequirement(level=AuthLevel.ADMIN)))
    assert answer(admin, caller(roles=["admin"])) == (200, "Allowed")
    assert answer(admin, caller(roles=["Admin"], permissions=["admin"])) == (403, "AdminNeeded")


def test_a_floor_of_admin_holds_over_an_open_route() -> None:
    floor = AuthRequirement(level=AuthLevel.ADMIN)
    assert answer(asked(conjoin(floor, AuthRequirement(level=AuthLevel.NONE))), None)[0] == 401


def test_tenancy_asks_for_an_access_of_the_callers_organisation() -> None:
    own = asked(OPEN, Tenancy.ORGANISATION)
    standing = Standing(tenants=Doors())
    assert answer(own, None, standing) == (401, "NoCredentials")
    assert answer(own, caller(), standing) == (403, "NoAccess")
    assert answer(own, caller(organisation="other"), standing) == (403, "NoAccess")
    assert own is not None
    verdict = authorising.decide(own, caller(organisation="acme"), 100.0, standing, NOW)
    assert (verdict.status, verdict.configuration) == (200, {"colour": "red"})


def test_flags_have_to_be_on_and_say_until_when() -> None:
    flagged = asked(conjoin(None, AuthRequirement(level=AuthLevel.NONE, feature_flags=["a", "b"])))
    assert flagged is not None
    assert answer(flagged, None, Standing(flags=Lamps(a=NOW + 5, b=NOW + 3))) == (200, "Allowed")
    verdict = authorising.decide(flagged, None, 0.0, Standing(flags=Lamps(a=NOW + 5, b=NOW + 3)), NOW)
    assert verdict.until == NOW + 3
    assert authorising.decide(flagged, None, 0.0, Standing(flags=Lamps(a=0, b=0)), NOW).until == math.inf
    assert answer(flagged, None, Standing(flags=Lamps(a=1.0))) == (403, "FlagOff")
    assert answer(flagged, None) == (403, "FlagUnknown")


def test_who_is_revoked_is_nobody() -> None:
    basic = asked(conjoin(None, None))
    standing = Standing(revocations=Out())
    eve = Principal(issuer="i", subject="eve", expires=NOW)
    assert answer(basic, eve, standing) == (401, "SubjectRevoked")
    assert basic is not None
    assert authorising.decide(basic, caller(), 5.0, standing, NOW).status == 401
    flagged = asked(conjoin(None, AuthRequirement(level=AuthLevel.NONE, feature_flags=["a"])))
    assert answer(flagged, eve, Standing(flags=Lamps(a=0), revocations=Out())) == (401, "SubjectRevoked")


def test_revisions_are_of_what_was_read() -> None:
    class Counted(NoFlags):
        def revision_of(self, name: str) -> int:
            return {"a": 3, "b": 7}[name]

    flagged = asked(conjoin(None, AuthRequirement(feature_flags=["a"])))
    assert flagged is not None
    assert authorising.revisions(flagged, Standing(flags=Counted())) == (0, 0, 3)


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
requirements = st.builds(
    AuthRequirement,
    level=st.sampled_from(list(AuthLevel)),
    permissions=words,
    permissions_match=st.sampled_from(list(Match)),
    roles=words,
    roles_match=st.sampled_from(list(Match)),
    feature_flags=words,
)


@given(
    st.none() | requirements,
    st.none() | requirements,
    words,
    words,
    st.booleans(),
    words,
    st.sampled_from(list(Tenancy)),
)
def test_every_word_of_floor_and_route_is_kept(
    floor: AuthRequirement | None,
    route: AuthRequirement | None,
    roles: list[str],
    permissions: list[str],
    known: bool,
    lit: list[str],
    tenancy: Tenancy,
) -> None:
    """Who gets in satisfies both places word by word, read straight from what was declared."""
    required = asked(conjoin(floor, route), tenancy)
    who = caller(roles=roles, permissions=permissions, organisation="acme") if known else None
    standing = Standing(flags=Lamps(**dict.fromkeys(lit, 0.0)), tenants=Doors())
    if required is not None and not authorising.decide(required, who, 100.0, standing, NOW).allowed:
        return
    for each in (floor, route if route is not None else AuthRequirement()):
        if each is None:
            continue
        assert who is not None or each.level is AuthLevel.NONE
        assert each.level is not AuthLevel.ADMIN or "admin" in roles
        assert set(each.feature_flags) <= set(lit)
        for needed, match, held in (
            (each.permissions, each.permissions_match, permissions),
            (each.roles, each.roles_match, roles),
        ):
            if needed:
                assert set(needed) <= set(held) if match is Match.ALL else set(needed) & set(held)
    assert tenancy is Tenancy.SHARED or who is not None
