"""Packing: the same files give the same digest, and a folder in the code store is whole."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import errors
from controlplane.discovery import packing
from schemas import digests
from tests.doubles import sources

FILES = {"shop/__init__.py": "import shop.a\n", "shop/a.py": "A = 1\n", "shop/data/x.csv": "1,2\n"}


def test_a_package_lies_in_the_store_under_its_top_name(tmp_path: Path) -> None:
    place = sources.write(tmp_path / "modules", FILES) / "shop"
    digest, found = packing.pack(place, tmp_path / "code")
    folder = tmp_path / "code" / digests.folder_name(digest)
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()) == sorted(FILES)
    assert [name for name, *_ in found.fingerprint] == sorted(FILES)
    assert digest == digests.source_digest([(name, text.encode()) for name, text in FILES.items()])
    assert [entry.name for entry in (tmp_path / "code").iterdir()] == [folder.name]


def test_a_single_file_is_a_source_too(tmp_path: Path) -> None:
    sources.write(tmp_path, {"solo.py": "X = 1\n"})
    digest, _ = packing.pack(tmp_path / "solo.py", tmp_path / "code")
    assert (tmp_path / "code" / digests.folder_name(digest) / "solo.py").read_text() == "X = 1\n"


def test_byte_code_hidden_files_and_the_manifest_do_not_count(tmp_path: Path) -> None:
    place = sources.write(tmp_path / "one", FILES) / "shop"
    before, _ = packing.pack(place, tmp_path / "code")
    sources.write(
        place,
        {
            "__pycache__/a.cpython-311.pyc": "x",
            "old.pyc": "x",
            ".git/config": "x",
            "module.yaml": "kind: Module\n",
            "tests/test_a.py": "x",
        },
    )
    assert packing.pack(place, tmp_path / "code")[0] == before
    sources.write(place, {"data/module.yaml": "this one is data"})
    assert packing.pack(place, tmp_path / "code")[0] != before


@given(st.dictionaries(st.from_regex(r"[a-z]{1,6}\.(py|txt)", fullmatch=True), st.binary(max_size=64), min_size=1))
def test_the_digest_depends_on_names_and_contents_only(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    found = []
    for order in (sorted(contents), sorted(contents, reverse=True)):
        folder = tmp_path_factory.mktemp("order") / "top"
        folder.mkdir()
        (folder / "__init__.py").write_bytes(b"")
        for name in order:
            (folder / name).write_bytes(contents[name])
        found.append(packing.pack(folder, folder.parent / "code")[0])
        assert packing.kept(folder.parent / "code", found[-1])
    assert found[0] == found[1]


def test_a_broken_folder_in_the_store_is_not_believed(tmp_path: Path) -> None:
    place = sources.write(tmp_path / "modules", FILES) / "shop"
    digest, _ = packing.pack(place, tmp_path / "code")
    folder = tmp_path / "code" / digests.folder_name(digest)
    (folder / "shop" / "a.py").unlink()
    assert not packing.kept(tmp_path / "code", digest)
    assert not folder.exists()
    packing.pack(place, tmp_path / "code")
    assert packing.kept(tmp_path / "code", digest)


def test_symbolic_links_are_refused_wherever_they_are(tmp_path: Path) -> None:
    sources.write(tmp_path / "outside", FILES)
    place = sources.write(tmp_path / "modules", FILES) / "shop"
    (place / "link.py").symlink_to(tmp_path / "outside" / "shop" / "a.py")
    with pytest.raises(errors.SourceInvalid, match=r"link.py: a symbolic link"):
        packing.pack(place, tmp_path / "code")
    (tmp_path / "modules" / "linked").symlink_to(tmp_path / "outside" / "shop")
    with pytest.raises(errors.SourceInvalid, match="linked: a symbolic link"):
        packing.locate(tmp_path / "modules", "linked")


def test_what_is_no_file_or_no_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sources.write(tmp_path, FILES) / "shop"
    os.mkfifo(place / "pipe")
    with pytest.raises(errors.SourceInvalid, match="not an ordinary file"):
        packing.listing(place)
    (place / "pipe").unlink()
    (place / os.fsdecode(b"caf\xe9.txt")).write_text("")
    with pytest.raises(errors.SourceInvalid, match="not UTF-8"):
        packing.listing(place)
    shutil.rmtree(place)
    sources.write(tmp_path, {"shop/data.csv": "1"})
    with pytest.raises(errors.SourceInvalid, match="no Python file"):
        packing.listing(place)
    sources.write(tmp_path, FILES)
    for limit, message in (("FILES_MAX", "files are more than"), ("TOTAL_MAX", "MiB are more"), ("FILE_MAX", "larger")):
        with monkeypatch.context() as patch:
            patch.setattr(packing, limit, 1)
            with pytest.raises(errors.SourceInvalid, match=message):
                packing.listing(place)


@pytest.mark.parametrize("path", ["", "..", "../shop", "a/../shop", "/shop", ".hidden", "a\\b", "nothing", "shop/"])
def test_paths_that_mean_nothing_below_the_modules_path_find_nothing(tmp_path: Path, path: str) -> None:
    sources.write(tmp_path / "modules", {**FILES, ".hidden/__init__.py": ""})
    sources.write(tmp_path, FILES)
    assert packing.locate(tmp_path / "modules", path) is None


def test_nested_sources_are_found_by_their_path(tmp_path: Path) -> None:
    sources.write(tmp_path / "team", FILES)
    assert packing.locate(tmp_path, "team/shop") == tmp_path / "team" / "shop"


def test_a_source_that_does_not_come_to_rest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sources.write(tmp_path, FILES) / "shop"
    kept = packing.listing
    turns = iter(range(100))

    def restless(where: Path) -> packing.Listing:
        (place / "a.py").write_text(f"A = {'1' * next(turns)}\n")
        return kept(where)

    monkeypatch.setattr(packing, "listing", restless)
    with pytest.raises(errors.SourceInvalid, match="changed while they were read"):
        packing.pack(place, tmp_path / "code")
