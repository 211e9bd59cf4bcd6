"""Scans of what moved since the last one, over a real folder and a real store."""

import asyncio
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane import errors
from controlplane.discovery import candidates, carrying, concluding, discovering, looking, packing, results
from controlplane.store.records import Lease, Record
from schemas import conditions, names
from schemas.inspections import InspectionReport, InspectionRequest
from schemas.kits.clocks import SystemClock
from schemas.meta import Json
from tests.controlplane.discovery.conftest import World
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until
from tests.doubles.sources import SMALL, write

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "PATIENCE", 0.0)
    monkeypatch.setattr(discovering, "NEWCOMER", 0.0)


def code(name: str, say: str = "") -> str:
    return SMALL.replace('"small"', f'"{name}"') + f"\n# {say}\n"


async def begin(world: World, count: int) -> None:
    """``count`` modules of discovery's, by the letters of the alphabet."""
    write(world.modules, {f"{name}.py": code(name) for name in "abcdefghijklmnop"[:count]})
    await world.discovery.discover()


async def apply(world: World, name: str, source: str, **source_fields: str) -> None:
    spec: Json = {"entryPoint": f"{source}:Small", **({"source": source_fields} if source_fields else {})}
    document = {"apiVersion": names.API_VERSION, "kind": "Module", "metadata": {"name": name}, "spec": spec}
    (outcome,) = await world.writer.apply([document], manager="ann")
    assert outcome.error is None


def written(look: Callable[[Path], looking.Tree], path: Path, name: str, text: str) -> looking.Tree:
    """A look at a moment when somebody writes."""
    with (path / name).open("a") as file:
        file.write(text)
    tree = look(path)
    tree.newest = sys.maxsize
    return tree


def told(record: Record) -> Json | None:
    found = [each for each in record.status["conditions"] if each["type"] == conditions.SOURCE_CURRENT]
    return found[0] if found else None


async def gone(world: World) -> list[str]:
    records = await world.store.read(lambda reading: reading.list("Module"))
    return [record.name for record in records if record.deleting]


async def test_a_save_is_a_new_generation_of_that_module_alone(world: World) -> None:
    await begin(world, 3)
    before = world.store.revision
    write(world.modules, {"b.py": code("b", "changed")})
    assert await world.discovery.catch_up() > 50
    assert [(await world.module(name)).generation for name in "abc"] == [1, 2, 1]
    assert sorted(world.inspector.asked) == ["a", "b", "b", "c"]
    after = world.store.revision
    assert after > before
    await world.discovery.catch_up()
    assert world.store.revision == after


async def test_what_is_still_being_written_waits_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(world, 2)
    monkeypatch.setattr(discovering, "RESTLESS", 0.0)
    look, writing = looking.look, True

    def busy(path: Path) -> looking.Tree:
        return look(path) if not writing else written(look, path, "a.py", "half = (\n")

    monkeypatch.setattr(looking, "look", busy)
    write(world.modules, {"a.py": code("a", "new"), "b.py": code("b", "new")})
    assert await world.discovery.catch_up() <= discovering.QUIET
    assert [(await world.module(name)).generation for name in "ab"] == [1, 2]
    answer = await world.discovery.discover()
    assert [failure["path"] for failure in answer["failed"]] == ["a"]
    assert "is being written" in answer["failed"][0]["message"]
    writing = False
    write(world.modules, {"a.py": code("a", "new")})
    await world.discovery.catch_up()
    assert [(await world.module(name)).generation for name in "ab"] == [2, 2]
    assert "half" not in (world.discovery._sources.code_root / _folder(await world.module("a")) / "a.py").read_text()


def _folder(record: Record) -> str:
    return str(record.spec["source"]["digest"]).removeprefix("sha256:")


