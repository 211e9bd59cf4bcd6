"""What the workshop takes for sources and manifests, and that it packs them as discovery does."""

from pathlib import Path

import pytest

from controlplane.discovery import packing
from dataplane.errors import LoadFailed
from dataplane.workshop import sources
from tests.doubles.sources import SMALL, write

FILES = {
    "shop/__init__.py": SMALL,
    "shop/module.yaml": "kind: Module\n",
    "shop/data/x.csv": "1\n",
    "shop/data/tests/x.csv": "2\n",
    "shop/tests/test_shop.py": "x = 1\n",
    "shop/.hidden": "x",
    "shop/__pycache__/a.pyc": "x",
    "shop/old.pyc": "x",
    "shop/node_modules/a.js": "x",
}


def test_a_packed_source_has_the_digest_that_discovery_gives_it(tmp_path: Path) -> None:
    place = write(tmp_path / "modules", FILES) / "shop"
    digest = sources.pack(sources.Source(place), tmp_path / "code")
    assert digest == packing.pack(place, tmp_path / "other")[0]
    assert packing.kept(tmp_path / "code", digest)
    assert sources.pack(sources.Source(place), tmp_path / "code") == digest
    sources.drop(tmp_path / "code", digest)
    assert list((tmp_path / "code").iterdir()) == []


def test_a_module_folder_is_one_source_with_its_manifest(tmp_path: Path) -> None:
    place = write(tmp_path, FILES) / "shop"
    found = sources.find(place)
    assert [source.top for source in found.sources.values()] == ["shop"]
    assert found.manifests == (place / "module.yaml",)
    assert sources.watched(place) == (place, True)


def test_a_folder_of_modules_has_all_of_them(tmp_path: Path) -> None:
    more = {
        "solo.py": SMALL,
        "solo.yaml": "kind: Module\n",
        "conftest.py": "",
        "_x.py": "",
        "not-one.py": "",
        "d/x": "",
    }
    found = sources.find(write(tmp_path, {**FILES, **more}))
    assert sorted(found.sources) == ["shop", "solo"]
    assert {file.name for file in found.manifests} == {"module.yaml", "solo.yaml"}


def test_a_single_file_takes_only_manifests_of_ours_from_beside(tmp_path: Path) -> None:
    write(tmp_path, {"solo.py": SMALL, "solo.yaml": "apiVersion: modplane.dev/v1\n", "compose.yaml": "services: {}\n"})
    found = sources.find(tmp_path / "solo.py")
    assert list(found.sources) == ["solo"]
    assert [file.name for file in found.manifests] == ["solo.yaml"]
    assert sources.watched(tmp_path / "solo.py") == (tmp_path, False)


def test_a_change_changes_the_fingerprint(tmp_path: Path) -> None:
    place = write(tmp_path, FILES) / "shop"
    before = sources.find(place).fingerprint
    assert sources.find(place).fingerprint == before
    (place / "data" / "x.csv").write_text("longer\n")
    assert sources.find(place).fingerprint != before


@pytest.mark.parametrize("path", ["nowhere", "empty", "text.md"])
def test_a_path_without_a_module_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.md").write_text("x")
    with pytest.raises(LoadFailed) as caught:
        sources.find(tmp_path / path)
    assert caught.value.reason == "SourceMissing"
