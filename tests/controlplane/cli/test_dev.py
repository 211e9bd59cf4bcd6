"""`modplane dev` as an author uses it: a real process, files that change under it, what it prints."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.cli import exits, main
from tests.doubles.platform import MODPLANE, ROOT, module_source, wait_for

pytestmark = pytest.mark.processes


class Dev:
    """One running `modplane dev`."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [*MODPLANE, "dev", *words, "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=home,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.url = self.wait_out(r"at (http://\S+), Ctrl-C").group(1)

    def wait_out(self, pattern: str) -> re.Match[str]:
        return self._wait("out", pattern)

    def wait_err(self, pattern: str) -> re.Match[str]:
        return self._wait("err", pattern)

    def _wait(self, name: str, pattern: str) -> re.Match[str]:
        found = wait_for(
            lambda: re.search(pattern, (self.home / name).read_text()),
            what=lambda: f"{pattern}\n{(self.home / 'out').read_text()}\n{(self.home / 'err').read_text()}",
        )
        assert isinstance(found, re.Match)
        return found

    def call(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}/api/v1/modules/{path}", trust_env=False)

    def end(self, sign: signal.Signals) -> int:
        self.process.send_signal(sign)
        return self.process.wait(60)


@contextlib.contextmanager
def developing(home: Path, *words: str) -> Iterator[Dev]:
    dev = Dev(home, *words)
    try:
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait()


def test_one_module_from_first_save_to_last(tmp_path: Path) -> None:
    main.run(["new", "module", "watch", "--dir", str(tmp_path)])
    code, manifest = tmp_path / "watch" / "__init__.py", tmp_path / "watch" / "module.yaml"
    good = code.read_text()
    with developing(tmp_path, "watch") as dev:
        dev.wait_out(r"watch: generation 1 serves\n  NONE +GET +http://\S+/api/v1/modules/v1/watch/hello")
        assert dev.call("v1/watch/hello").json() == {"message": "hello world"}
        assert dev.call("v1/watch/whoami").status_code == 401
        code.write_text(good.replace('f"{greeting} {name}"', 'f"{greeting} {1 // len(name[1:])}"'))
        dev.wait_out("watch: generation 2 serves")
        assert dev.call("v1/watch/hello?name=x").status_code == 500
        line = 1 + [*code.read_text().splitlines()].index(
            '            return {"message": f"{greeting} {1 // len(name[1:])}"}'
        )
        told = dev.wait_err(rf"watch /hello: handler failed: watch/__init__.py:{line}: ZeroDivisionError: .*")
        assert "modplane_modules" not in told.string
        code.write_text(good + "import nowhere_to_be_found\n")
        line = len(good.splitlines()) + 1
        dev.wait_err(
            rf"watch: ImportFailed: watch/__init__.py:{line}: ModuleNotFoundError.*generation 2 goes on serving"
        )
        assert dev.call("v1/watch/hello?name=two").json() == {"message": "hello 0"}
        manifest.write_text(manifest.read_text().replace("type: core", "type: cores"))
        dev.wait_err(r"watch: ManifestInvalid: watch/module.yaml:\d+:\d+: /spec/type")
        manifest.write_text(manifest.read_text().replace("type: cores", "type: core").replace("hello}", "hej}"))
        code.write_text(good)
        dev.wait_out("watch: generation 3 serves")
        wait_for(lambda: dev.call("v1/watch/hello").json() == {"message": "hej world"})
        assert dev.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_folder_of_modules_that_come_and_go(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "one.py").write_text(module_source("one"))
    with developing(tmp_path, "modules", "--no-auth") as dev:
        dev.wait_out("one: generation 1 serves")
        assert dev.call("v1/one/guarded").json() == {"secret": True}
        (modules / "two.py").write_text(module_source("two"))
        dev.wait_out("two: generation 1 serves")
        assert dev.call("v1/two/hello").json()["say"] == "hello"
        (modules / "one.py").unlink()
        dev.wait_out("one: gone")
        assert dev.call("v1/one/hello").status_code == 404
        assert httpx.get(f"{dev.url}/ready", trust_env=False).json()["ready"] is True
        assert dev.end(signal.SIGINT) == 0


def test_what_is_not_there_and_a_port_that_is_taken_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["dev", str(tmp_path / "nowhere")]) == exits.NO
    assert "modplane new module" in capsys.readouterr().err
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: called.append(words))
    (tmp_path / "one.py").write_text(module_source("one"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        main.run(["dev", str(tmp_path / "one.py"), "--port", port, "--no-auth"])
        ((*_, package, verb, path, _host, _address, _port, given, no_auth),) = called
        assert (package, verb, path, given, no_auth) == (
            "dataplane",
            "dev",
            str(tmp_path / "one.py"),
            port,
            "--no-auth",
        )
        done = subprocess.run(
            [sys.executable, "-m", *called[0][2:]], capture_output=True, text=True, cwd=ROOT, check=False
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.slow
def test_requests_without_credentials_are_somebodys(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(module_source("one"))
    words = ("--sub", "ada", "--org", "acme", "--org-config", '{"plan": "gold"}', "--flag", "beta")
    with developing(tmp_path, "one.py", *words) as dev:
        dev.wait_out("one: generation 1 serves")
        assert dev.call("v1/one/guarded").json() == {"secret": True}
        refused = httpx.get(
            f"{dev.url}/api/v1/modules/v1/one/guarded", headers={"authorization": "Bearer x"}, trust_env=False
        )
        assert refused.status_code == 401
        assert dev.end(signal.SIGINT) == 0


def test_the_caller_the_flags_and_the_organisation_are_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: called.append(words))
    words = ["--sub", "ada", "--org", "acme", "--role", "r", "--permission", "p", "--org-config", '{"a": 1}']
    main.run(["dev", str(tmp_path), *words, "--flag", "beta", "--flag", "limit=20", "--flag", "mode=dark"])
    (given,) = called
    found = {flag: json.loads(given[given.index(flag) + 1]) for flag in ("--caller", "--organisations", "--flags")}
    assert found == {
        "--caller": {"subject": "ada", "organisation": "acme", "roles": ["r"], "permissions": ["p"]},
        "--organisations": {"acme": {"a": 1}},
        "--flags": {"beta": True, "limit": 20, "mode": "dark"},
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "r"], "--sub"),
        (["--sub", "a", "--org-config", "{}"], "--org"),
        (["--sub", "a", "--org", "b", "--org-config", "{"], "not JSON"),
        (["--sub", "a", "--org", "b", "--org-config", "[]"], "not a JSON object"),
        (["--flag", "=1"], "names no flag"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main.run(["dev", str(tmp_path), *words]) == exits.USAGE
    assert said in capsys.readouterr().err
