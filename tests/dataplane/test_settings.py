"""Settings of a worker: flag over environment over default, and messages that name the setting."""

from pathlib import Path

import pytest

from dataplane.settings import Settings, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MODPLANE_{name.upper()}", raising=False)


def test_the_defaults_serve_one_machine(tmp_path: Path) -> None:
    settings = load()
    assert (settings.worker_id, settings.data_port, settings.listen_fd) == ("w0", 8000, -1)
    assert settings.code_root == tmp_path / ".modplane" / "code"
    assert settings.labels == {}


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODPLANE_DATA_PORT", "9000")
    monkeypatch.setenv("MODPLANE_WORKER_LABELS", "zone=a, disk=fast")
    assert load().data_port == 9000
    assert load(["--data-port", "9001"]).data_port == 9001
    assert load().labels == {"zone": "a", "disk": "fast"}


@pytest.mark.parametrize("flag", ["--id", "--worker-id"])
def test_both_spellings_of_a_flag_work(flag: str) -> None:
    assert load([flag, "w7"]).worker_id == "w7"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data-port", "x"], "--data-port"),
        (["--labels", "=a"], "--labels"),
        (["--id", "A B"], "--id"),
        (["--no"], "--no"),
    ],
)
def test_nonsense_ends_with_the_settings_name(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
