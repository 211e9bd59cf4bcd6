"""Through the whole gateway: every route by every organisation, cold and warm, and flags that count at once."""

import asyncio
from itertools import product
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.gateway import deciding, dispatching, flags, tenants
from dataplane.gateway.authenticating import Authenticator
from dataplane.gateway.standing import Standing
from dataplane.sdk import CurrentPrincipal, OrganisationConfiguration, feature_flag, feature_value
from schemas.flag import FlagDefinition
from schemas.kits.tokens.verifying import Verifier
from schemas.meta import Json
from schemas.module import Tenancy
from schemas.organisation import DesiredOrganisation
from schemas.revocation import RevocationSet, RevocationSpec
from tests.dataplane.gateway.conftest import Gateway
from tests.doubles.asgi import Answer, call
from tests.doubles.callers import Believer, header
from tests.doubles.modules import routes_of

MODULES = ["pricing", "analytics", "billing"]
ORGANISATIONS = ["acme", "globex", "initech"]
PATHS = ["/mine", "/items/1"]


def handlers(router: APIRouter) -> None:
    @router.get("/mine")
    @router.get("/items/{item}")
    async def mine(caller: CurrentPrincipal, configuration: OrganisationConfiguration) -> Json:
        told = {"organisation": caller.organisation, "configuration": dict(configuration)}
        configuration["spoiled"] = caller.organisation
        return told


def switched(router: APIRouter) -> None:
    @router.get("/search")
    async def search(
        new: Annotated[bool, Depends(feature_flag("new_search"))],
        limit: Annotated[int, Depends(feature_value("limit", 10))],
    ) -> Json:
        return {"new": new, "limit": limit}