async def test_a_manifest_that_is_being_written_keeps_its_code_from_being_taken_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovering, "RESTLESS", 0.0)
    look, writing = looking.look, True

    def busy(path: Path) -> looking.Tree:
        return look(path) if not writing else written(look, path, "shop.yaml", "#\n")

    monkeypatch.setattr(looking, "look", busy)
    manifest = "apiVersion: modplane.dev/v1\nkind: Module\nmetadata: {name: shop}\nspec: {entryPoint: 'small:Small'}\n"
    write(world.modules, {"small.py": SMALL, "shop.yaml": manifest})
    await world.discovery.catch_up()
    assert await world.absent("small")
    writing = False
    await world.discovery.catch_up()
    assert await world.absent("small")
    assert not await world.absent("shop")


async def test_a_removed_module_of_six_is_deleted(world: World) -> None:
    await begin(world, 6)
    (world.modules / "c.py").unlink()
    await world.discovery.catch_up()
    assert await gone(world) == ["c"]


async def test_three_of_four_are_held_until_a_prune_and_are_told(world: World) -> None:
    await begin(world, 4)
    for name in "abc":
        (world.modules / f"{name}.py").unlink()
    await world.discovery.catch_up()
    assert await gone(world) == []
    condition = told(await world.module("b"))
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", concluding.GONE)
    assert "3 of 4 discovered modules are gone at once" in condition["message"]
    answer = await world.discovery.discover()
    assert (answer["missing"], answer["prunable"], answer["deleted"]) == ([*"abc"], [*"abc"], [])
    assert answer["held"] == "3 of 4 discovered modules are gone at once"
    write(world.modules, {"a.py": code("a")})
    await world.discovery.catch_up()
    assert told(await world.module("a")) is None
    answer = await world.discovery.discover(prune=True)
    assert (answer["missing"], answer["prunable"], answer["deleted"]) == ([], [], ["b", "c"])
    assert await gone(world) == ["b", "c"]


@pytest.mark.parametrize("empty", [True, False])
async def test_a_modules_path_that_is_empty_or_missing_deletes_nothing(world: World, empty: bool) -> None:
    await begin(world, 6)
    world.modules.rename(world.folder / "away")
    if empty:
        world.modules.mkdir()
    await world.discovery.catch_up()
    answer = await world.discovery.discover()
    assert (len(answer["missing"]), await gone(world)) == (6, [])
    assert answer["held"] == f"the modules path is {'empty' if empty else 'missing'}"
    if empty:
        world.modules.rmdir()
    (world.folder / "away").rename(world.modules)
    await world.discovery.catch_up()
    assert [told(await world.module(name)) for name in "abcdef"] == [None] * 6


async def test_a_folder_that_is_replaced_is_not_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "PATIENCE", 3600.0)
    await begin(world, 6)
    (world.modules / "c.py").rename(world.folder / "c.py")
    assert await world.discovery.catch_up() <= 1800
    assert (await gone(world), told(await world.module("c"))) == ([], None)
    (world.folder / "c.py").rename(world.modules / "c.py")
    assert await world.discovery.catch_up() > 50
    assert (await world.module("c")).generation == 1


async def test_what_a_person_made_is_only_reported_when_its_folder_goes(world: World) -> None:
    await begin(world, 6)
    write(world.modules, {"mine/__init__.py": SMALL})
    await apply(world, "mine", "mine")
    await world.discovery.catch_up()
    assert not await world.absent("mine")
    assert await world.absent("small"), "a person described this code"
    shutil.rmtree(world.modules / "mine")
    await world.discovery.catch_up()
    assert await gone(world) == []
    condition = told(await world.module("mine"))
    assert condition is not None
    assert "discovery did not make it" in condition["message"]
    assert (await world.discovery.discover(prune=True))["missing"] == ["mine"]
    assert await gone(world) == []


async def test_a_persons_words_keep_a_module_whose_code_went(world: World) -> None:
    await begin(world, 6)
    await world.writer.merge_patch("Module", "c", {"spec": {"displayName": "Ours"}}, manager="ann")
    (world.modules / "c.py").unlink()
    await world.discovery.catch_up()
    assert await gone(world) == []
    condition = told(await world.module("c"))
    assert condition is not None
    assert "ann wrote fields of it" in condition["message"]
    assert (await world.discovery.discover(prune=True))["deleted"] == ["c"]


