"""Whether changes on a real disk become one catch-up each, over a discovery that only counts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import watchfiles

from controlplane.discovery import looking, watching
from schemas.kits.clocks import SystemClock
from tests.doubles import sources
from tests.doubles.polling import until


class Counting:
    """Looks, and remembers what had moved."""

    def __init__(self, modules: Path) -> None:
        self._modules = modules
        self._tree = looking.Tree(looking.Root.MISSING)
        self.scans: list[set[str]] = []
        self.looks = 0
        self.rested = False
        self.stirred: Callable[[], None] = lambda: None

    @property
    def folders(self) -> Mapping[str, tuple[int, int]]:
        return self._tree.folders

    async def begin(self) -> None:
        self._tree = await asyncio.to_thread(looking.look, self._modules)

    def rest(self) -> None:
        self.rested = True

    async def catch_up(self) -> float:
        self.looks += 1
        tree = await asyncio.to_thread(looking.look, self._modules)
        moved = looking.moved(self._tree, tree)
        self._tree = tree
        if moved:
            self.scans.append(moved)
        return 3600.0

    @property
    def seen(self) -> set[str]:
        return set().union(*self.scans)


@contextlib.asynccontextmanager
async def watched(modules: Path, poll: float = 0.0) -> AsyncIterator[Counting]:
    counting = Counting(modules)
    watch = watching.Watching(counting, modules, SystemClock(), poll=poll)
    running = asyncio.create_task(watch.run())
    await until(lambda: counting.looks > 0)
    yield counting
    running.cancel()
    await asyncio.wait({running})
    assert counting.rested


async def test_who_has_more_to_do_is_asked_at_once(modules: Path) -> None:
    async with watched(modules, 3600) as counting:
        looks = counting.looks
        counting.stirred()
        await until(lambda: counting.looks > looks)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    return sources.write(tmp_path / "modules", {"a.py": "", "shop/x.py": ""})


@pytest.mark.parametrize("poll", [0.0, 0.05])
async def test_a_save_is_noticed_wherever_it_is(modules: Path, poll: float) -> None:
    async with watched(modules, poll) as counting:
        (modules / "shop" / "x.py").write_text("1")
        await until(lambda: "shop/x.py" in counting.seen)
        sources.write(modules, {"new/deep/y.py": ""})
        await until(lambda: "new/deep/y.py" in counting.seen)
        (modules / "new" / "deep" / "y.py").write_text("2")
        await until(lambda: "new/deep/y.py" in counting.scans[-1] and len(counting.scans) > 2)


async def test_a_thousand_saves_are_one_burst(modules: Path) -> None:
    async with watched(modules) as counting:
        before = counting.looks
        for number in range(1_000):
            (modules / "a.py").write_text(str(number))
        await until(lambda: "a.py" in counting.seen)
        (modules / "last.py").touch()
        await until(lambda: "last.py" in counting.seen)
        assert counting.looks - before <= 10


@pytest.mark.parametrize("poll", [0.0, 0.05])
async def test_a_modules_path_that_goes_and_comes_back_is_noticed(
    modules: Path, poll: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RETURN", 0.05)
    async with watched(modules, poll) as counting:
        modules.rename(modules.with_name("away"))
        await until(lambda: counting.folders == {})
        modules.with_name("away").rename(modules)
        await until(lambda: len(counting.folders) == 2)
        (modules / "a.py").write_text("again")
        await until(lambda: counting.scans[-1] == {"a.py"})


async def test_what_lies_behind_a_link_wakes_nobody(modules: Path) -> None:
    outside = sources.write(modules.parent / "outside", {"x.py": ""})
    (modules / "linked").symlink_to(outside)
    async with watched(modules) as counting:
        before = counting.looks
        (outside / "x.py").write_text("1")
        (modules / ".a.py.swp").write_text("1")
        (modules / "a.py").write_text("1")
        await until(lambda: counting.scans == [{"a.py"}])
        assert counting.looks - before <= 2


async def test_where_the_system_does_not_tell_looks_take_its_place(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: Path, **more: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watchfiles, "watch", full)
    monkeypatch.setattr(watching, "POLL", 0.05)
    async with watched(modules) as counting:
        (modules / "a.py").write_text("1")
        await until(lambda: "a.py" in counting.seen)


async def test_a_folder_that_goes_before_it_is_watched_does_no_harm(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, asked = watchfiles.watch, []

    def late(*paths: Path, **more: object) -> object:
        asked.append(paths)
        return watch(*paths, *([modules / "went"] if len(asked) == 1 else []), **more)  # type: ignore[arg-type]

    monkeypatch.setattr(watchfiles, "watch", late)
    monkeypatch.setattr(watching, "POLL", 0.05)
    async with watched(modules) as counting:
        (modules / "a.py").write_text("1")
        await until(lambda: "a.py" in counting.seen)
