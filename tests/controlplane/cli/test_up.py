"""`modplane up`: what it starts, from its options, and what it refuses before it starts anything."""

import socket
from pathlib import Path

import pytest

from controlplane.cli import exits, main, supervising
from schemas.kits import natsserver


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[supervising.System]:
    """What would have been run."""
    systems: list[supervising.System] = []

    async def run(self: supervising.Supervisor) -> int:
        systems.append(self.system)
        return 0

    monkeypatch.setattr(supervising.Supervisor, "run", run)
    monkeypatch.chdir(tmp_path)
    return systems


def up(tmp_path: Path, *words: str) -> int:
    ports = [
        word for port in ("--control-port", "--data-port", "--nats-port") if port not in words for word in (port, "0")
    ]
    return main.run(["up", "--data-dir", str(tmp_path / "data"), *ports, *words])


def test_the_parts_are_told_where_everything_is(started: list[supervising.System], tmp_path: Path) -> None:
    assert up(tmp_path, "--workers", "3", "--modules", "here") == 0
    (system,) = started
    plane = " ".join(system.controlplane.command)
    assert f"--modules-path {tmp_path / 'here'}" in plane
    assert f"--data-dir {tmp_path / 'data'}" in plane
    address = system.nats_url.rpartition("@")[2]
    assert f"--nats-url nats://{address}" in plane
    assert "reader:" not in plane
    assert [worker.name for worker in system.workers] == ["w0", "w1", "w2"]
    for worker in system.workers:
        assert f"--listen-fd {worker.pass_fds[0]}" in " ".join(worker.command)
    assert system.control_url != system.data_url
    assert system.nats.command[0].endswith("nats-server")
    assert system.nats.answers is not None
    assert not system.nats.answers()


def test_a_port_in_use_is_refused_before_anything_runs(
    started: list[supervising.System], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--control-port", "--data-port", "--nats-port"):
            assert up(tmp_path, option, port) == exits.REFUSED
            assert option in capsys.readouterr().err
    assert started == []


def test_no_nats_server_is_told(
    started: list[supervising.System],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(natsserver, "PROGRAM", "no-such-server")
    assert up(tmp_path) == exits.REFUSED
    assert "no-such-server" in capsys.readouterr().err


def labels_of(system: supervising.System) -> list[str]:
    return [
        worker.command[worker.command.index("--labels") + 1] if "--labels" in worker.command else ""
        for worker in system.workers
    ]


def test_labels_are_given_to_one_worker_or_to_all(started: list[supervising.System], tmp_path: Path) -> None:
    words = ("--labels", "disk=fast", "--labels", "w1:zone=b,disk=slow", "--labels", "w2:zone=c")
    assert up(tmp_path, "--workers", "3", *words) == 0
    assert up(tmp_path, "--workers", "1") == 0
    assert labels_of(started[0]) == ["disk=fast", "disk=slow,zone=b", "disk=fast,zone=c"]
    assert labels_of(started[1]) == [""]


@pytest.mark.parametrize(
    ("given", "said"), [("w7:a=b", "no worker w7"), ("zone", "not key=value"), ("=b", "key=value")]
)
def test_labels_that_make_no_sense_are_refused(
    started: list[supervising.System], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    assert up(tmp_path, "--labels", given) == exits.USAGE
    assert said in capsys.readouterr().err
    assert not started
