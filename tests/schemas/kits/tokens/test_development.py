"""The development key: made once, private, and believed only where a living `modplane up` holds the folder."""

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.kits.clocks import SystemClock
from schemas.kits.tokens import development, issuing
from schemas.kits.tokens.development import Caller
from schemas.kits.tokens.issuing import Ground, SettingsRefused, TokenOptions
from schemas.kits.tokens.refusing import TokenRefused


def options(**more: Any) -> TokenOptions:
    return TokenOptions(_env_file=None, **more)


class Held:
    """The lock of a living `up`."""

    def __init__(self, folder: Path) -> None:
        self.lock = os.open(folder / development.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def release(self) -> None:
        os.close(self.lock)


async def test_a_token_is_believed_while_up_holds_the_folder(tmp_path: Path) -> None:
    development.ensure(tmp_path)
    held = Held(tmp_path)
    box = issuing.verifier(options(auth_development=True), Ground(SystemClock(), None, tmp_path))
    now = time.time()
    caller = Caller("ada", "acme", ["editor"], ["read", "read"])
    token = development.sign(tmp_path, caller, now=now, seconds=60)
    found = (await box.verify(token.encode(), now)).verified.principal
    assert (found.issuer, found.subject, found.organisation) == (development.ISSUER, "ada", "acme")
    assert (found.roles, found.permissions) == (frozenset({"editor"}), frozenset({"read"}))
    assert found.token_id is not None
    nobody = development.sign(tmp_path, Caller("bob"), now=now, seconds=60)
    assert (await box.verify(nobody.encode(), now)).verified.principal.organisation is None
    held.release()
    with pytest.raises(SettingsRefused, match="no `modplane up` holds"):
        issuing.verifier(options(auth_development=True), Ground(SystemClock(), None, tmp_path))


async def test_without_the_setting_it_is_not_believed(tmp_path: Path) -> None:
    development.ensure(tmp_path)
    held = Held(tmp_path)
    box = issuing.verifier(options(), Ground(SystemClock(), None, tmp_path))
    token = development.sign(tmp_path, Caller("ada"), now=time.time(), seconds=60)
    with pytest.raises(TokenRefused):
        await box.verify(token.encode(), time.time())
    held.release()


def test_its_key_set_is_refused_as_anybody_elses(tmp_path: Path) -> None:
    development.ensure(tmp_path)
    file = str(development.key_set(tmp_path))
    given = {"auth_issuer": "https://issuer.example/", "auth_audience": "modplane", "auth_algorithm": "ES256"}
    with pytest.raises(SettingsRefused, match="development key of `modplane up`"):
        issuing.verifier(options(**given, auth_jwks_file=file), Ground(SystemClock(), None, tmp_path))
    with pytest.raises(SettingsRefused, match="cannot be configured"):
        issuing.verifier(
            options(**{**given, "auth_issuer": development.ISSUER}, auth_jwks_file=file),
            Ground(SystemClock(), None, tmp_path),
        )


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    development.ensure(tmp_path)
    before = development.private_key(tmp_path).read_bytes()
    assert development.private_key(tmp_path).stat().st_mode & 0o777 == 0o600
    assert development.private_key(tmp_path).parent.stat().st_mode & 0o777 == 0o700
    development.key_set(tmp_path).unlink()
    development.ensure(tmp_path)
    assert development.private_key(tmp_path).read_bytes() == before
    assert development.key_set(tmp_path).exists()
    development.private_key(tmp_path).write_text("damaged")
    development.ensure(tmp_path)
    assert development.private_key(tmp_path).read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_nobody_holds_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not development.is_held(tmp_path / "none")
    held = Held(tmp_path)
    assert development.is_held(tmp_path)
    held.release()
    assert not development.is_held(tmp_path)
