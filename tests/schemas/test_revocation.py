"""Exactly what is named is shut out, by its own issuer, and for as long as it is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.principals import Principal
from schemas.revocation import RevocationSet, RevocationSpec

ISSUED = 1_000_000.0


def spec(issuer: str = "i", **more: object) -> RevocationSpec:
    return RevocationSpec.model_validate({"issuer": issuer, **more})


def caller(**more: object) -> Principal:
    known: dict[str, object] = {"issuer": "i", "subject": "ann", "organisation": "acme", "token_id": "t1"}
    return Principal(expires=ISSUED + 60, **{**known, **more})  # type: ignore[arg-type]  # a test's own words


def of(*specs: RevocationSpec) -> RevocationSet:
    return RevocationSet().with_changes({f"r{n}": each for n, each in enumerate(specs)})


@pytest.mark.parametrize(
    ("revocation", "who", "reason"),
    [
        (spec(tokenId="t1"), caller(), "TokenRevoked"),
        (spec(tokenId="t1"), caller(token_id="t2"), None),
        (spec(tokenId="t1"), caller(token_id=None), None),
        (spec(tokenId="t1"), caller(issuer="j"), None),
        (spec(subject="ann"), caller(), "SubjectRevoked"),
        (spec(subject="ann"), caller(issuer="j"), None),
        (spec(subject="t1"), caller(), None),
        (spec(organisation="acme"), caller(), "OrganisationRevoked"),
        (spec(organisation="acme"), caller(organisation=None), None),
        (spec(subject="ann", issuedBefore="2000-01-01T00:00:00Z"), caller(), "SubjectRevoked"),
        (spec(subject="ann", issuedBefore="1970-01-01T00:00:00Z"), caller(), None),
    ],
)
def test_exactly_what_is_named_is_shut_out(revocation: RevocationSpec, who: Principal, reason: str | None) -> None:
    assert of(revocation).revoked(who, ISSUED) == reason


def test_a_token_of_that_very_second_is_not_from_before() -> None:
    found = of(spec(subject="ann", issuedBefore="1970-01-12T13:46:40Z"))
    assert found.revoked(caller(), ISSUED) is None
    assert found.revoked(caller(), ISSUED - 1) == "SubjectRevoked"


SPECS = st.sampled_from(
    [
        spec(tokenId="t1"),
        spec(subject="ann"),
        spec(subject="ann", issuedBefore="1970-01-05T00:00:00Z"),
        spec(subject="ann", issuedBefore="1970-01-20T00:00:00Z"),
        spec(organisation="acme"),
        spec("j", organisation="acme"),
    ]
)


@given(st.lists(st.tuples(st.sampled_from("abc"), SPECS | st.none()), max_size=8))
def test_somebody_is_shut_out_as_long_as_any_revocation_says_so(
    steps: list[tuple[str, RevocationSpec | None]],
) -> None:
    found, there = RevocationSet(), dict[str, RevocationSpec]()
    for name, each in steps:
        found = found.with_changes({name: each})
        there.pop(name, None)
        if each is not None:
            there[name] = each
        for who in (caller(), caller(issuer="j"), caller(subject="bob", organisation=None, token_id=None)):
            alone = [of(one).revoked(who, ISSUED) for one in there.values()]
            assert (found.revoked(who, ISSUED) is not None) == any(alone)
