"""What a look sees, and what two looks tell."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.discovery import looking
from controlplane.discovery.looking import Root, Tree
from tests.doubles import sources

STAMP = (0o100644, 1, 1, 1, 1)


def test_what_authors_ship_is_seen_and_the_rest_is_not(tmp_path: Path) -> None:
    left_out = [
        ".hidden.py", ".git/config", "shop/__pycache__/x.pyc", "shop/x.pyc", "shop/x.py~", "shop/.x.py.swp",
        "shop/x.py.swp", "shop/#x.py#", "shop/.#x.py", "shop/4913", "shop/x.py___jb_tmp___", "node_modules/a.js",
    ]  # fmt: skip
    sources.write(tmp_path, {"shop/x.py": "", "shop/data.csv": "", "one.py": "", **dict.fromkeys(left_out, "")})
    tree = looking.look(tmp_path)
    assert sorted(tree.files) == ["one.py", "shop/data.csv", "shop/x.py"]
    assert sorted(tree.folders) == ["", "shop"]
    assert tree.root is Root.THERE


def test_links_are_seen_and_not_followed(tmp_path: Path) -> None:
    outside = sources.write(tmp_path / "outside", {"x.py": ""})
    root = sources.write(tmp_path / "modules", {"a.py": ""})
    (root / "linked").symlink_to(outside)
    (root / "back").symlink_to(root)
    tree = looking.look(root)
    assert sorted(tree.files) == ["a.py", "back", "linked"]
    assert (tree.is_link("linked"), tree.is_link("a.py")) == (True, False)
    assert sorted(tree.folders) == [""]


def test_the_modules_path_is_there_or_empty_or_missing_or_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looking.look(tmp_path).root is Root.EMPTY
    (tmp_path / ".gitkeep").touch()
    assert looking.look(tmp_path).root is Root.EMPTY
    assert looking.look(tmp_path / "nowhere").root is Root.MISSING
    assert looking.identity(tmp_path / "nowhere") is None
    file = tmp_path / "file"
    file.touch()
    assert looking.look(file).root is Root.MISSING
    assert looking.look(tmp_path).root is Root.THERE

    def refuse(path: object) -> object:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(os, "listdir", refuse)
    tree = looking.look(tmp_path)
    assert (tree.root, tree.why) == (Root.UNREADABLE, "Permission denied")


def test_a_folder_that_cannot_be_read_is_told_and_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(tmp_path, {"shop/x.py": "", "other.py": ""})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "shop":
            raise PermissionError(13, os.strerror(13))
        return scandir(path)

    before = looking.look(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    tree = looking.look(tmp_path)
    assert tree.unreadable == {"shop": "Permission denied"}
    assert sorted(tree.files) == ["other.py"]
    assert looking.moved(before, tree) == {"shop/x.py", "shop"}


def test_two_looks_tell_what_came_went_and_changed(tmp_path: Path) -> None:
    sources.write(tmp_path, {"a.py": "1", "b/x.py": "1", "c.py": "1"})
    before = looking.look(tmp_path)
    assert looking.moved(before, looking.look(tmp_path)) == set()
    sources.write(tmp_path, {"a.py": "22", "d.py": ""})
    (tmp_path / "c.py").unlink()
    after = looking.look(tmp_path)
    assert looking.moved(before, after) == {"a.py", "c.py", "d.py"}
    assert after.newest >= before.newest


def test_a_file_that_was_replaced_by_its_like_is_another(tmp_path: Path) -> None:
    sources.write(tmp_path, {"a.py": "1", "new": "2"})
    os.utime(tmp_path / "a.py", ns=(1, 1))
    os.utime(tmp_path / "new", ns=(1, 1))
    before = looking.look(tmp_path)
    (tmp_path / "new").rename(tmp_path / "a.py")
    assert looking.moved(before, looking.look(tmp_path)) == {"a.py", "new"}


def test_a_change_concerns_the_file_every_folder_above_and_the_source_of_that_name() -> None:
    assert looking.places({"team/shop/x.py", "one.py"}) == {
        "team/shop/x.py", "team/shop/x", "team/shop", "team", "one.py", "one",
    }  # fmt: skip


NAMES = st.sampled_from(["a", "b", "x.py", "y.py", "m.yaml"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.integers(1, 3).map(lambda size: (0, size, 0, 0, 0)), max_size=8).map(
    lambda files: Tree(Root.THERE, files=files)
)


@given(TREES, TREES)
def test_what_moved_is_what_differs(before: Tree, after: Tree) -> None:
    moved = looking.moved(before, after)
    for path in {*before.files, *after.files}:
        assert (path in moved) is (before.files.get(path) != after.files.get(path))


@given(TREES, st.sets(PATHS))
def test_what_is_taken_out_of_a_tree_is_found_changed_the_next_time(tree: Tree, left: set[str]) -> None:
    concerned = {path for path in tree.files if looking.places([path]) & left}
    assert looking.moved(looking.without(tree, left), tree) == concerned
