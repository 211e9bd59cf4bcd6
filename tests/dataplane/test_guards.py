"""What a worker's settings say of callers, made into its gate; what is not safe ends the start."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane import guards
from dataplane.settings import Settings
from schemas.kits.clocks import SystemClock
from schemas.kits.tokens import development
from schemas.kits.tokens.issuing import SettingsRefused
from tests.doubles import issuers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path, **more)


async def test_without_settings_nobody_is_believed(tmp_path: Path, door: socket.socket) -> None:
    made = guards.make(settings(tmp_path), SystemClock(), door)
    assert made.wire()["issuers"] == []
    assert len(made.refresh(SystemClock())) == 0


async def test_issuers_are_kept_fresh(tmp_path: Path, door: socket.socket) -> None:
    (tmp_path / "keys.json").write_bytes(issuers.jwks(issuers.public_jwk("RS256", "k1")))
    given = {"auth_issuer": issuers.ISSUER, "auth_audience": "modplane", "auth_cache_ttl": 7.0, "auth_cache_tokens": 5}
    made = guards.make(settings(tmp_path, **given, auth_jwks_file=tmp_path / "keys.json"), SystemClock(), door)
    tasks = made.refresh(SystemClock())
    assert len(tasks) == 1
    await tasks.stop()
    assert made.wire()["cache"]["ttlSeconds"] == 7.0
    assert made.wire()["cache"]["tokensMax"] == 5


def test_the_development_key_is_for_a_door_on_this_machine(tmp_path: Path, door: socket.socket) -> None:
    development.ensure(tmp_path)
    lock = os.open(tmp_path / development.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    asked = settings(tmp_path, auth_development=True)
    assert list(guards.make(asked, SystemClock(), door).verifier.issuers) == [development.ISSUER]
    with socket.create_server(("0.0.0.0", 0)) as wide, pytest.raises(SettingsRefused, match="open to other machines"):
        guards.make(asked, SystemClock(), wide)
    os.close(lock)


@pytest.mark.processes
def test_a_worker_does_not_start_with_settings_that_are_not_safe(tmp_path: Path) -> None:
    words = ["--data-dir", str(tmp_path), "--data-port", "0", "--auth-development", "true"]
    done = subprocess.run(
        [sys.executable, "-m", "dataplane", "worker", *words],
        capture_output=True, text=True, timeout=60, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no `modplane up` holds" in done.stderr
