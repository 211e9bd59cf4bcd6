"""Route claims: one holder for each (version, namespace, method, path shape)."""

from controlplane.store import stores, transactions
from controlplane.store.records import Claim, Record
from tests.doubles import records

GET = ("GET", "/users/{}", "/users/{id}")
POST = ("POST", "/users", "/users")


def take(name: str, *wanted: tuple[str, str, str], namespace: str = "shop") -> "Taking":
    return Taking(name, wanted, namespace)


class Taking:
    def __init__(self, name: str, wanted: tuple[tuple[str, str, str], ...], namespace: str) -> None:
        self.name, self.wanted, self.namespace = name, wanted, namespace

    def __call__(self, tx: transactions.Transaction) -> tuple[Record, list[Claim]]:
        record = tx.get("Module", self.name) or tx.put(records.module(self.name))
        return record, tx.take_claims(record, "v1", self.namespace, self.wanted)


async def test_the_older_claim_wins_and_nothing_is_taken_beside_it(store: stores.Store) -> None:
    first, refused = await store.write(take("first", GET))
    assert refused == []
    second, refused = await store.write(take("second", GET, POST))
    assert [(claim.module, claim.uid, claim.shape) for claim in refused] == [("first", first.uid, "/users/{}")]
    assert await store.read(lambda reading: reading.claims_of(second.uid)) == []


async def test_a_namespace_and_a_version_keep_claims_apart(store: stores.Store) -> None:
    for name, namespace in (("first", "shop"), ("second", "store")):
        assert (await store.write(take(name, GET, namespace=namespace)))[1] == []
    claims = await store.read(lambda reading: reading.claims("v1", "shop"))
    assert [(claim.module, claim.path) for claim in claims] == [("first", "/users/{id}")]
    assert len(await store.read(lambda reading: reading.claims())) == 2
    assert await store.read(lambda reading: reading.claims("v2")) == []


async def test_claims_keep_their_age_when_a_module_takes_more(store: stores.Store) -> None:
    record, _ = await store.write(take("first", GET))
    await store.write(take("other", POST, namespace="elsewhere"))
    await store.write(take("first", GET, POST))
    held = await store.read(lambda reading: reading.claims_of(record.uid))
    assert [claim.shape for claim in held] == ["/users/{}", "/users"]
    assert held[0].revision < held[1].revision
    revision = store.revision
    await store.write(take("first", GET, POST))
    assert store.revision == revision


async def test_released_claims_are_free_for_others(store: stores.Store) -> None:
    record, _ = await store.write(take("first", GET, POST))
    await store.write(lambda tx: tx.release_claims(record.uid, keep=[("v1", "shop", "POST", "/users")]))
    assert [claim.method for claim in await store.read(lambda reading: reading.claims())] == ["POST"]
    assert (await store.write(take("second", GET)))[1] == []
    await store.write(lambda tx: tx.release_claims(record.uid))
    assert [claim.module for claim in await store.read(lambda reading: reading.claims())] == ["second"]
