"""What a watched file holds is taken when it changes and is good; else the last good content counts."""

import asyncio
from pathlib import Path

import pytest

from schemas.kits import watchedfiles
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until


def numbers(raw: bytes) -> list[int]:
    return [int(line) for line in raw.split()]


def put(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


async def test_good_content_is_told_once_and_bad_content_changes_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "numbers", FakeClock()
    put(path, "1 2")
    watched = watchedfiles.WatchedFile(path, numbers, clock, most=100)
    told: list[list[int]] = []
    task = asyncio.create_task(watched.run(told.append))
    await until(lambda: clock.sleepers == 1)
    for text, content in (("3", [3]), ("x", [3]), ("03", [3]), ("4", [4])):
        put(path, text)
        await clock.advance(watchedfiles.LOOK_SECONDS)
        await until(lambda: clock.sleepers == 1)
        assert watched.content == content
        assert bool(watched.trouble) is (text == "x")
    assert (told, watched.revision) == ([[3], [4]], 2)
    path.unlink()
    assert not await watched.look()
    assert (watched.content, "numbers" in watched.trouble) == ([4], True)
    task.cancel()


def test_nothing_good_is_no_beginning(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    with pytest.raises(OSError, match="numbers"):
        watchedfiles.WatchedFile(path, numbers, FakeClock(), most=100)
    path.write_text("no")
    with pytest.raises(ValueError, match="no"):
        watchedfiles.WatchedFile(path, numbers, FakeClock(), most=100)


def test_no_more_is_read_than_is_allowed_and_one(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(b"1 " * 1_000)
    seen: list[int] = []
    watchedfiles.WatchedFile(path, lambda raw: seen.append(len(raw)), FakeClock(), most=10)
    assert seen == [11]
