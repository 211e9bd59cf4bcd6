"""API keys: known by their digests, from a file that may change; and how providers are turned on."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dataplane.gateway import apikeys, identifying
from schemas.kits import watchedfiles
from schemas.kits.tokens.issuing import SettingsRefused
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

KEY = b"6f1ed002ab5595859014ebf0951522d9"


def entry(key: bytes = KEY, **more: Any) -> dict[str, Any]:
    return {"sha256": sha256(key).hexdigest(), "subject": "billing-job", **more}


def write(path: Path, *entries: dict[str, Any]) -> dict[str, str]:
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"keys": list(entries)}))
    part.replace(path)
    return {"file": str(path)}


async def test_a_key_is_somebody(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "organisation": "acme",
        "roles": ["r"],
        "permissions": ["p"],
        "expires": "2031-01-01T00:00:00Z",
    }
    provider = apikeys.ApiKeys(write(tmp_path / "keys.json", entry(**more)))
    found = await provider.authenticate(KEY)
    assert found is not None
    assert (found.issuer, found.subject, found.organisation) == ("api-keys", "billing-job", "acme")
    assert (found.roles, found.permissions) == (frozenset({"r"}), frozenset({"p"}))
    assert found.expires == 1_924_992_000.0
    for other in (b"", KEY[:-1], KEY + b"x", KEY.upper(), sha256(KEY).hexdigest().encode(), b"x" * 10_000):
        assert await provider.authenticate(other) is None


async def test_a_short_key_is_nobody(tmp_path: Path) -> None:
    provider = apikeys.ApiKeys(write(tmp_path / "keys.json", entry(b"short")))
    assert await provider.authenticate(b"short") is None


async def test_a_changed_file_counts_and_a_bad_one_does_not(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", FakeClock()
    provider = apikeys.ApiKeys(write(path, entry()), clock)
    await provider.look()
    assert provider.revision == 0
    for bad in ("", "{}", '{"keys": [{"sha256": "x", "subject": "a"}]}'):
        path.write_text(bad)
        await provider.look()
        assert await provider.authenticate(KEY)
    write(path, entry(), entry())
    await provider.look()
    path.unlink()
    await provider.look()
    assert (await provider.authenticate(KEY), provider.revision) != (None, 0)
    write(path, entry(b"k" * 32))
    task = asyncio.create_task(provider.run())
    await until(lambda: clock.sleepers == 1)
    await clock.advance(watchedfiles.LOOK_SECONDS)
    await until(lambda: provider.revision == 1)
    assert await provider.authenticate(KEY) is None
    assert await provider.authenticate(b"k" * 32)
    task.cancel()


@pytest.mark.parametrize("options", [{}, {"file": 7}, {"file": "/x", "more": 1}, {"path": "/x"}])
def test_it_takes_one_option(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one option"):
        apikeys.ApiKeys(options)


def offering(name: str) -> Any:
    assert name == "api-keys"
    return apikeys.ApiKeys


def test_a_provider_is_turned_on_by_name(tmp_path: Path) -> None:
    options = write(tmp_path / "keys.json", entry())
    assert identifying.load("") == {}
    assert list(identifying.load(json.dumps({"api-keys": options}), offering)) == ["ApiKey"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("{", "not JSON"), ("[]", "not an object"), ('{"api-keys": 1}', "not an object"),
        ('{"api-keys": {"file": "/no/such"}}', "does not start"), ('{"no-such": {}}', "no installed package offers"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(setting: str, why: str) -> None:
    with pytest.raises(SettingsRefused, match=why):
        identifying.load(setting, None if "no-such" in setting else offering)


@pytest.mark.parametrize("scheme", ["Bearer", "", "Api Key", "ApiKey"])
def test_a_scheme_is_a_word_of_its_own(tmp_path: Path, scheme: str) -> None:
    class Other(apikeys.ApiKeys):
        pass

    Other.scheme = scheme
    options = write(tmp_path / "keys.json", entry())
    setting = json.dumps({"api-keys": options, "other": options})
    with pytest.raises(SettingsRefused, match="scheme"):
        identifying.load(setting, lambda name: Other if name == "other" else apikeys.ApiKeys)
