"""Route claims: one holder for each (version, namespace, method, path shape)."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.store import neighbouring, readings, stores, transactions
from controlplane.store.records import Claim, Contest, Record
from schemas import paths
from tests.doubles import records
from tests.doubles.databases import sqlite_store

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


async def test_a_mounted_application_takes_a_shape_for_itself(store: stores.Store) -> None:
    mount = ("*", "/files/{:path}", "/files/{path:path}")
    read = ("GET", "/files/{:path}", "/files/{rest:path}")
    assert (await store.write(take("mounted", mount)))[1] == []
    assert [claim.module for claim in (await store.write(take("reader", read)))[1]] == ["mounted"]
    assert (await store.write(take("reader", read, namespace="other")))[1] == []
    assert [claim.module for claim in (await store.write(take("late", mount, namespace="other")))[1]] == ["reader"]
    assert (await store.write(take("mounted", mount, read)))[1] == [], "a module does not stand in its own way"


async def test_what_a_module_is_refused_is_kept_until_it_is_told_anew(store: stores.Store) -> None:
    refused = Contest("v1", "shop", *GET, "u-two", "two", datetime(2030, 1, 1, tzinfo=UTC))
    await store.write(lambda tx: tx.contest("u-two", [refused]))
    await store.write(lambda tx: tx.contest("u-two", [refused]))
    for uid, others in (("u-one", [refused]), ("u-two", [])):
        found = await store.read(lambda reading, uid=uid: contests_at(reading, uid))  # type: ignore[misc]
        assert found == others, "one's own is not told"
    assert await store.read(lambda reading: neighbouring.contests_of(reading.ask, "u-two")) == [refused]
    assert await store.read(lambda reading: neighbouring.contests(reading.ask)) == [refused]
    await store.write(lambda tx: tx.contest("u-two", []))
    assert await store.read(lambda reading: neighbouring.contests(reading.ask)) == []


def contests_at(reading: readings.Reading, uid: str) -> list[Contest]:
    return neighbouring.contests_at(reading.ask, "v1", "shop", uid, ["/nothing", GET[1]])


async def test_an_object_that_goes_is_refused_nothing_any_more(store: stores.Store) -> None:
    record, _ = await store.write(take("first"))
    refused = Contest("v1", "shop", *GET, record.uid, "first", datetime(2030, 1, 1, tzinfo=UTC))
    await store.write(lambda tx: tx.contest(record.uid, [refused]))
    await store.write(lambda tx: tx.remove(record))
    assert await store.read(lambda reading: neighbouring.contests(reading.ask)) == []


async def test_neighbours_are_those_that_may_catch_a_request_in_common(store: stores.Store) -> None:
    templates = ["/", "/{p:path}", "/a", "/a/{x}", "/a/b/{y}", "/a/b/c", "/ab/{x}", "/b", "/b/{z}"]
    wanted = [("GET", paths.path_shape(path), path) for path in templates]
    record, _ = await store.write(take("other", *wanted))

    async def near(*asked: str, uid: str = "mine") -> list[str]:
        found = await store.read(lambda r: neighbouring.claims_near(r.ask, "v1", "shop", uid, asked))
        return sorted(claim.path for claim in found)

    assert await near("/a/b/x") == ["/", "/a/b/{y}", "/a/{x}", "/{p:path}"]
    assert await near("/a/{z}") == ["/", "/a/b/c", "/a/b/{y}", "/a/{x}", "/{p:path}"]
    assert await near("/b/{z}", "/ab/x") == ["/", "/ab/{x}", "/b/{z}", "/{p:path}"]
    assert await near("/{q}") == sorted(templates)
    assert await near("/{q}", uid=record.uid) == []


async def test_only_a_module_with_company_is_compared(store: stores.Store) -> None:
    async def anybody(uid: str, namespace: str = "shop") -> bool:
        return await store.read(lambda reading: neighbouring.anybody(reading.ask, "v1", namespace, uid))

    record, _ = await store.write(take("first", GET, POST))
    assert not await anybody(record.uid)
    assert not await anybody("somebody", "elsewhere")
    assert await anybody("somebody")
    assert await store.read(lambda reading: neighbouring.shared(reading.ask)) == []
    second, _ = await store.write(take("second", ("PUT", "/", "/")))
    assert await store.read(lambda reading: neighbouring.shared(reading.ask)) == [("v1", "shop")]
    await store.write(lambda tx: tx.release_claims(second.uid))
    refused = Contest("v1", "shop", *GET, second.uid, "second", datetime(2030, 1, 1, tzinfo=UTC))
    await store.write(lambda tx: tx.contest(second.uid, [refused]))
    assert await anybody(record.uid)
    assert await anybody(second.uid, "moved-to"), "it has something to withdraw"


@pytest.mark.parametrize("shared", [True, False], ids=["one namespace", "a namespace each"])
async def test_a_check_reads_as_much_beside_a_thousand_modules_as_beside_ten(tmp_path: Path, shared: bool) -> None:
    """Rows are counted by SQLite itself: how many steps its programs make."""
    wanted = [(method, f"/mine/r{n}/{{}}", f"/mine/r{n}/{{id}}") for n in range(5) for method in ("GET", "PUT")]
    counted = []
    async with sqlite_store(tmp_path) as opened:
        for first, last in ((0, 10), (10, 1000)):
            for start in range(first, last, 90):
                numbers = range(start, min(start + 90, last))
                await opened.write(lambda tx, numbers=numbers: held(tx, numbers, shared=shared))  # type: ignore[misc]
            counted.append(await opened.read(lambda reading: steps(reading, lambda ask: check(ask, wanted))))
    few, many = counted
    assert few > 100
    assert many <= few + 20


def held(tx: transactions.Transaction, numbers: Iterable[int], *, shared: bool) -> None:
    for number in numbers:
        record = tx.put(records.module(f"m{number}"))
        claims = [("GET", f"/m{number}/r{n}/{{}}", f"/m{number}/r{n}/{{id}}") for n in range(10)]
        assert tx.take_claims(record, "v1", "shop" if shared else f"n{number}", claims) == []


def check(ask: neighbouring.Ask, wanted: Sequence[tuple[str, str, str]]) -> None:
    neighbouring.anybody(ask, "v1", "shop", "mine")
    assert neighbouring.claims_at(ask, "v1", "shop", {shape for _, shape, _ in wanted}) == []
    assert neighbouring.claims_near(ask, "v1", "shop", "mine", {path for _, _, path in wanted}) == []
    assert neighbouring.contests_at(ask, "v1", "shop", "mine", {shape for _, shape, _ in wanted}) == []


def steps(reading: readings.Reading, work: Callable[[neighbouring.Ask], None]) -> int:
    """How many steps of SQLite's machine some questions take."""
    raw = reading._open().connection.dbapi_connection
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    raw.set_progress_handler(count, 1)  # type: ignore[union-attr]
    try:
        work(reading.ask)
    finally:
        raw.set_progress_handler(None, 1)  # type: ignore[union-attr]
    return counted[0]


async def test_who_has_seen_its_claims_takes_no_look_at_others_and_one_that_gave_some_up_does(
    store: stores.Store,
) -> None:
    first, _ = await store.write(take("first", GET, POST))

    def again(tx: transactions.Transaction) -> list[Claim]:
        assert len(tx.claims_of(first.uid)) == 2
        assert tx.take_claims(first, "v1", "shop", [GET, POST]) == []
        tx.release_claims(first.uid, keep=[("v1", "shop", "GET", "/users/{}")])
        return tx.claims_of(first.uid)

    assert [claim.method for claim in await store.write(again)] == ["GET"]
    second, refused = await store.write(take("second", POST))
    assert refused == []

    def too_late(tx: transactions.Transaction) -> list[Claim]:
        tx.claims_of(first.uid)
        return tx.take_claims(first, "v1", "shop", [GET, POST])

    assert [claim.uid for claim in await store.write(too_late)] == [second.uid]
