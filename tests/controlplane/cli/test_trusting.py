"""Whom the command line believes to be the control plane, and what it says when it does not."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.cli import client, endpoints, exits, main, trusting
from tests.doubles import tlsserver


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODPLANE_SERVER", "MODPLANE_DATA_DIR", "MODPLANE_CA_FILE", "MODPLANE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def ask(url: str, *words: str) -> int:
    return main.run(["get", "modules", *(("--server", url) if url else ()), *words])


def test_the_authority_comes_from_endpoints_an_option_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tlsserver.made(tmp_path / "tls")
    ca_file = str(ours.certificate_file)
    with tlsserver.serving(ours.server_file) as port:
        url, other = f"https://127.0.0.1:{port}", f"https://localhost:{port}"
        found = endpoints.Endpoints(url, "http://d", "nats://n", ca_file=ca_file)
        (tmp_path / ".modplane").mkdir()
        endpoints.write(tmp_path / ".modplane", found)
        assert endpoints.read(tmp_path / ".modplane") == found
        assert ask("") == exits.YES
        assert ask(url) == exits.YES
        assert ask(other) == exits.UNREACHABLE  # what the file says is for that one address
        assert ask(other, "--ca-file", ca_file) == exits.YES
        monkeypatch.setenv("MODPLANE_CA_FILE", ca_file)
        assert ask(other) == exits.YES


def test_a_certificate_of_another_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, foreign = tlsserver.made(tmp_path / "ours"), tlsserver.made(tmp_path / "foreign")
    with tlsserver.serving(ours.server_file) as port:
        assert ask(f"https://127.0.0.1:{port}", "--ca-file", str(foreign.certificate_file)) == exits.UNREACHABLE
        told = capsys.readouterr().err
        assert f"is not from the authority in {foreign.certificate_file}" in told
        assert "--ca-file" in told
        assert ask(f"https://127.0.0.1:{port}") == exits.UNREACHABLE
        assert "is not from an authority that this machine trusts" in capsys.readouterr().err


def test_a_certificate_that_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tlsserver.made(tmp_path, ago=timedelta(days=9))
    with tlsserver.serving(old.server_file) as port:
        assert ask(f"https://127.0.0.1:{port}", "--ca-file", str(old.certificate_file)) == exits.UNREACHABLE
    told = capsys.readouterr().err
    assert "is not valid today: certificate has expired" in told
    assert "`modplane up` renews" in told


def test_a_certificate_for_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tlsserver.made(tmp_path)
    with tlsserver.serving(ours.server_file, "127.0.0.2") as port:
        assert ask(f"https://127.0.0.2:{port}", "--ca-file", str(ours.certificate_file)) == exits.UNREACHABLE
    assert "is for another name" in capsys.readouterr().err


def test_https_to_a_server_without_tls(capsys: pytest.CaptureFixture[str]) -> None:
    with tlsserver.serving(None) as port:
        assert ask(f"https://127.0.0.1:{port}") == exits.UNREACHABLE
        told = capsys.readouterr().err
        assert "does not speak TLS" in told
        assert f"http://127.0.0.1:{port}" in told
        assert ask(f"http://127.0.0.1:{port}", "--token", "x") == exits.YES


def test_a_ca_file_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.pem").write_text("")
    assert ask("https://127.0.0.1:1", "--ca-file", str(tmp_path / "empty.pem")) == exits.USAGE
    assert "holds no certificate in PEM" in capsys.readouterr().err
    assert ask("https://127.0.0.1:1", "--ca-file", str(tmp_path / "none.pem")) == exits.USAGE
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "open_to_others"),
    [
        ("http://127.0.0.1:7400", False),
        ("http://localhost:7400", False),
        ("http://[::1]:7400", False),
        ("https://10.0.0.1", False),
        ("http://10.0.0.1:7400", True),
        ("http://control.example", True),
        ("http://localhost.example", True),
        ("http://", True),
    ],
)
def test_a_token_is_not_sent_in_the_clear(url: str, open_to_others: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert trusting.in_the_clear(url) is open_to_others
    if open_to_others:
        assert ask(url, "--token", "x") == exits.USAGE
        assert "in the clear" in capsys.readouterr().err


def test_what_is_no_failure_of_tls_is_told_by_others() -> None:
    assert trusting.explained(ValueError("x"), "https://a", "") is None


def test_only_the_named_authority_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tlsserver.made(tmp_path)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: pytest.fail("reads every authority"))
    client.Client("https://127.0.0.1:1", ca_file=str(ours.certificate_file)).close()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: pytest.fail("reads an authority"))
    client.Client("http://127.0.0.1:1").close()