async def test_a_pinned_digest_is_only_reported(world: World) -> None:
    await begin(world, 1)
    digest = (await world.module("a")).spec["source"]["digest"]
    await apply(world, "kept", "a", digest=digest)
    write(world.modules, {"a.py": code("a", "newer")})
    await world.discovery.catch_up()
    assert ((await world.module("a")).generation, (await world.module("kept")).generation) == (2, 1)
    condition = told(await world.module("kept"))
    assert condition is not None
    assert (condition["reason"], "ann pinned other code" in condition["message"]) == (concluding.PINNED, True)
    assert (await world.discovery.discover())["pinned"] == ["kept"]
    await world.writer.merge_patch("Module", "kept", {"spec": {"source": {"digest": None}}}, manager="ann")
    record = await world.module("kept")
    assert (told(record), record.generation) == (None, 2)


async def test_code_that_cannot_be_packed_says_why_on_the_module_and_serves_on(world: World) -> None:
    write(world.modules, {"shop/__init__.py": code("shop")})
    await world.discovery.discover()
    (world.modules / "shop" / "link.py").symlink_to("/etc/passwd")
    await world.discovery.catch_up()
    record = await world.module("shop")
    condition = told(record)
    assert condition is not None
    assert (condition["reason"], "link.py: a symbolic link" in condition["message"]) == ("SourceInvalid", True)
    assert (record.generation, record.spec["source"]["digest"][:7]) == (1, "sha256:")
    (world.modules / "shop" / "link.py").unlink()
    await world.discovery.catch_up()
    assert told(await world.module("shop")) is None


async def test_a_module_that_never_had_code_says_why_from_the_start(world: World) -> None:
    write(world.modules, {"shop/__init__.py": code("shop")})
    (world.modules / "shop" / "link.py").symlink_to("/etc/passwd")
    await apply(world, "mine", "shop")
    condition = told(await world.module("mine"))
    assert condition is not None
    assert (condition["reason"], condition["observedGeneration"]) == ("SourceInvalid", 1)
    woken: list[str] = []
    world.discovery.carrier.wake = woken.append
    (world.modules / "shop" / "link.py").rename(world.modules / "shop" / "other.py")
    await world.discovery.catch_up()
    assert woken == ["mine"]
    (world.modules / "shop" / "other.py").unlink()
    await world.discovery.catch_up()
    record = await world.module("mine")
    assert (told(record), record.generation, "digest" in record.spec["source"]) == (None, 2, True)


async def test_new_code_waits_for_a_persons_manifest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "NEWCOMER", 0.3)
    write(world.modules, {"small.py": SMALL, "mine.py": SMALL})
    assert await world.discovery.catch_up() <= 0.3
    assert await world.absent("small")
    await apply(world, "mine", "mine")

    async def there() -> bool:
        await world.discovery.catch_up()
        return not await world.absent("small")

    await until(there)
    assert (await world.module("small")).spec["entryPoint"] == "small:Small"
    assert (await world.module("mine")).generation == 1


async def test_what_a_person_deleted_stays_away_until_its_code_changes_or_a_scan_is_asked_for(world: World) -> None:
    await begin(world, 2)
    for _ in range(2):
        record = await world.module("a")
        await world.store.write(lambda tx, record=record: tx.remove(record))  # type: ignore[misc]
        write(world.modules, {"b.py": code("b", str(world.store.revision))})
        await world.discovery.catch_up()
        assert await world.absent("a")
        write(world.modules, {"a.py": code("a", str(world.store.revision))})
        await world.discovery.catch_up()
        assert not await world.absent("a")
    record = await world.module("a")
    await world.store.write(lambda tx: tx.remove(record))
    await world.discovery.discover()
    assert not await world.absent("a")


