"""One swap for all that changed, nothing acknowledged before it, and nothing lost that came meanwhile."""

import asyncio

import pytest

from dataplane.agent import standings
from dataplane.errors import DocumentRefused, StartFailed
from dataplane.gateway.standing import Standing
from schemas import documents
from schemas.documents import DesiredDocument
from schemas.flag import FlagDefinition
from schemas.meta import Json
from schemas.organisation import DesiredOrganisation
from schemas.principals import Principal
from schemas.revocation import RevocationSpec
from tests.doubles.clock import FakeClock

ON = FlagDefinition(default_variant="on")
ANN = Principal(issuer="i", subject="ann", organisation="acme", expires=1.0)
ACME = DesiredOrganisation.model_validate({"enabled": True, "accesses": {"pricing": {"enabled": True}}})


class Gate:
    """A gateway that is busy for as long as a test wants."""

    def __init__(self) -> None:
        self.placed: list[Standing] = []
        self.free = asyncio.Event()
        self.told = 0

    async def stand(self, standing: Standing) -> None:
        await self.free.wait()
        self.placed.append(standing)

    def changed(self) -> None:
        self.told += 1


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def made(gate: Gate) -> standings.Standings:
    return standings.Standings(gate.stand, FakeClock(), changed=gate.changed)


async def test_all_kinds_are_placed_with_one_swap(gate: Gate, made: standings.Standings) -> None:
    gate.free.set()
    made.note(
        {
            (standings.FLAG, "beta"): ON,
            (standings.ORGANISATION, "acme"): ACME,
            (standings.REVOCATION, "r"): RevocationSpec(issuer="i", subject="eve"),
        }
    )
    assert made.busy
    await made.settle()
    assert not made.busy
    (placed,) = gate.placed
    assert gate.told == 1
    assert placed.flags.evaluate("beta", ANN, 0).on
    assert placed.tenants.admits("pricing", ANN).allowed
    assert placed.revocations.revoked(Principal(issuer="i", subject="eve", expires=1.0), 0) == "SubjectRevoked"


async def test_what_comes_meanwhile_goes_with_the_next_swap_and_is_busy_until_then(
    gate: Gate, made: standings.Standings
) -> None:
    made.note({(standings.FLAG, "a"): ON})
    await asyncio.sleep(0)
    made.note({(standings.FLAG, "b"): ON})
    made.note({(standings.FLAG, "c"): ON, (standings.FLAG, "a"): None})
    assert made.busy
    gate.free.set()
    await made.settle()
    assert len(gate.placed) == 2
    assert [gate.placed[-1].flags.evaluate(name, ANN, 0).on for name in "abc"] == [False, True, True]
    assert not made.busy
    assert gate.told == 1


async def test_what_did_not_change_is_shared(gate: Gate, made: standings.Standings) -> None:
    gate.free.set()
    made.note({(standings.FLAG, "a"): ON, (standings.ORGANISATION, "acme"): ACME})
    await made.settle()
    made.note({(standings.FLAG, "a"): None})
    await made.settle()
    first, second = gate.placed
    assert second.tenants is first.tenants
    assert second.revocations is first.revocations
    assert second.flags.revision != first.flags.revision


async def test_nothing_noted_places_nothing(gate: Gate, made: standings.Standings) -> None:
    made.note({})
    assert not made.busy
    await made.settle()
    assert gate.placed == []


async def test_a_gateway_that_fails_leaves_it_unacknowledged(made: standings.Standings, gate: Gate) -> None:
    async def fail(_: Standing) -> None:
        raise RuntimeError("the loop is closed")

    broken = standings.Standings(fail, FakeClock(), changed=gate.changed)
    broken.note({(standings.FLAG, "a"): ON})
    await broken.settle()
    assert broken.busy
    assert gate.told == 0


def document(kind: str, payload: str) -> DesiredDocument:
    digest = documents.payload_digest(payload)
    return DesiredDocument(
        kind=kind, name="x", uid="u", generation=1, epoch=1, revision=1, digest=digest, payload=payload
    )


@pytest.mark.parametrize("kind", list(standings.KEYS))
def test_a_payload_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(DocumentRefused) as caught:
        standings.known_of("k", document(kind, "[]"))
    assert caught.value.reason == "PayloadUnreadable"


def test_other_kinds_are_not_known() -> None:
    assert standings.known_of("k", document("Sausage", "{}")) is None


async def test_missing_secrets_are_looked_for_until_they_are_there(gate: Gate) -> None:
    there: list[str] = []
    asked: list[int] = []

    def reveal(configuration: Json) -> Json:
        asked.append(1)
        if not there:
            raise StartFailed("SecretMissing", "there is none")
        return {"key": there[0]}

    clock = FakeClock()
    made = standings.Standings(gate.stand, clock, changed=gate.changed, reveal=reveal)
    gate.free.set()
    made.note({(standings.ORGANISATION, "acme"): ACME})
    await made.settle()
    assert not gate.placed[-1].tenants.admits("pricing", ANN).allowed
    await clock.advance(standings.LOOK_SECONDS * 2)
    assert len(asked) == 3
    assert len(gate.placed) == 1
    there.append("value")
    await clock.advance(standings.LOOK_SECONDS)
    await made.settle()
    assert gate.placed[-1].tenants.admits("pricing", ANN).configuration == {"key": "value"}
    await clock.advance(standings.LOOK_SECONDS * 3)
    assert len(asked) == 4
    await made.stop()
