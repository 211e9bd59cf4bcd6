"""Secrets are found where they may lie, handed over at the build, and never told."""

import os
from pathlib import Path

import pytest

from dataplane.errors import StartFailed
from dataplane.runtime import confiding, masking
from schemas.meta import Json

CANARY = "canary-0xC0FFEE"


def told(folder: Path | None, config: Json, values: dict[str, str] | None = None) -> StartFailed:
    with pytest.raises(StartFailed) as caught:
        confiding.Secrets(values, folder, mask=masking.Mask()).revealed(config)
    assert CANARY not in caught.value.message
    assert caught.value.retryable
    return caught.value


def put(folder: Path, name: str, data: bytes = CANARY.encode(), mode: int = 0o600) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_bytes(data)
    file.chmod(mode)
    return file


def test_values_take_the_place_of_references_and_are_hidden_from_then_on(tmp_path: Path) -> None:
    mask = masking.Mask()
    put(tmp_path, "from-file", CANARY.encode() + b"\n")
    found = confiding.Secrets({"MODPLANE_SECRET_FROM_ENV": "value-of-env"}, tmp_path, mask=mask)
    config = {"a": ["secret://from-file"], "b": {"c": "secret://from-env", "d": 1}, "e": "plain"}
    assert found.revealed(config) == {"a": [CANARY], "b": {"c": "value-of-env", "d": 1}, "e": "plain"}
    assert config["a"] == ["secret://from-file"]
    assert mask.text(f"{CANARY} value-of-env") == "secret://from-file secret://from-env"


def test_the_environment_comes_first_and_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = put(tmp_path, "a", b"first")
    secrets = confiding.Secrets({}, tmp_path, mask=masking.Mask())
    assert secrets.revealed({"a": "secret://a"}) == {"a": "first"}
    file.write_bytes(b"second\r\n")
    assert secrets.revealed({"a": "secret://a"}) == {"a": "second"}
    both = confiding.Secrets({"MODPLANE_SECRET_A": "mine"}, tmp_path, mask=masking.Mask())
    assert both.revealed({"a": "secret://a"}) == {"a": "mine"}


def test_only_one_line_break_at_the_end_is_the_editors(tmp_path: Path) -> None:
    put(tmp_path, "a", b" x \n\n")
    assert confiding.Secrets({}, tmp_path, mask=masking.Mask()).revealed({"a": "secret://a"}) == {"a": " x \n"}


def test_a_missing_secret_says_where_it_was_looked_for(tmp_path: Path) -> None:
    error = told(tmp_path, {"a": "secret://api-key"})
    assert error.reason == "SecretMissing"
    assert error.message.startswith(f"secret://api-key: there is no file {tmp_path}/api-key")
    assert "MODPLANE_SECRET_API_KEY" in error.message
    assert "MODPLANE_SECRETS_DIR" in told(None, {"a": "secret://api-key"}).message
    assert told(tmp_path / "nowhere", {"a": "secret://a"}).reason == "SecretMissing"


@pytest.mark.parametrize(
    ("data", "mode", "words"),
    [
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"\xff\xfe", 0o600, "is not UTF-8"),
        (b"x" * 65_537, 0o600, "more than 65,536 bytes"),
        (CANARY.encode(), 0o644, "may be read by everybody (mode 0644); chmod o-r it"),
        (CANARY.encode(), 0o620, "may be written by others than its owner (mode 0620)"),
        (CANARY.encode(), 0o602, "may be written by others than its owner (mode 0602)"),
    ],
)
def test_what_cannot_be_trusted_is_not_used(tmp_path: Path, data: bytes, mode: int, words: str) -> None:
    folder = tmp_path / "secrets"
    put(folder, "a", data, mode)
    folder.chmod(0o755)
    error = told(folder, {"a": "secret://a"})
    assert error.reason == "SecretRefused"
    assert words in error.message
    assert error.message.startswith("secret://a: ")


def test_a_folder_that_keeps_others_out_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    put(folder, "a", mode=0o444)
    folder.chmod(0o750)
    assert confiding.Secrets({}, folder, mask=masking.Mask()).revealed({"a": "secret://a"}) == {"a": CANARY}


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, words in (("pipe", "is no file"), ("folder", "Is a directory"), ("loop", "cannot be read")):
        assert words in told(tmp_path, {"a": f"secret://{name}"}).message


def test_a_link_is_followed_as_secret_volumes_need_it(tmp_path: Path) -> None:
    put(tmp_path / "..2024", "a")
    (tmp_path / "a").symlink_to(tmp_path / "..2024" / "a")
    assert confiding.Secrets({}, tmp_path, mask=masking.Mask()).revealed({"a": "secret://a"}) == {"a": CANARY}


def test_an_environment_that_was_taken_from_has_no_secrets_left() -> None:
    environment = {"MODPLANE_SECRET_A": CANARY, "MODPLANE_SECRETS_DIR": "/x", "HOME": "/"}
    secrets = confiding.Secrets.taken(environment, None)
    assert environment == {"MODPLANE_SECRETS_DIR": "/x", "HOME": "/"}
    assert secrets.revealed({"a": "secret://a"}) == {"a": CANARY}


def test_an_environment_that_is_only_looked_at_keeps_them(tmp_path: Path) -> None:
    put(tmp_path, "b", b"of the file")
    environment = {"MODPLANE_SECRET_A": CANARY, "MODPLANE_SECRETS_DIR": str(tmp_path)}
    secrets = confiding.Secrets.of(environment, {"a-b": "given"})
    config = {"a": "secret://a", "b": "secret://b", "c": "secret://a-b"}
    assert secrets.revealed(config) == {"a": CANARY, "b": "of the file", "c": "given"}
    assert "MODPLANE_SECRET_A" in environment
