"""`modplane up` says what is wrong and what to do, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.doubles.platform import MODPLANE, lives, running, wait_for

pytestmark = pytest.mark.processes


def up(home: Path, *words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    (home / "modules").mkdir(exist_ok=True)
    given = ["--data-dir", str(home / "data"), "--modules", str(home / "modules")]
    ports = ["--control-port", "0", "--data-port", "0", "--nats-port", "0"]
    for index in range(0, len(words), 2):
        for chosen in (given, ports):
            if words[index] in chosen:
                chosen[chosen.index(words[index]) + 1] = words[index + 1]
    return subprocess.run(
        [*MODPLANE, "up", *given, *ports], capture_output=True, text=True, timeout=60, check=False, user=user
    )


@pytest.mark.parametrize("option", ["--control-port", "--data-port", "--nats-port"])
def test_a_port_in_use_is_named_with_the_option_that_moves_it(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = up(tmp_path, option, port)
    assert done.returncode not in (0, -9)
    assert port in done.stderr
    assert option in done.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = up(tmp_path, "--data-dir", str(blocked / "data"))
    assert done.returncode not in (0, -9)
    assert str(blocked) in done.stderr
    assert "--data-dir" in done.stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_second_up_on_the_same_folder_is_refused_and_a_signal_stops_all_of_the_first(
    tmp_path: Path, sign: signal.Signals
) -> None:
    with running(tmp_path, examples=False) as platform:
        done = up(tmp_path)
        assert done.returncode not in (0, -9)
        assert str(platform.data) in done.stderr
        assert platform.admin.get(f"{platform.control}/health").status_code == 200
        children = platform.children()
        assert len(children) >= 3
        code = platform.stop(sign)
        assert code in (0, 130)
        assert not [child for child in children if lives(child)]
        assert "Traceback" not in platform.output()


@pytest.mark.slow
def test_nothing_survives_a_kill_9_of_up(tmp_path: Path) -> None:
    with running(tmp_path, examples=False) as platform:
        children = platform.children()
        assert platform.process is not None
        os.kill(platform.process.pid, signal.SIGKILL)
        platform.process.wait(60)

        def left() -> list[psutil.Process]:
            return [child for child in children if lives(child)]

        wait_for(lambda: not left(), timeout=30, what=lambda: str(left()))


@pytest.mark.slow
def test_it_starts_again_on_the_same_folder_with_what_was_there(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        platform.wait_state("my-module", "ACTIVE")
        first = platform.object("modules", "my-module")
        platform.stop()
        platform.start()
        platform.wait_state("my-module", "ACTIVE")
        again = platform.object("modules", "my-module")
        assert first is not None
        assert again is not None
        assert first["metadata"]["uid"] == again["metadata"]["uid"]
        assert first["metadata"]["generation"] == again["metadata"]["generation"]
        wait_for(lambda: platform.call("v1/my-module/hello").status_code == 200)
