"""Only users of an organisation with access enter, and nobody by another organisation's."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import StartFailed
from dataplane.gateway import tenants
from schemas.meta import Json
from schemas.organisation import DesiredOrganisation
from schemas.principals import Principal

MODULES = ["pricing", "analytics", "billing"]
ORGANISATIONS = ["acme", "globex", "initech"]


def organisation(enabled: bool = True, /, **accesses: Json) -> DesiredOrganisation:
    full = {module: {"enabled": True, **access} for module, access in accesses.items()}
    return DesiredOrganisation.model_validate({"enabled": enabled, "accesses": full})


def caller(organisation: str | None = "acme", subject: str = "ann") -> Principal:
    return Principal(issuer="i", subject=subject, organisation=organisation, expires=1.0)


def of(**desired: DesiredOrganisation) -> tenants.TenantSet:
    return tenants.TenantSet().with_changes(desired)


@pytest.mark.parametrize(
    ("desired", "who", "reason"),
    [
        (organisation(pricing={}), caller(), "Admitted"),
        (organisation(pricing={}), caller(None), "NoOrganisation"),
        (organisation(pricing={}), caller(""), "NoOrganisation"),
        (organisation(pricing={}), caller("globex"), "OrganisationUnknown"),
        (organisation(pricing={}), caller("ACME"), "OrganisationUnknown"),
        (organisation(False, pricing={}), caller(), "OrganisationDisabled"),
        (organisation(analytics={}), caller(), "NoAccess"),
        (organisation(pricing={"enabled": False}), caller(), "AccessDisabled"),
        (organisation(pricing={"usersDenied": ["ann"]}), caller(), "UserDenied"),
        (organisation(pricing={"usersDenied": ["ann"], "usersAllowed": ["ann"]}), caller(), "UserDenied"),
        (organisation(pricing={"usersAllowed": ["bob"]}), caller(), "UserNotAllowed"),
        (organisation(pricing={"usersAllowed": ["ann"]}), caller(), "Admitted"),
    ],
)
def test_whoever_is_not_named_is_refused(desired: DesiredOrganisation, who: Principal, reason: str) -> None:
    found = of(acme=desired).admits("pricing", who)
    assert (found.allowed, found.reason) == (reason == "Admitted", reason)
    assert found.allowed or found.configuration == {}


def test_an_access_without_enabled_is_closed() -> None:
    desired = DesiredOrganisation.model_validate({"enabled": True, "accesses": {"pricing": {}}})
    assert of(acme=desired).admits("pricing", caller()).reason == "AccessDisabled"


def test_each_organisation_gets_its_own_configuration() -> None:
    found = of(acme=organisation(pricing={"configuration": {"a": 1}}), globex=organisation(pricing={}))
    assert found.admits("pricing", caller()).configuration == {"a": 1}
    assert found.admits("pricing", caller("globex")).configuration == {}


RIGHTS = st.sets(st.sampled_from(list(product(ORGANISATIONS, MODULES))))


def build(rights: set[tuple[str, str]]) -> dict[str, DesiredOrganisation]:
    return {
        name: organisation(**{module: {"configuration": {"of": name}} for owner, module in rights if owner == name})
        for name in ORGANISATIONS
    }


@given(RIGHTS)
def test_the_whole_matrix_is_as_granted(rights: set[tuple[str, str]]) -> None:
    found = of(**build(rights))
    for name, module in product(ORGANISATIONS, MODULES):
        admission = found.admits(module, caller(name))
        assert admission.allowed == ((name, module) in rights)
        assert admission.configuration == ({"of": name} if admission.allowed else {})


@given(RIGHTS, st.lists(st.tuples(st.sampled_from(ORGANISATIONS), RIGHTS), max_size=4))
def test_an_answer_moves_only_with_its_modules_revision(
    first: set[tuple[str, str]], changes: list[tuple[str, set[tuple[str, str]]]]
) -> None:
    found = of(**build(first))
    for name, rights in changes:
        after = found.with_changes({name: build(rights)[name] if rights else None})
        for owner, module in product(ORGANISATIONS, MODULES):
            who = caller(owner)
            if after.revision_of(module) == found.revision_of(module):
                assert after.admits(module, who).allowed == found.admits(module, who).allowed
                assert after.admits(module, who).configuration == found.admits(module, who).configuration
        found = after


def test_a_change_of_one_access_leaves_other_modules_alone() -> None:
    before = of(acme=organisation(pricing={}, analytics={}))
    after = before.with_changes({"acme": organisation(pricing={"usersDenied": ["eve"]}, analytics={})})
    assert after.revision != before.revision
    assert after.revision_of("pricing") != before.revision_of("pricing")
    assert after.revision_of("analytics") == before.revision_of("analytics")
    shut = after.with_changes({"acme": organisation(False, pricing={}, analytics={})})
    assert shut.revision_of("analytics") != after.revision_of("analytics")


def test_secrets_take_the_place_of_their_references_and_a_missing_one_closes_the_access() -> None:
    def reveal(configuration: Json) -> Json:
        if configuration.get("key") == "secret://none":
            raise StartFailed("SecretMissing", "there is none")
        return {**configuration, "key": "value"}

    made = tenants.TenantSet(reveal=reveal).with_changes(
        {
            "acme": organisation(pricing={"configuration": {"key": "secret://api"}}),
            "globex": organisation(pricing={"configuration": {"key": "secret://none"}}, analytics={}),
        }
    )
    assert made.admits("pricing", caller()).configuration == {"key": "value"}
    assert made.admits("pricing", caller("globex")) == tenants.SECRET_MISSING
    assert made.admits("analytics", caller("globex")).allowed


def test_a_missing_secret_that_comes_opens_the_access_and_leaves_other_modules_alone() -> None:
    there: set[str] = set()

    def reveal(configuration: Json) -> Json:
        if (name := configuration.get("key")) is not None and name not in there:
            raise StartFailed("SecretMissing", "there is none")
        return configuration

    made = tenants.TenantSet(reveal=reveal).with_changes(
        {
            "acme": organisation(pricing={"configuration": {"key": "a"}}, analytics={}),
            "globex": organisation(pricing={"configuration": {"key": "b"}}),
        }
    )
    assert made.lacking
    assert made.again() is made
    there.add("a")
    found = made.again()
    assert found.admits("pricing", caller()).configuration == {"key": "a"}
    assert found.admits("pricing", caller("globex")) == tenants.SECRET_MISSING
    assert found.revision_of("pricing") != made.revision_of("pricing")
    assert found.revision_of("analytics") == made.revision_of("analytics")
    there.add("b")
    assert not found.again().lacking
    assert not found.with_changes({"globex": None}).lacking
