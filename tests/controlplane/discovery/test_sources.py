"""From a source path to a digest, without reading twice what was not touched."""

import os
import time
from pathlib import Path

import pytest

from controlplane import errors
from controlplane.discovery import packing
from controlplane.discovery.sources import Found, Sources
from schemas import digests
from tests.doubles import sources


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    (tmp_path / "modules").mkdir()
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10_000_000_000)
    return Sources(tmp_path / "modules", tmp_path / "data")


async def resolve(shelf: Sources, path: str) -> str | None:
    answer = (await shelf.resolve_all([path]))[path]
    assert not isinstance(answer, errors.SourceInvalid), answer
    return answer


async def refusal(shelf: Sources, path: str) -> errors.SourceInvalid:
    answer = (await shelf.resolve_all([path]))[path]
    assert isinstance(answer, errors.SourceInvalid), answer
    return answer


async def test_what_was_not_touched_is_not_read_again(shelf: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(shelf.modules_path, {"a.py": "A = 1\n"})
    first = await resolve(shelf, "a")
    assert first is not None
    packed: list[Path] = []
    read = packing.read
    monkeypatch.setattr(packing, "read", lambda place: packed.append(place) or read(place))  # type: ignore[func-returns-value]
    assert await resolve(shelf, "a") == first
    assert not packed
    sources.write(shelf.modules_path, {"a.py": "A = 2\n"})
    second = await resolve(shelf, "a")
    assert packed
    assert second not in (None, first)
    sources.write(shelf.modules_path, {"a.py": "A = 1\n"})
    assert await resolve(shelf, "a") == first


async def test_code_that_went_from_the_store_is_packed_again(shelf: Sources) -> None:
    sources.write(shelf.modules_path, {"a.py": "A = 1\n"})
    digest = await resolve(shelf, "a")
    assert digest is not None
    folder = shelf.code_root / digests.folder_name(digest)
    folder.rename(folder.with_name("away"))
    assert await resolve(shelf, "a") == digest
    assert folder.is_dir()


async def test_a_torn_folder_of_an_earlier_crash_is_packed_again(shelf: Sources) -> None:
    sources.write(shelf.modules_path, {"a.py": "A = 1\n"})
    digest = await resolve(shelf, "a")
    assert digest is not None
    torn = shelf.code_root / digests.folder_name(digest) / "a.py"
    torn.chmod(0o644)
    torn.write_text("")
    later = Sources(shelf.modules_path, shelf.code_root.parent)
    assert await resolve(later, "a") == digest
    assert torn.read_text() == "A = 1\n"


async def test_nothing_there_has_no_digest_and_no_problem(shelf: Sources) -> None:
    assert await shelf.find(["ghost"]) == {"ghost": Found()}


async def test_what_cannot_be_packed_has_no_digest_but_a_reason(shelf: Sources) -> None:
    sources.write(shelf.modules_path, {"a/__init__.py": ""})
    (shelf.modules_path / "a" / "link").symlink_to("/etc/passwd")
    assert "symbolic link" in (await refusal(shelf, "a")).message
    (shelf.modules_path / "a" / "link").unlink()
    assert await resolve(shelf, "a") is not None


async def test_a_disk_that_fails_is_a_reason(shelf: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(shelf.modules_path, {"a.py": ""})

    def broken(place: Path) -> packing.Listing:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(packing, "listing", broken)
    assert "Permission denied; check its permissions" in (await refusal(shelf, "a")).message


async def test_a_source_that_never_rests_is_busy_and_not_broken(
    shelf: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write(shelf.modules_path, {"a.py": ""})
    monkeypatch.setattr(packing, "_read", lambda found: None)
    assert (await refusal(shelf, "a")).retryable
    assert (await shelf.find(["a"]))["a"].busy


async def test_what_did_not_move_is_not_looked_at_again(shelf: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write(shelf.modules_path, {"a.py": "A = 1\n", "b.py": "B = 1\n"})
    first = await shelf.find(["a", "b"])
    looked: list[str] = []
    locate = packing.locate
    monkeypatch.setattr(packing, "locate", lambda root, path: looked.append(path) or locate(root, path))  # type: ignore[func-returns-value]
    assert await shelf.find(["a", "b"], lambda path: path == "a") == first
    assert looked == ["b"]
