"""A key file is taken when it changes and is good; otherwise the last good keys stay."""

import asyncio
from pathlib import Path

import pytest

from schemas.kits import watchedfiles
from schemas.kits.tokens import keys, sources
from schemas.kits.tokens.keys import Algorithm, KeysRefused
from tests.doubles.clock import FakeClock
from tests.doubles.issuers import jwks, public_jwk
from tests.doubles.polling import until

ONE, TWO = public_jwk("RS256", "k1"), public_jwk("RS256", "k2", "two")


def put(path: Path, raw: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(raw)
    part.replace(path)


async def test_a_replaced_file_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(ONE))
    clock = FakeClock()
    source = sources.FileKeys(path, Algorithm.RS256, clock)
    assert source.find("k1")
    assert await source.seek("k2") is None
    task = asyncio.create_task(source.run())
    await until(lambda: clock.sleepers == 1)
    put(path, jwks(ONE, TWO))
    await clock.advance(watchedfiles.LOOK_SECONDS)
    await until(lambda: source.find("k2"))
    assert source.revision == 1
    task.cancel()
    for bad in (b"", b"{}", jwks(ONE, ONE)):
        put(path, bad)
        await source.look()
        assert source.find("k1")
        assert source.wire()["trouble"]
    path.unlink()
    await source.look()
    assert source.find("k1")
    put(path, jwks(TWO))
    await source.look()
    assert source.find("k1") is None
    assert source.revision == 2
    assert source.wire() == {"kind": "file", "path": str(path), "keys": 1, "trouble": ""}
    await source.look()
    put(path, jwks(TWO))
    await source.look()
    assert source.revision == 2


def test_a_file_without_good_keys_is_no_beginning(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(OSError, match=r"keys\.json"):
        sources.FileKeys(path, Algorithm.RS256, FakeClock())
    path.write_bytes(b"{}")
    with pytest.raises(KeysRefused):
        sources.FileKeys(path, Algorithm.RS256, FakeClock())


async def test_fixed_keys_stay(tmp_path: Path) -> None:
    source = sources.FixedKeys(keys.KeySet())
    assert source.find("k1") is None
    assert await source.seek("k1") is None
    task = asyncio.create_task(source.run())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    assert source.wire() == {"kind": "secret"}
