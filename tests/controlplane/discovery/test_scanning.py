"""What a look at the modules path finds."""

from pathlib import Path

from controlplane.discovery import looking, scanning
from tests.doubles import sources

MANIFEST = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: shop}
spec: {entryPoint: "shop:Shop"}
"""


def scan(folder: Path) -> scanning.Scan:
    return scanning.Scanner(folder).scan(looking.look(folder))


def test_sources_and_manifests_are_found_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    files = {
        "single.py": "",
        "shop/__init__.py": "",
        "shop/module.yaml": MANIFEST,
        "deep/inner/code.py": "",
        "other.yml": MANIFEST.replace("shop", "other") + "---\n" + MANIFEST.replace("shop", "third"),
        "flags.json": '{"apiVersion": "modplane.dev/v1", "kind": "FeatureFlag", "metadata": {"name": "x"}, "spec": {}}',
        "package.json": '{"name": "not a manifest"}',
        "data/values.csv": "1",
        ".hidden.py": "",
        "__pycache__/x.pyc": "",
        "_private.py": "",
        "conftest.py": "",
        "README.md": "",
    }
    found = scan(sources.write(tmp_path, files))
    assert found.sources == ["deep", "shop", "single"]
    assert [beside.path for beside in found.manifests] == ["flags.json", "other.yml", "other.yml", "shop/module.yaml"]
    assert [beside.source() for beside in found.manifests] == [None, "other", "third", "shop"]
    assert found.covered == {"shop", "other", "third"}
    assert found.failures == []


def test_a_source_path_of_its_own_is_what_a_manifest_covers(tmp_path: Path) -> None:
    text = MANIFEST.replace('entryPoint: "shop:Shop"', 'entryPoint: "shop:Shop", source: {path: team/shop}')
    (beside,) = scan(sources.write(tmp_path, {"m.yaml": text})).manifests
    assert beside.source() == "team/shop"


def test_broken_manifests_are_told_by_line_and_still_cover_their_source(tmp_path: Path) -> None:
    files = {"shop/__init__.py": "", "shop/module.yaml": "kind: Module\nkind: Module\n"}
    found = scan(sources.write(tmp_path, files))
    assert found.manifests == []
    assert found.covered == {"shop"}
    assert [failure.path for failure in found.failures] == ["shop/module.yaml:2:1"]


def test_what_python_cannot_import_and_manifests_without_code_are_told(tmp_path: Path) -> None:
    files = {"my-shop.py": "", "2nd/__init__.py": "", "empty/module.yaml": MANIFEST}
    messages = {failure.path: failure.message for failure in scan(sources.write(tmp_path, files)).failures}
    assert "rename it, for instance to 'my_shop'" in messages["my-shop.py"]
    assert "cannot be imported" in messages["2nd/"]
    assert "no Python file beside it" in messages["empty/"]


def test_a_modules_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    (failure,) = scan(tmp_path / "nowhere").failures
    assert "No such file or directory; make it or set MODPLANE_MODULES_PATH" in failure.message
