"""Keys from an address: whatever its server does, good tokens go on, strangers cause no traffic, nobody is led away."""

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.kits.backoffs import Backoff
from schemas.kits.tokens import fetching
from schemas.kits.tokens.fetching import Address, FetchedKeys, FetchFailed
from schemas.kits.tokens.keys import Algorithm
from schemas.kits.tokens.refusing import Reason, TokenRefused
from schemas.kits.tokens.verifying import Issuer, Verifier
from tests.doubles import issuers, keyserver
from tests.doubles.clock import FakeClock
from tests.doubles.issuers import jwks, public_jwk, token
from tests.doubles.keyserver import KeyServer, plain
from tests.doubles.polling import until

ONE, TWO = public_jwk("RS256", "k1"), public_jwk("RS256", "k2", "two")
PATIENCE = 30.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    async with keyserver.running(tmp_path) as running:
        yield running


def address(server: KeyServer) -> Address:
    return Address(server.url, private=True, authorities=server.authorities)


def fetched(
    server: KeyServer,
    clock: FakeClock,
    kept: Path | None = None,
    deadline: float = PATIENCE,
    hard_age: float = 3_600.0,
) -> FetchedKeys:
    backoff = Backoff(base=1.0, cap=60.0)
    where = address(server)
    return FetchedKeys(where, Algorithm.RS256, clock, hard_age=hard_age, kept=kept, deadline=deadline, backoff=backoff)


async def get(server: KeyServer, where: Address | None = None, deadline: float = PATIENCE) -> bytes:
    context = ssl.create_default_context(cafile=str(server.authorities))
    return await fetching.fetch(where or address(server), context, deadline=deadline)


async def test_a_set_is_fetched_plainly(server: KeyServer) -> None:
    assert json.loads(await get(server))["keys"][0]["kid"] == "k1"
    head = server.heads[0].lower()
    assert head.startswith(b"get /keys http/1.1\r\n")
    assert f"host: localhost:{server.port}".encode() in head
    assert b"accept-encoding: identity" in head


async def test_a_redirect_leads_nowhere(server: KeyServer) -> None:
    for status in (
        "301 Moved",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "204 No Content",
        "500 Oh",
    ):
        server.answer = plain(b"", status, "location: https://169.254.169.254/latest/meta-data")
        with pytest.raises(FetchFailed, match="redirects are not followed"):
            await get(server)
    assert server.asked == 6


async def test_a_compressed_answer_is_not_unpacked(server: KeyServer) -> None:
    server.answer = plain(gzip.compress(b" " * 50_000_000), "200 OK", "content-encoding: gzip")
    with pytest.raises(FetchFailed, match="compressed"):
        await get(server)


async def test_an_endless_answer_is_cut(server: KeyServer) -> None:
    server.answer = keyserver.endless()
    with pytest.raises(FetchFailed, match="more than 262144 bytes"):
        await get(server)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nx-slow: ", b"HTTP/1.1 2"])
async def test_a_dripping_answer_is_left(server: KeyServer, head: bytes) -> None:
    server.answer = keyserver.dripping(head)
    with pytest.raises(FetchFailed, match="no whole answer"):
        await get(server, deadline=0.5)


async def test_a_server_of_another_name_is_not_believed(server: KeyServer, tmp_path: Path) -> None:
    context = ssl.create_default_context()
    with pytest.raises(FetchFailed, match="certificate"):
        await fetching.fetch(address(server), context, deadline=PATIENCE)
    assert server.asked == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.1.1", "169.254.169.254", "[::1]", "[fe80::1]", "0.0.0.0"]
)
async def test_an_address_that_is_not_public_is_not_dialled(server: KeyServer, host: str) -> None:
    with pytest.raises(FetchFailed, match=r"not public|has no address|gaierror"):
        await get(server, Address(f"https://{host}:{server.port}/keys", private=False, authorities=server.authorities))
    assert server.asked == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "224.0.0.1"])
async def test_a_place_of_the_machine_is_never_dialled(server: KeyServer, host: str) -> None:
    with pytest.raises(FetchFailed, match="not public"):
        await get(server, replace(address(server), url=f"https://{host}:{server.port}/keys"))
    assert server.asked == 0


async def test_nobody_answers(server: KeyServer) -> None:
    server_port = server.port
    server.answer = plain(b"")
    where = replace(address(server), url="https://localhost:1/keys")
    assert server_port != 1
    with pytest.raises(FetchFailed):
        await get(server, where)


async def test_keys_come_in_the_background_and_change_with_the_server(server: KeyServer) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    task = asyncio.create_task(source.run())
    await until(lambda: source.find("k1"), timeout=PATIENCE)
    revision = source.revision
    # rotation with overlap: the new key before its first token, the old one until its last
    server.answer = plain(jwks(ONE, TWO))
    await until(lambda: clock.sleepers == 1, timeout=PATIENCE)
    await clock.advance(331)
    await until(lambda: source.find("k2"), timeout=PATIENCE)
    assert source.find("k1")
    server.answer = plain(jwks(TWO))
    await until(lambda: clock.sleepers == 1, timeout=PATIENCE)
    await clock.advance(331)
    await until(lambda: source.find("k1") is None, timeout=PATIENCE)
    assert source.find("k2")
    assert source.revision == revision + 2
    assert source.wire()["fetches"] == server.asked == 3
    task.cancel()