async def test_a_module_that_is_on_its_way_out_comes_back_when_it_is_gone(world: World) -> None:
    await begin(world, 6)
    (world.modules / "c.py").unlink()
    await world.discovery.catch_up()
    leaving = await world.module("c")
    write(world.modules, {"c.py": code("c")})
    assert await world.discovery.catch_up() <= carrying.AGAIN
    await world.store.write(lambda tx: tx.remove(leaving))
    world.discovery._due = 0.0
    await world.discovery.catch_up()
    assert (await world.module("c")).uid != leaving.uid


async def test_an_edit_between_look_and_deletion_keeps_the_module(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(world, 6)
    edits = ["c"]
    write_ = world.discovery._own.write

    async def late(*given: object, **more: object) -> object:
        if edits:
            await world.writer.merge_patch("Module", edits.pop(), {"spec": {"displayName": "Ours"}}, manager="ann")
        return await write_(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(world.discovery._own, "write", late)
    (world.modules / "c.py").unlink()
    await world.discovery.catch_up()
    assert await gone(world) == []
    condition = told(await world.module("c"))
    assert condition is not None
    assert "ann wrote fields of it" in condition["message"]


async def test_only_the_leader_discovers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(world, 6)
    leads: list[int | None] = [None]
    other = discovering.Discovery(
        world.store,
        world.discovery._clock,
        world.inspector,
        modules_path=world.modules,
        data_dir=world.folder / "data",
        epoch=lambda: leads[0],
        quiet=0.02,
    )
    with pytest.raises(errors.Unreachable, match="only the leader discovers"):
        await other.discover()
    leads[0] = 1
    await world.store.write(lambda tx: tx.put_lease(Lease("b", 2, 1)))
    (world.modules / "c.py").unlink()
    with pytest.raises(errors.Fenced):
        await other.discover()
    assert await gone(world) == []


async def test_code_that_takes_its_time_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "SOON", 0.0)
    inspect, go, stirred = world.inspector.inspect, asyncio.Event(), asyncio.Event()
    world.discovery.stirred = stirred.set

    async def slow(request: InspectionRequest) -> InspectionReport:
        if request.source_path == "slow":
            await go.wait()
        return await inspect(request)

    monkeypatch.setattr(world.inspector, "inspect", slow)
    await begin(world, 1)
    write(world.modules, {"slow.py": code("slow"), "quick.py": code("quick")})

    async def taken(name: str) -> bool:
        await world.discovery.catch_up()
        return not await world.absent(name)

    await until(lambda: taken("quick"))
    assert await world.absent("slow")
    stirred.clear()
    go.set()
    await stirred.wait()
    assert await taken("slow")
    world.discovery.rest()


async def test_code_without_an_answer_is_asked_about_again_later_and_at_once_when_a_scan_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect, away = world.inspector.inspect, True
    asked: list[str] = []

    async def crash(request: InspectionRequest) -> InspectionReport:
        asked.append(request.source_path)
        if away:
            raise errors.Unreachable("the inspection process cannot be started")
        return await inspect(request)

    monkeypatch.setattr(world.inspector, "inspect", crash)
    write(world.modules, {"small.py": SMALL})
    assert await world.discovery.catch_up() <= 5.0
    write(world.modules, {"other.txt": ""})
    await world.discovery.catch_up()
    assert asked == ["small"]
    away = False
    assert (await world.discovery.discover())["applied"] == ["small"]
    assert asked == ["small", "small"]


async def test_code_that_never_answers_is_left_alone_after_a_few_attempts(world: World) -> None:
    clock = FakeClock()
    asked: list[str] = []

    class Away:
        host_version = "test"

        async def inspect(self, request: InspectionRequest) -> InspectionReport:
            asked.append(request.source_path)
            raise errors.Unreachable("not now")

    asker = candidates.Candidates(world.store, clock, Away(), world.folder, lambda: None)
    packed = {"small": "sha256:" + "a" * 64}
    for attempt in range(1, candidates.ATTEMPTS + 3):
        assert (await asker.reports(packed, 60.0))["small"].reason == "InspectionUnavailable"
        assert len(asked) == min(attempt, candidates.ATTEMPTS)
        await clock.advance(60.0)
    assert asker.due() is None
    await asker.reports(packed, 60.0, anew=True)
    assert len(asked) == candidates.ATTEMPTS + 1


async def test_a_scan_that_is_asked_for_ends_in_time_and_says_what_is_still_being_inspected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect, go = world.inspector.inspect, asyncio.Event()
    asked: list[str] = []

    async def hang(request: InspectionRequest) -> InspectionReport:
        asked.append(request.source_path)
        if request.source_path != "quick":
            await go.wait()
        return await inspect(request)

    monkeypatch.setattr(world.inspector, "inspect", hang)
    monkeypatch.setattr(discovering, "ASKED", 0.2)
    monkeypatch.setattr(candidates, "HOLD", 0.01)
    slow = [f"slow{number}" for number in range(candidates.AT_ONCE)]
    write(world.modules, {f"{name}.py": code(name) for name in ["quick", *slow]})
    answer = await world.discovery.discover()
    assert answer["inspecting"] == slow
    assert "quick" not in answer["inspecting"]
    go.set()
    monkeypatch.setattr(discovering, "ASKED", 60.0)
    answer = await world.discovery.discover()
    assert (answer["inspecting"], answer["failed"]) == ([], [])
    assert sorted([*slow, "quick"]) == sorted(asked)
    assert {*slow, "quick"} <= {*answer["applied"], *answer["unchanged"]}


async def test_what_is_not_there_any_more_is_not_waited_for(world: World) -> None:
    asking = asyncio.Event()

    class Never:
        host_version = "test"

        async def inspect(self, request: InspectionRequest) -> InspectionReport:
            asking.set()
            never: asyncio.Future[InspectionReport] = asyncio.get_running_loop().create_future()
            return await never

    asker = candidates.Candidates(world.store, SystemClock(), Never(), world.folder, lambda: None)
    assert await asker.reports({"small": "sha256:" + "a" * 64}, 0.0) == {}
    await asking.wait()
    assert await asker.reports({"small": "sha256:" + "b" * 64}, 0.0) == {}
    asker.close()
    assert asker.due() is None


def test_a_name_that_is_no_text_can_be_told() -> None:
    assert results.text("\udcff.py") == "?.py"


async def test_code_that_our_own_disk_does_not_take_is_taken_as_soon_as_it_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(world, 2)
    put, full = packing._put, True

    def no_room(*words: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(*words)

    monkeypatch.setattr(packing, "_put", no_room)
    write(world.modules, {"a.py": code("a", "newer"), "c.py": code("c")})
    await apply(world, "c", "c")
    assert await world.discovery.catch_up() <= discovering.UNKEPT
    for name, generation in (("a", 1), ("c", 1)):
        condition = told(await world.module(name))
        assert condition is not None
        assert condition["reason"] == conditions.SOURCE_INVALID
        assert "code: the packed code cannot be written: No space left on device; free space" in condition["message"]
        assert (await world.module(name)).generation == generation
    full = False
    monkeypatch.setattr(world.discovery, "_due", 0.0)
    assert await world.discovery.catch_up() > discovering.UNKEPT
    for name in "ac":
        module = await world.module(name)
        assert (told(module), module.generation) == (None, 2)


async def test_other_code_where_a_persons_module_still_has_to_go_is_taken_when_it_is_gone(world: World) -> None:
    await begin(world, 2)
    write(world.modules, {"shop.py": code("shop")})
    await apply(world, "shop", "shop")
    await world.discovery.catch_up()
    await world.writer.delete("Module", "shop")
    write(world.modules, {"shop.py": code("shop", "another")})
    assert await world.discovery.catch_up() <= carrying.AGAIN
    leaving = await world.module("shop")
    assert leaving.deleting
    await world.store.write(lambda tx: tx.remove(leaving))
    world.discovery._due = 0.0
    assert await world.discovery.catch_up() > carrying.AGAIN
    assert (await world.module("shop")).uid != leaving.uid
