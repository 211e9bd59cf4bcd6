"""`modplane new module`: what it writes is valid, tested, discovered and answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.cli import exits, main, templates
from tests.doubles.platform import BY_HAND, ROOT, Platform, running


def test_a_new_module_is_written_whole_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["new", "module", "price-watch", "--dir", str(tmp_path / "modules")]) == 0
    place = tmp_path / "modules" / "price_watch"
    assert f"modplane dev {place}" in capsys.readouterr().out
    files = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    assert files == {"__init__.py", "module.yaml", "README.md", "tests/test_price_watch.py"}
    assert [entry.name for entry in place.parent.iterdir()] == ["price_watch"]
    assert (place / "module.yaml").read_text().startswith("# yaml-language-server: $schema=")
    assert main.run(["validate", "-f", str(place / "module.yaml")]) == 0
    assert "module/price-watch is valid" in capsys.readouterr().out


@pytest.mark.slow
def test_its_own_test_passes(tmp_path: Path) -> None:
    assert main.run(["new", "module", "price_watch", "--dir", str(tmp_path)]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error", "."],
        cwd=tmp_path / "price_watch",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.processes
def test_it_is_discovered_applied_and_called(tmp_path: Path) -> None:
    with running(tmp_path, examples=False, environment=BY_HAND) as platform:
        platform.cli("new", "module", "price-watch", "--dir", str(platform.modules))
        place = platform.modules / "price_watch"
        assert "module/price-watch" in platform.cli("discover")
        platform.wait_state("price-watch", "ACTIVE")
        assert platform.call("v1/price-watch/hello").json() == {"message": "hello world"}
        assert platform.call("v1/price-watch/whoami").status_code == 401
        told = platform.cli("describe", "worker", "w0")
        assert "State:        synced" in told
        assert "price-watch   1            0.1.0     yes" in told
        _changed(platform, place)


def _changed(platform: Platform, place: Path) -> None:
    """A person takes the manifest over; a changed test is no changed code."""
    manifest = place / "module.yaml"
    digest = (platform.object("modules", "price-watch") or {})["spec"]["source"]["digest"]
    (place / "tests" / "test_price_watch.py").write_text("# another test\n")
    manifest.write_text(manifest.read_text().replace("greeting: hello}", "greeting: salut}"))
    assert "+    greeting: salut" in platform.cli("diff", "-f", str(manifest), check=1)
    platform.cli("apply", "-f", str(manifest), "--wait")
    assert platform.call("v1/price-watch/hello").json() == {"message": "salut world"}
    stored = platform.object("modules", "price-watch")
    assert stored is not None
    assert stored["spec"]["source"]["digest"] == digest
    assert platform.cli("diff", "-f", str(manifest)) == ""


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "solo.py").write_text("x = 1\n")
    for name in ("orders", "solo"):
        assert main.run(["new", "module", name, "--dir", str(tmp_path)]) == exits.NO
        assert "is there already; nothing was written" in capsys.readouterr().err
    assert list((tmp_path / "orders").iterdir()) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["orders", "solo.py"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Orders", "must be in lower case"),
        ("a.b", "must not contain dots"),
        ("3d", "cannot be a Python package"),
        ("class", "cannot be a Python package"),
        ("json", "package of Python itself"),
        ("health", "reserved"),
    ],
)
def test_a_name_that_could_not_work_is_refused(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["new", "module", name, "--dir", str(tmp_path)]) == exits.USAGE
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main.run(["new", "module", "orders", "--dir", str(tmp_path / "file" / "below")]) == exits.NO
    assert "cannot be written" in capsys.readouterr().err


def test_words_of_a_name() -> None:
    words = templates.Words("price-watch-2", "price_watch_2")
    assert (words.title, words.kind) == ("Price Watch 2", "PriceWatch2Module")
