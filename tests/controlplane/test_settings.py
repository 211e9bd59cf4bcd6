"""Settings of the control plane: flag over environment over file over default."""

from pathlib import Path

import pytest

from controlplane import settings


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"MODPLANE_{name.upper()}", raising=False)


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().control_port == 7400
    Path("modplane.env").write_text("MODPLANE_CONTROL_PORT=1\nMODPLANE_NATS_URL=nats://file:1\nOTHER=x\n")
    assert settings.load().control_port == 1
    monkeypatch.setenv("MODPLANE_CONTROL_PORT", "2")
    assert settings.load().control_port == 2
    assert settings.load(["--control-port", "3"]).control_port == 3
    assert settings.load().nats_url == "nats://file:1"


def test_the_database_is_a_file_in_the_data_folder_unless_it_is_named() -> None:
    assert settings.load(["--data-dir", "/somewhere"]).database == "sqlite:////somewhere/modplane.db"
    assert settings.load(["--database-url", "postgresql+psycopg://x"]).database == "postgresql+psycopg://x"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--control-port", "99999"], "--control-port / MODPLANE_CONTROL_PORT"),
        (["--log-level", "loud"], "--log-level / MODPLANE_LOG_LEVEL"),
        (["--auto-discover", "perhaps"], "--auto-discover / MODPLANE_AUTO_DISCOVER"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_nonsense_is_a_usage_error_that_names_the_setting(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        settings.load(words)
    assert raised.value.code == 2
    assert told in capsys.readouterr().err


def test_every_setting_is_described_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.load(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in settings.Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        assert f"MODPLANE_{name.upper()}" in text
        assert field.description
