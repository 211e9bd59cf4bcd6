"""`modplane token create`: a token on standard output, or what to do to get one."""

import json
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from controlplane.cli import exits, main
from schemas.kits.tokens import development


def test_it_prints_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    development.ensure(tmp_path)
    words = ["--sub", "ada", "--org", "acme", "--role", "a", "--role", "b", "--permission", "p", "--expires", "30m"]
    assert main.run(["token", "create", *words, "--data-dir", str(tmp_path)]) == exits.YES
    body = capsys.readouterr().out.strip().split(".")[1]
    claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert (claims["sub"], claims["org"], claims["roles"], claims["permissions"]) == ("ada", "acme", ["a", "b"], ["p"])
    assert claims["exp"] - claims["iat"] == 1_800


def test_without_a_key_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["token", "create", "--sub", "ada", "--data-dir", str(tmp_path)]) == exits.REFUSED
    assert "`modplane up` makes one" in capsys.readouterr().err


def test_it_is_for_somebody_and_some_time(tmp_path: Path) -> None:
    assert main.run(["token", "create", "--data-dir", str(tmp_path)]) == exits.USAGE
    assert main.run(["token", "create", "--sub", "a", "--expires", "0s", "--data-dir", str(tmp_path)]) == exits.USAGE
