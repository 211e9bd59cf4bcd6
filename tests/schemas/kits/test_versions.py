"""Host versions: read anew from what is installed, and compared in words."""

from pathlib import Path

import pytest

from schemas.kits import versions


def test_what_is_installed_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "fastapi-9.0.dist-info"
    info.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    metadata = info / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 9.0\n")
    before = versions.host_version()
    assert " fastapi/9.0 " in before
    metadata.write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 9.1\n")
    assert versions.changes(before, versions.host_version()) == "fastapi/9.0 → 9.1"


def test_a_part_that_comes_or_goes_is_named() -> None:
    assert versions.changes("a/1 b/2", "a/1 c/3") == "b/2 → none, c/none → 3"
    assert versions.changes("a/1", "a/1") == ""


def test_a_distribution_that_is_not_installed_runs_from_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_PARTS", ("no-such-distribution",))
    assert versions.host_version().endswith(" no-such-distribution/source")
