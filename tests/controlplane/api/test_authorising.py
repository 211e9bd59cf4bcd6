"""Nobody does more than the token's role allows, and tenants have no say over the platform."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from controlplane.api import authenticating, authorising, guarding, revoking
from controlplane.api.authorising import Role
from schemas import kinds, names
from schemas.kits.tokens import development
from schemas.kits.tokens.claims import Expectation
from schemas.kits.tokens.sources import FileKeys
from schemas.kits.tokens.verifying import Issuer, Verifier
from schemas.principals import Principal
from tests.doubles import apiparts
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

MODULE = {"metadata": {"name": "orders"}, "spec": {"entryPoint": "mod:Module", "source": {"path": "mod"}}}
TENANT = {"metadata": {"name": "acme"}, "spec": {}}


class Door:
    """The API behind a guard that believes the tokens of one development key."""

    def __init__(self, folder: Path, parts: apiparts.Parts) -> None:
        development.ensure(folder)
        self.folder = folder
        self.revocations = revoking.Revocations(parts.store)
        self.clock = FakeClock()
        expected = Expectation(
            development.ISSUER, development.AUDIENCE, 10.0, 3600.0 * 24, "org", "roles", "permissions"
        )
        keys = FileKeys(development.key_set(folder), development.ALGORITHM, self.clock, development=True)
        self.verifier = Verifier([Issuer(expected, development.ALGORITHM, keys)])
        self.callers = authenticating.Callers(self.verifier, self.clock, self.revocations.revoked, ttl=300.0, tokens=4)
        transport = httpx.ASGITransport(app=guarding.Guard(parts.api.app, self.callers))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7400")

    def token(self, *roles: str, organisation: str | None = None, seconds: float = 3600.0, subject: str = "ada") -> str:
        caller = development.Caller(subject, organisation, roles)
        return development.sign(self.folder, caller, now=self.clock.now().timestamp(), seconds=seconds)

    async def ask(self, method: str, path: str, token: str | None, body: object = None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.client.request(method, path, headers=headers, json=body)


@pytest.fixture
async def door(tmp_path: Path, parts: apiparts.Parts) -> AsyncIterator[Door]:
    made = Door(tmp_path / "keys", parts)
    yield made
    await made.client.aclose()


async def test_probes_are_for_everybody(door: Door) -> None:
    for path in ("/health", "/ready"):
        assert (await door.ask("GET", path, None)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [apiparts.MODULES, "/apis", "/version", "/modules/system/info", "/nowhere", "/health/", "/READY",
     "/api/v1/module-management/modules"],
)  # fmt: skip
async def test_everything_else_asks_who_calls(door: Door, path: str) -> None:
    answer = await door.ask("GET", path, None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "--token" in answer.text


@pytest.mark.parametrize(
    ("roles", "reads", "writes", "tenants"),
    [
        ((), 403, 403, 403),
        (("somebody",), 403, 403, 403),
        (("viewer",), 200, 403, 403),
        (("editor",), 200, 201, 403),
        (("admin",), 200, 201, 201),
        (("viewer", "admin"), 200, 201, 201),
    ],
)
async def test_each_role_may_what_the_one_before_it_may(
    door: Door, roles: tuple[str, ...], reads: int, writes: int, tenants: int
) -> None:
    token = door.token(*roles)
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == reads
    assert (await door.ask("POST", apiparts.MODULES, token, MODULE)).status_code == writes
    assert (await door.ask("POST", f"{names.API_PREFIX}/organisations", token, TENANT)).status_code == tenants


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_a_tenants_token_has_no_say_whatever_its_roles(door: Door, role: str) -> None:
    token = door.token(role, organisation="acme")
    for method in ("GET", "POST"):
        answer = await door.ask(method, apiparts.MODULES, token, MODULE if method == "POST" else None)
        assert answer.status_code == 403
        assert "organisation" in answer.json()["message"]


async def test_what_a_list_holds_needs_the_role_of_its_most_guarded_item(door: Door) -> None:
    body = {"items": [{"kind": "Module", **MODULE}, {"kind": "Revocation", "metadata": {"name": "r"}}]}
    path = f"{names.API_PREFIX}/apply?fieldManager=test"
    answer = await door.ask("POST", path, door.token("editor"), body)
    assert answer.status_code == 403
    assert "admin" in answer.json()["message"]
    assert (await door.ask("GET", f"{apiparts.MODULES}/orders", door.token("viewer"))).status_code == 404
    assert (await door.ask("POST", path, door.token("admin"), body)).status_code == 200


@pytest.mark.parametrize(
    "given",
    ["", "Basic YTpi", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer " + "x" * 9000, "Token TOKEN",
     "Bearer TOKEN TOKEN", "Bearer  TOKEN"],
)  # fmt: skip
async def test_what_is_no_token_is_refused(door: Door, given: str) -> None:
    headers = {"authorization": given.replace("TOKEN", door.token("admin"))}
    answer = await door.client.get(apiparts.MODULES, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["kind"] == "Status"


async def test_two_tokens_are_refused(door: Door) -> None:
    token = f"Bearer {door.token('admin')}"
    answer = await door.client.get(apiparts.MODULES, headers=[("authorization", token), ("authorization", token)])
    assert answer.status_code == 400


async def test_a_token_is_verified_once_and_never_believed_beyond_its_time(door: Door) -> None:
    token = door.token("viewer", seconds=100)
    for _ in range(5):
        assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 200
    assert door.verifier.verified == 1
    await door.clock.advance(111)
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 401


async def test_a_remembered_token_goes_with_its_key(door: Door) -> None:
    token = door.token("viewer")
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 200
    development.private_key(door.folder).unlink()
    development.key_set(door.folder).unlink()
    development.ensure(door.folder)
    for issuer in door.verifier.issuers.values():
        assert isinstance(issuer.keys, FileKeys)
        await issuer.keys.look()
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 401


async def test_a_revoked_token_is_refused_also_while_it_is_remembered(door: Door) -> None:
    """Whoever it names is shut out from the commit on, and comes back when the revocation goes."""
    token, other = door.token("admin", subject="eve"), door.token("admin")
    await door.revocations.load()
    following = asyncio.ensure_future(door.revocations.run())
    try:
        assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 200
        path = f"{names.API_PREFIX}/revocations"
        body = {"metadata": {"name": "eve"}, "spec": {"issuer": development.ISSUER, "subject": "eve"}}
        assert (await door.ask("POST", path, other, body)).status_code == 201

        async def answers(code: int) -> bool:
            return (await door.ask("GET", apiparts.MODULES, token)).status_code == code

        await until(lambda: answers(401))
        assert (await door.ask("DELETE", f"{path}/eve", other)).status_code == 200
        await until(lambda: answers(200))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_revocations_of_before_the_start_count(door: Door) -> None:
    body = {"metadata": {"name": "eve"}, "spec": {"issuer": development.ISSUER, "subject": "eve"}}
    await door.ask("POST", f"{names.API_PREFIX}/revocations", door.token("admin"), body)
    token = door.token("admin", subject="eve")
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 200
    await door.revocations.load()
    assert (await door.ask("GET", apiparts.MODULES, token)).status_code == 401


async def test_however_many_tokens_come_few_are_remembered(door: Door) -> None:
    for number in range(20):
        assert (await door.ask("GET", apiparts.MODULES, door.token("viewer", subject=f"s{number}"))).status_code == 200
    assert len(door.callers._known) == 4


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEARER", "Token", "Bearer ", ""])
async def test_the_scheme_has_one_spelling_here_as_on_the_data_plane(door: Door, scheme: str) -> None:
    value = f"{scheme} {door.token('admin')}"
    answer = await door.client.get(apiparts.MODULES, headers={"authorization": value})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="modplane"')


async def test_who_brings_no_token_may_what_the_operator_says(door: Door, parts: apiparts.Parts) -> None:
    callers = authenticating.Callers(door.verifier, door.clock, lambda *_: False, anonymous=Role.VIEWER)
    transport = httpx.ASGITransport(app=guarding.Guard(parts.api.app, callers))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7400") as client:
        assert (await client.get(apiparts.MODULES)).status_code == 200
        assert (await client.post(apiparts.MODULES, json=MODULE)).status_code == 401
        assert (await client.get(apiparts.MODULES, headers={"authorization": "Bearer x"})).status_code == 401


def test_every_kind_has_its_role_and_no_method_reads_that_writes() -> None:
    guarded = {"Organisation", "ModuleAccess", "Revocation"}
    for kind in kinds.KINDS:
        for path in (f"{names.API_PREFIX}/{kind.plural}", f"{names.API_PREFIX}/{kind.plural}/x/status"):
            assert authorising.needed("GET", path) is Role.VIEWER
            for method in ("POST", "PUT", "PATCH", "DELETE", "BREW", "get"):
                assert authorising.needed(method, path) is (Role.ADMIN if kind.name in guarded else Role.EDITOR)


def test_the_strongest_role_counts() -> None:
    caller = Principal(issuer="i", subject="s", roles=frozenset({"editor", "viewer", "Admin"}), expires=0.0)
    assert authorising.role_of(caller) is Role.EDITOR
    assert json.dumps([role.word for role in Role]) == '["viewer", "editor", "admin"]'
