"""What a verified token has to say: who, for whom, from whom, and from when to when."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits.tokens import claims
from schemas.kits.tokens.refusing import Reason, TokenRefused
from tests.doubles import issuers

NOW = 1_900_000_000.0


def accepted(at: float = 0.0, expect: dict[str, Any] | None = None, **more: Any) -> claims.Verified:
    return claims.accepted(issuers.claims(NOW, **more), issuers.expectation(**(expect or {})), NOW + at)


def cast(words: dict[str, Any]) -> dict[str, Any]:
    """Claims of any name, for keyword arguments."""
    return words


def refused(at: float = 0.0, **more: Any) -> Reason:
    with pytest.raises(TokenRefused) as caught:
        accepted(at, **more)
    return caught.value.reason


def test_a_good_token_makes_a_caller() -> None:
    found = accepted(jti="t1", org="acme", roles=["editor", "admin"], permissions="read write  all", extra={"a": 1})
    assert found.issued_at == NOW
    caller = found.principal
    assert (caller.issuer, caller.subject, caller.organisation) == (issuers.ISSUER, "ada", "acme")
    assert caller.roles == {"editor", "admin"}
    assert caller.permissions == {"read", "write", "all"}
    assert caller.token_id == "t1"
    assert caller.expires == NOW + 600
    assert caller.claims["extra"] == {"a": 1}
    with pytest.raises(TypeError):
        caller.claims["sub"] = "eve"  # type: ignore[index]


@pytest.mark.parametrize("missing", ["iss", "sub", "aud", "exp", "iat"])
def test_each_required_claim_is_required(missing: str) -> None:
    assert refused(0.0, **cast({missing: None})) in {Reason.CLAIMS, Reason.ISSUER, Reason.AUDIENCE}


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1900000000", True, -1, [], {}, "x", float("-inf")])
def test_times_are_numbers(name: str, value: object) -> None:
    assert refused(0.0, **cast({name: value})) is Reason.CLAIMS


@pytest.mark.parametrize(("name", "value"), [("sub", ""), ("sub", 7), ("sub", ["ada"]), ("sub", "x" * 257), ("jti", 7),
                                             ("jti", ""), ("org", 7), ("org", ""), ("roles", {"a": 1}), ("roles", [7]),
                                             ("roles", ["a", ""]), ("permissions", 7),
                                             ("roles", ["r"] * 1001)])  # fmt: skip
def test_words_are_words(name: str, value: object) -> None:
    assert refused(0.0, **cast({name: value})) is Reason.CLAIMS


def test_the_issuer_is_spelled_exactly() -> None:
    assert refused(iss="https://issuer.example") is Reason.ISSUER
    assert refused(iss=[issuers.ISSUER]) is Reason.ISSUER


def test_an_issuer_with_a_list_speaks_for_those_on_it_and_no_other() -> None:
    listed = {"organisations": frozenset({"acme", "globex"})}
    assert accepted(expect=listed, org="acme").principal.organisation == "acme"
    for organisation in ("initech", "ACME", "acme ", None):
        with pytest.raises(TokenRefused) as caught:
            accepted(expect=listed, org=organisation)
        assert caught.value.reason is Reason.ORGANISATION
    assert accepted(expect={"organisations": None}, org="initech").principal.organisation == "initech"
    assert accepted(expect={"organisations": None}).principal.organisation is None


@pytest.mark.parametrize("audience", ["modplane", ["modplane"], ["other", "modplane"]])
def test_an_audience_with_us_in_it(audience: object) -> None:
    assert accepted(aud=audience)


@pytest.mark.parametrize("audience", ["", "Modplane", "modplane ", [], ["other"], {"modplane": 1}, 7, "modplane other"])
def test_an_audience_without_us(audience: object) -> None:
    assert refused(aud=audience) is Reason.AUDIENCE


def test_an_audience_holds_words_only() -> None:
    assert refused(aud=["modplane", 7]) is Reason.CLAIMS


def test_it_ends_at_exp_and_the_leeway() -> None:
    assert accepted(609.9)
    assert refused(610.0) is Reason.EXPIRED
    assert refused(exp=NOW - 11, iat=NOW - 60) is Reason.EXPIRED


def test_it_does_not_begin_before_its_time() -> None:
    assert accepted(nbf=NOW + 10, iat=NOW + 10)
    assert refused(nbf=NOW + 11) is Reason.EARLY
    assert refused(iat=NOW + 11) is Reason.EARLY


def test_it_is_not_valid_for_ever() -> None:
    assert refused(exp=1e300) is Reason.LIFETIME
    assert refused(exp=NOW + 86_401) is Reason.LIFETIME
    assert refused(exp=NOW, iat=NOW) is Reason.LIFETIME
    assert accepted(exp=NOW + 86_400)


def test_claims_may_have_other_names_and_places() -> None:
    expect = {"organisation": "https://acme.example/org", "roles": "/realm_access/roles", "permissions": "scope"}
    found = accepted(
        0.0, expect, scope="read", realm_access={"roles": ["editor"]}, **cast({"https://acme.example/org": "acme"})
    ).principal
    assert found.organisation == "acme"
    assert (found.roles, found.permissions) == (frozenset({"editor"}), frozenset({"read"}))
    nothing = accepted(0.0, {"roles": "/a~1b/c~0d"}, **cast({"a/b": 7})).principal
    assert nothing.roles == set()
    assert accepted(0.0, {"roles": "/a~1b/c~0d"}, **cast({"a/b": {"c~d": ["x"]}})).principal.roles == {"x"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "org", "roles"]), anything))
def test_nothing_but_a_refusal_comes_of_strange_claims(strange: dict[str, Any]) -> None:
    try:
        found = claims.accepted({**issuers.claims(NOW), **strange}, issuers.expectation(), NOW)
    except TokenRefused:
        return
    assert found.principal.subject
    assert found.principal.expires + 10 > NOW