@pytest.mark.parametrize(
    "lie", [b"", b"{}", jwks(), jwks(ONE, ONE), jwks(public_jwk("ES256", "k9")), b"<html>", b"[" * 9_999]
)
async def test_a_set_that_is_no_better_than_none_changes_nothing(server: KeyServer, lie: bytes) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    task = asyncio.create_task(source.run())
    await until(lambda: source.find("k1"), timeout=PATIENCE)
    revision = source.revision
    server.answer = plain(lie)
    await until(lambda: clock.sleepers == 1, timeout=PATIENCE)
    await clock.advance(331)
    await until(lambda: source.wire()["trouble"], timeout=PATIENCE)
    assert source.find("k1")
    assert source.revision == revision
    # tried again sooner than good keys are refreshed
    server.answer = plain(jwks(ONE, TWO))
    await until(lambda: clock.sleepers == 1, timeout=PATIENCE)
    await clock.advance(60)
    await until(lambda: source.find("k2"), timeout=PATIENCE)
    task.cancel()


async def test_keys_that_are_unseen_for_too_long_are_believed_no_more(server: KeyServer) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    await source.seek("k1")
    assert source.find("k1")
    server.answer = plain(b"", "503 Away")
    await clock.advance(3_599)
    assert source.find("k1")
    await clock.advance(2)
    assert source.find("k1") is None
    assert source.until < clock.monotonic()


async def test_ten_thousand_unknown_key_ids_cause_two_fetches(server: KeyServer) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    box = Verifier([Issuer(issuers.expectation(), Algorithm.RS256, source)])
    good = token().encode()
    assert (await box.verify(good, time.time())).verified.principal.subject == "ada"
    assert server.asked == 1
    await clock.advance(fetching.SEEK_SECONDS)
    strange = token(kid="KID").encode()
    head, rest = strange.split(b".", 1)
    for number in range(10_000):
        kid = issuers.b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": f"random{number}"}).encode())
        with pytest.raises(TokenRefused) as caught:
            await box.verify(kid.encode() + b"." + rest, time.time())
        assert caught.value.reason is Reason.KEY
    assert head
    assert server.asked == 2
    # and none of it is remembered
    assert len(source._keys.keys) == 1
    assert (await box.verify(good, time.time())).holds
    assert server.asked == 2


async def test_who_seeks_together_shares_one_fetch_and_few_wait(server: KeyServer) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    held = asyncio.Event()
    say = plain(jwks(ONE))

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await held.wait()
        await say(writer)

    server.answer = slowly
    seeking = [asyncio.create_task(source.seek(f"k{number}")) for number in range(300)]
    await until(lambda: server.asked == 1, timeout=PATIENCE)
    await until(lambda: sum(task.done() for task in seeking) == 200, timeout=PATIENCE)
    held.set()
    found = await asyncio.gather(*seeking)
    assert [each.kid for each in found if each is not None] == ["k1"]
    assert server.asked == 1


async def test_a_caller_that_leaves_does_not_stop_the_fetch(server: KeyServer) -> None:
    clock = FakeClock()
    source = fetched(server, clock)
    first = asyncio.create_task(source.seek("k1"))
    await asyncio.sleep(0)
    first.cancel()
    await until(lambda: source.find("k1"), timeout=PATIENCE)


async def test_no_key_id_seeks_nothing(server: KeyServer) -> None:
    source = fetched(server, FakeClock())
    assert await source.seek(None) is None
    assert source.fetches == 0


async def test_the_last_good_set_outlives_the_process(server: KeyServer, tmp_path: Path) -> None:
    clock = FakeClock()
    kept = tmp_path / "kept"
    source = fetched(server, clock, kept)
    await source.seek("k1")
    await until(lambda: list(kept.glob("*.json")), timeout=PATIENCE)
    (file,) = kept.glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    await clock.advance(3_000)
    again = fetched(server, clock, kept)
    assert again.find("k1")
    assert again.until == clock.monotonic() + 600
    assert server.asked == 1
    await clock.advance(601)
    assert fetched(server, clock, kept).find("k1") is None
    file.write_text(file.read_text().replace("k1", "k0"))
    assert fetched(server, FakeClock(), kept).find("k0")
    for damage in ("", "[]", "{}", '{"url": 7}', "\x00"):
        file.write_text(damage)
        assert fetched(server, FakeClock(), kept).find("k1") is None


async def test_a_folder_that_cannot_be_written_is_told_and_no_more(server: KeyServer, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    source = fetched(server, FakeClock(), tmp_path / "kept")
    assert await source.seek("k1")


async def test_keys_with_a_short_life_are_fetched_before_it_ends(server: KeyServer) -> None:
    clock = FakeClock()
    keys = fetched(server, clock, hard_age=60.0)
    running = asyncio.create_task(keys.run())
    try:
        await until(lambda: keys.find("k1") is not None)
        for fetches in range(2, 6):
            await until(lambda: clock.sleepers > 0)
            await clock.advance(23.0)
            await until(lambda fetches=fetches: keys.fetches == fetches)  # type: ignore[misc]
            assert keys.find("k1") is not None
    finally:
        running.cancel()