class Tenanted:
    """A gateway that believes who says who they are."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        authenticator = Authenticator(Verifier([]), {"Test": Believer()})
        self.gate = deciding.Gate(authenticator, self.gateway.clock)
        self.app = dispatching.Dispatcher(self.gateway.host, self.gateway.pages, self.gateway.clock, self.gate)
        self.standing: dict[str, Any] = {}

    def stand(self, **parts: Any) -> None:
        self.standing |= parts
        self.gateway.host.stand(Standing(**self.standing))

    async def install(self) -> None:
        for name in MODULES:
            await self.gateway.install(handlers, name=name, tenancy=Tenancy.ORGANISATION)

    async def get(self, module: str, path: str, who: str | None = None) -> Answer:
        headers = header(who) if who else {}
        return await call(self.app, "GET", f"/api/v1/modules/v1/{module}{path}", headers=headers)

    async def check(self, rights: set[tuple[str, str]]) -> None:
        """Every route by every organisation: its own answer, or none."""
        for module, path, organisation in product(MODULES, PATHS, ORGANISATIONS):
            answer = await self.get(module, path, f"ann@{organisation}")
            if (organisation, module) in rights:
                assert answer.status == 200
                assert answer.json == {
                    "organisation": organisation,
                    "configuration": {"of": f"{organisation} {module}"},
                }
            else:
                assert answer.status == 403
                assert organisation.encode() not in answer.body


def granted(rights: set[tuple[str, str]]) -> dict[str, DesiredOrganisation]:
    return {
        name: DesiredOrganisation.model_validate(
            {
                "enabled": True,
                "accesses": {
                    module: {"enabled": True, "configuration": {"of": f"{name} {module}"}}
                    for owner, module in rights
                    if owner == name
                },
            }
        )
        for name in ORGANISATIONS
    }


RIGHTS = st.sets(st.sampled_from(list(product(ORGANISATIONS, MODULES))))


@settings(max_examples=15)
@given(RIGHTS, RIGHTS)
def test_every_route_answers_every_organisation_as_granted_cold_warm_and_after_a_change(
    first: set[tuple[str, str]], second: set[tuple[str, str]]
) -> None:
    async def scenario() -> None:
        gateway = Tenanted()
        await gateway.install()
        await gateway.check(set())
        tenantry = tenants.TenantSet().with_changes(granted(first))
        gateway.stand(tenants=tenantry)
        await gateway.check(first)
        await gateway.check(first)
        gateway.stand(tenants=tenantry.with_changes(granted(second)))
        await gateway.check(second)
        await gateway.check(second)

    asyncio.run(scenario())


async def test_nobody_and_callers_of_no_organisation_stay_outside() -> None:
    gateway = Tenanted()
    await gateway.install()
    gateway.stand(tenants=tenants.TenantSet().with_changes(granted(set(product(ORGANISATIONS, MODULES)))))
    for module, path in product(MODULES, PATHS):
        assert (await gateway.get(module, path)).status == 401
        assert (await gateway.get(module, path, "ann")).status == 403
        assert (await gateway.get(module, path, "ann@nowhere")).status == 403


async def test_a_user_who_is_denied_is_shut_out_while_remembered_and_the_others_stay_warm() -> None:
    gateway = Tenanted()
    await gateway.install()
    tenantry = tenants.TenantSet().with_changes(granted({("acme", "pricing"), ("acme", "billing")}))
    gateway.stand(tenants=tenantry)
    for module in ("pricing", "billing"):
        assert (await gateway.get(module, "/mine", "eve@acme")).status == 200
    decided = gateway.gate.wire()["decided"]
    acme = granted({("acme", "pricing"), ("acme", "billing")})["acme"]
    denied = acme.accesses["pricing"].model_copy(update={"users_denied": ["eve"]})
    changed = acme.model_copy(update={"accesses": {**acme.accesses, "pricing": denied}})
    gateway.stand(tenants=tenantry.with_changes({"acme": changed}))
    assert (await gateway.get("billing", "/mine", "eve@acme")).status == 200
    assert gateway.gate.wire()["decided"] == decided
    assert (await gateway.get("pricing", "/mine", "eve@acme")).status == 403
    assert (await gateway.get("pricing", "/mine", "ann@acme")).status == 200


async def test_calls_that_are_let_in_are_counted_for_their_organisation() -> None:
    gateway = Tenanted()
    await gateway.install()
    gateway.stand(tenants=tenants.TenantSet().with_changes(granted({("acme", "pricing")})))
    for _ in range(3):
        await gateway.get("pricing", "/mine", "ann@acme")
    await gateway.get("pricing", "/mine", "bob@globex")
    await gateway.get("billing", "/mine", "ann@acme")
    told = gateway.gateway.host.accesses.told()
    assert {pair: count for pair, (count, _) in told.items()} == {("acme", "pricing"): 3}


# --- flags


async def flagged(gateway: Tenanted) -> None:
    def open_route(router: APIRouter) -> None:
        @router.get("/")
        async def root() -> str:
            return "in"

    instance = await gateway.gateway.install(open_route, name="beta")
    (route,) = routes_of(instance.app, ["/"])
    policy = route.policy.model_copy(update={"feature_flags": ["beta"]})
    desired = instance.desired.model_copy(update={"routes": [route.model_copy(update={"policy": policy})]})
    assert gateway.gateway.host.renew("beta", "u1", 2, desired) is not None


ON = FlagDefinition(default_variant="on")


async def test_a_flag_opens_and_shuts_a_route_at_once_and_other_flags_leave_it_warm() -> None:
    gateway = Tenanted()
    await flagged(gateway)
    assert (await gateway.get("beta", "/", "ann@acme")).status == 403
    flagset = flags.FlagSet().with_changes({"beta": ON})
    gateway.stand(flags=flagset)
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200
    decided = gateway.gate.wire()["decided"]
    gateway.stand(flags=flagset.with_changes({"other": ON}))
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200
    assert gateway.gate.wire()["decided"] == decided
    gateway.stand(flags=flagset.with_changes({"beta": FlagDefinition(default_variant="on", kill_switch=True)}))
    assert (await gateway.get("beta", "/", "ann@acme")).status == 403


async def test_an_override_that_expires_shuts_the_route_while_the_caller_is_remembered() -> None:
    gateway = Tenanted()
    await flagged(gateway)
    clock = gateway.gateway.clock
    expires = clock.now().timestamp() + 10
    override = {"key": "ann", "variant": "on", "expires": expires}
    definition = FlagDefinition.model_validate({"overrides": {"users": [override]}})
    gateway.stand(flags=flags.FlagSet().with_changes({"beta": definition}))
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200
    await clock.advance(9.5)
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200
    await clock.advance(1)
    assert (await gateway.get("beta", "/", "ann@acme")).status == 403


async def test_a_revocation_shuts_out_who_is_remembered() -> None:
    gateway = Tenanted()
    await flagged(gateway)
    gateway.stand(flags=flags.FlagSet().with_changes({"beta": ON}))
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200
    assert (await gateway.get("beta", "/", "bob@acme")).status == 200
    revoked = RevocationSet().with_changes({"r": RevocationSpec(issuer="test", subject="ann")})
    gateway.stand(revocations=revoked)
    assert (await gateway.get("beta", "/", "ann@acme")).status == 401
    assert (await gateway.get("beta", "/", "bob@acme")).status == 200
    gateway.stand(revocations=revoked.with_changes({"r": None}))
    assert (await gateway.get("beta", "/", "ann@acme")).status == 200


@pytest.mark.parametrize("who", [None, "ann@acme"])
async def test_handlers_ask_flags_of_the_requests_own_revision(who: str | None) -> None:
    gateway = Tenanted()
    await gateway.gateway.install(switched, name="shop")
    assert (await gateway.get("shop", "/search", who)).json == {"new": False, "limit": 10}
    limit = FlagDefinition(variants={"low": 5, "high": 50}, default_variant="high")
    gateway.stand(flags=flags.FlagSet().with_changes({"new-search": ON, "limit": limit}))
    assert (await gateway.get("shop", "/search", who)).json == {"new": True, "limit": 50}
    gateway.stand(flags=flags.FlagSet().with_changes({"new-search": limit, "limit": ON}))
    assert (await gateway.get("shop", "/search", who)).json == {"new": False, "limit": 10}
