"""Versions of one package, side by side under names of their own."""

import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataplane.runtime.importing import ROOT, Code, library
from schemas import digests
from tests.doubles import sources


def code(root: Path, files: dict[str, str]) -> Code:
    digest = sources.store(root, files)
    top = sorted(files)[0].split("/")[0].removesuffix(".py")
    return Code(top, digest, root / digests.folder_name(digest))


@contextmanager
def used(*versions: Code) -> Iterator[None]:
    for version in versions:
        library.acquire(version)
    try:
        yield
    finally:
        for version in versions:
            library.release(version)


PACKAGE = {
    "shop/__init__.py": "import shop.models as m\nfrom shop import models\nfrom . import views\nimport shop\n"
    "WHO = models.WHO\nSELF = shop\nassert m is models\n",
    "shop/models.py": "WHO = 'one'\n",
    "shop/views.py": "from shop.models import *\nfrom shop.models import WHO as AGAIN\n"
    "def late():\n    import shop.models\n    return shop.models.WHO\n",
    "shop/data/table.csv": "a,b\n1,2\n",
}


def test_two_versions_live_side_by_side_with_absolute_and_relative_self_imports(tmp_path: Path) -> None:
    first = code(tmp_path, PACKAGE)
    second = code(tmp_path, {**PACKAGE, "shop/models.py": "WHO = 'two'\n"})
    with used(first, second):
        one, two = first.load("shop"), second.load("shop")
        assert (one.WHO, two.WHO) == ("one", "two")
        assert (one.views.late(), two.views.late()) == ("one", "two")
        assert one.SELF is one
        assert "shop" not in sys.modules


def test_a_single_file_imports_itself(tmp_path: Path) -> None:
    single = code(tmp_path, {"solo.py": "import solo\nfrom solo import __name__ as name\nMINE = solo\n"})
    with used(single):
        loaded = single.load("solo")
        assert loaded.MINE is loaded
        assert single.plain(loaded.name) == "solo"


def test_package_data_is_found_beside_the_code(tmp_path: Path) -> None:
    text = "from importlib.resources import files\nROWS = files(__package__).joinpath('data/table.csv').read_text()\n"
    packed = code(tmp_path, {**PACKAGE, "shop/__init__.py": text})
    with used(packed):
        assert packed.load("shop").ROWS == "a,b\n1,2\n"


def test_bare_folders_are_namespace_packages(tmp_path: Path) -> None:
    packed = code(tmp_path, {"shop/__init__.py": "", "shop/inner/thing.py": "from shop import inner\nX = 1\n"})
    with used(packed):
        assert packed.load("shop.inner.thing").X == 1


def test_other_imports_are_untouched(tmp_path: Path) -> None:
    packed = code(tmp_path, {"shop/__init__.py": "import json, os.path\nfrom shopping import x\n"})
    with used(packed), pytest.raises(ModuleNotFoundError, match="No module named 'shopping'"):
        packed.load("shop")


def test_dataclasses_annotations_and_pickle_work_under_the_mangled_name(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nimport copy, pickle\nfrom dataclasses import dataclass\n"
        "from typing import get_type_hints\nfrom pydantic import BaseModel\n"
        "@dataclass(slots=True, kw_only=True)\nclass A:\n    b: 'B | None' = None\n"
        "class B(BaseModel):\n    a: list[B] = []\n"
        "assert get_type_hints(A)['b'] == (B | None)\n"
        "COPY = pickle.loads(pickle.dumps(A(b=B(a=[B()]))))\n"
    )
    packed = code(tmp_path, {"shop/__init__.py": text})
    with used(packed):
        loaded = packed.load("shop")
        assert loaded.A(b=loaded.B(a=[loaded.B()])) == loaded.COPY


def test_code_goes_with_its_last_user(tmp_path: Path) -> None:
    packed = code(tmp_path, PACKAGE)
    library.acquire(packed)
    library.acquire(packed)
    alive = weakref.ref(packed.load("shop"))
    assert library.release(packed) is False
    assert packed.mangled in sys.modules
    assert library.release(packed) is True
    assert library.users(packed) == 0
    gc.collect()
    assert alive() is None
    assert not [name for name in sys.modules if name.startswith(packed.mangled)]
    assert packed.leaf not in vars(sys.modules[ROOT])


def test_code_that_nobody_acquired_cannot_be_imported(tmp_path: Path) -> None:
    packed = code(tmp_path, PACKAGE)
    with pytest.raises(ModuleNotFoundError):
        packed.load("shop")


def test_code_is_compiled_once_also_where_python_writes_no_byte_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    version = code(tmp_path, PACKAGE)
    with used(version):
        version.load("shop")
    compiled = {file.name.partition(".")[0] for file in version.folder.rglob("*.pyc")}
    assert compiled == {"__init__", "models", "views"}
    monkeypatch.setattr("importlib._bootstrap_external.SourceLoader.source_to_code", None)
    with used(version):
        assert version.load("shop").WHO == "one"


def test_a_folder_that_takes_no_byte_code_is_imported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    version = code(tmp_path, PACKAGE)
    (version.folder / "shop" / "__pycache__").write_text("in the way")
    with used(version):
        assert version.load("shop").WHO == "one"


def test_what_is_wrong_with_a_source_is_told_where_byte_code_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    version = code(tmp_path, {"shop/__init__.py": "def broken(:\n"})
    with used(version), pytest.raises(SyntaxError) as caught:
        version.load("shop")
    assert caught.value.lineno == 1
