"""Modules come and go by the thousand, and nothing of them stays."""

import asyncio
import gc
import linecache
import logging
import os
import sys
import threading
import typing
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi import FastAPI

from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.runtime import building, forgetting, importing
from tests.doubles import sources
from tests.doubles.asgi import call
from tests.doubles.polling import until

PREFIX = "/api/v1/modules/v1"
NOW = datetime(2030, 1, 1, tzinfo=UTC)

PLAIN = """
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

MARK = {mark}

class Small(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="small", version="1.0.0")

    def register_routes(self, router):
        @router.get("/mark")
        @require_module_auth("NONE")
        async def mark():
            return MARK
"""

RICH = """
import logging
from contextlib import asynccontextmanager
from typing import Annotated, Generic, Literal, Optional, TypeVar, overload

from fastapi import BackgroundTasks, Depends, Query
from pydantic import BaseModel

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

logger = logging.getLogger(__name__)
T = TypeVar("T")
MARK = {mark}

class Item(BaseModel):
    name: str
    kind: Literal["a", "b"] = "a"
    parts: list["Item"] = []

class Page(BaseModel, Generic[T]):
    items: list[T]

class Odd(Exception):
    pass

@overload
def twice(value: int) -> int: ...
@overload
def twice(value: str) -> str: ...
def twice(value):
    return value * 2

async def session(limit: Annotated[int, Query()] = 10):
    yield limit

class Small(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="small", version="1.0.0")

    def exception_handlers(self):
        from fastapi.responses import JSONResponse
        async def odd(request, error):
            return JSONResponse("odd", 400)
        return {{Odd: odd}}

    def on_startup(self):
        self.started = True

    def register_routes(self, router):
        @router.get("/mark")
        @require_module_auth("NONE")
        async def mark():
            return MARK

        @router.post("/items")
        @require_module_auth("NONE")
        async def items(item: Item, limit: Annotated[int, Depends(session)], later: BackgroundTasks) -> Page[Item]:
            later.add_task(logger.debug, "made")
            return Page[Item](items=[item] * min(limit, 2))

        @router.get("/plain/{{number}}")
        @require_module_auth("NONE")
        def plain(number: Optional[int] = None) -> dict[str, Item] | None:
            if number:
                raise Odd
            return None

        @router.get("/crash")
        @require_module_auth("NONE")
        async def crash():
            raise RuntimeError("crash")
"""
ROUTES = {PLAIN: [("GET", "/mark")], RICH: [("GET", "/mark"), ("POST", "/items"), ("GET", "/plain/{number}"),
                                            ("GET", "/crash")]}  # fmt: skip


@dataclass(frozen=True)
class Footprint:
    """What a process is made of, where it can be counted."""

    threads: int
    tasks: int
    descriptors: int
    modules: int
    applications: int
    instances: int
    loggers: int
    remembered: int
    """Source lines, import paths and overloads kept by name."""

    @classmethod
    def now(cls) -> "Footprint":
        gc.collect()
        alive = Counter(type(each) for each in gc.get_objects())
        return cls(
            threads=threading.active_count(),
            # the one timer of all calls' deadlines rests a moment after the last of them
            tasks=sum(task.get_name() != "deadlines" for task in asyncio.all_tasks()),
            descriptors=len(os.listdir("/proc/self/fd")),
            modules=len(sys.modules),
            applications=alive[FastAPI],
            instances=alive[building.Instance] + alive[serving.Served],
            loggers=len(logging.Logger.manager.loggerDict),
            remembered=sum(
                key.startswith("/") and "code" in key for key in [*linecache.cache, *sys.path_importer_cache]
            )
            + len(getattr(typing, "_overload_registry", ())),
        )


class Rig:
    """A host with the real runtime below it."""

    def __init__(self, code_root: Path) -> None:
        self.code_root = code_root
        self.host = hosting.Host()
        self.pages = pages.Pages(self.host, ready=dict, info=dict, version="1")
        self.app = dispatching.Dispatcher(self.host, self.pages)
        self.refs: list[weakref.ref[Any]] = []

    def built(self, text: str, mark: int, *, name: str, generation: int) -> serving.Served:
        digest = sources.store(self.code_root, {"small.py": text.format(mark=mark)})
        desired = sources.desired(digest, "small:Small", ROUTES[text], namespace=name)
        instance = building.build(desired, name=name, uid="u1", generation=generation, code_root=self.code_root)
        self.refs.extend(weakref.ref(each) for each in (instance, instance.app, type(instance.module)))
        return serving.serve(instance, NOW)

    async def publish(self, text: str, mark: int, *, name: str = "small", generation: int = 1) -> None:
        await self.host.install(self.built(text, mark, name=name, generation=generation))
        answer = await call(self.app, "GET", f"{PREFIX}/{name}/mark")
        assert answer.json == mark

    async def use(self, name: str = "small") -> None:
        """Every kind of request, so that every cache is warm."""
        path, kind = f"{PREFIX}/{name}", {"content-type": "application/json"}
        answer = await call(self.app, "POST", f"{path}/items", body=b'{"name": "x"}', headers=kind)
        assert len(answer.json["items"]) == 2
        assert (await call(self.app, "POST", f"{path}/items", body=b"{}", headers=kind)).status == 422
        assert (await call(self.app, "GET", f"{path}/plain/1")).status == 400
        assert (await call(self.app, "GET", f"{path}/crash")).status == 500
        assert (await call(self.app, "GET", f"/openapi.json?module={name}")).status == 200

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(ref() is not None for ref in self.refs)


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "code")


async def rounds(rig: Rig, number: int, change: Callable[[int], Any]) -> tuple[Footprint, Footprint]:
    """The footprints after a tenth and after all of ``number`` changes, with nothing in service."""
    for index in range(number // 10):
        await change(index)
    first = Footprint.now()
    for index in range(number // 10, number):
        await change(index)
    return first, Footprint.now()


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
async def test_publications_of_plain_modules_by_the_thousand_leave_nothing(rig: Rig, number: int) -> None:
    async def change(index: int) -> None:
        """A module of its own that comes and goes, then other code twice under one name, then that goes, too."""
        name = "small" if index % 4 else f"m{index}"
        await rig.publish(PLAIN, index, name=name, generation=index)
        if index % 4 in {0, 3}:
            await rig.host.remove(name, "u1")
        await until(lambda: not rig.host.retiring, step=0.001)

    def imported() -> set[str]:
        return {name for name in sys.modules if name.startswith(f"{importing.ROOT}.")}

    before = imported()
    first, last = await rounds(rig, number, change)
    assert first == last
    assert rig.alive == 0
    assert rig.host.departed.unloaded == number
    assert rig.host.departed.pinned() == []
    assert imported() <= before


async def test_rich_modules_that_were_used_leave_nothing_and_no_memory(rig: Rig) -> None:
    async def change(index: int) -> None:
        await rig.publish(RICH, index)
        await rig.use()
        await rig.host.remove("small", "u1")

    await rounds(rig, 20, change)
    before = psutil.Process().memory_info().rss
    first, last = await rounds(rig, 80, change)
    assert first == last
    assert rig.alive == 0
    # 80 of them cost 6 MiB when the caches of FastAPI and typing held them
    assert psutil.Process().memory_info().rss - before < 4 * 2**20


async def test_instances_go_at_once_without_the_collector(rig: Rig) -> None:
    gc.collect()
    gc.disable()
    try:
        await rig.publish(PLAIN, 1)
        instance = rig.refs[0]
        await rig.host.remove("small", "u1")
        assert instance() is None
    finally:
        gc.enable()


async def test_code_that_another_generation_runs_is_not_called_pinned(rig: Rig) -> None:
    await rig.publish(PLAIN, 1)
    await rig.publish(PLAIN, 1, generation=2)
    await until(lambda: not rig.host.retiring)
    gc.collect()
    assert rig.host.departed.pinned() == []
    await rig.host.remove("small", "u1")
    assert rig.alive == 0


async def test_what_somebody_holds_on_to_is_counted_and_named_until_they_let_go(rig: Rig) -> None:
    await rig.publish(PLAIN, 1, name="held", generation=7)
    served = rig.host.snapshot.modules["held"]
    assert isinstance(served.instance, building.Instance)
    held: list[object] = [type(served.instance.module)]
    del served
    await rig.host.remove("held", "u1")
    gc.collect()
    facts = rig.host.departed.wire()
    assert (facts["unloaded"], facts["pinned"]) == (1, 1)
    assert [(each["module"], each["generation"]) for each in facts["pinnedGenerations"]] == [("held", 7)]
    held.clear()
    gc.collect()
    assert rig.host.departed.wire()["pinned"] == 0


async def test_between_two_full_collections_nothing_counts_as_pinned(rig: Rig) -> None:
    gc.collect()
    gc.disable()
    try:
        await rig.publish(PLAIN, 1)
        await rig.host.remove("small", "u1")
        assert rig.host.departed.pinned() == []
    finally:
        gc.enable()


async def test_where_endpoints_stand_is_told_as_the_framework_finds_it(rig: Rig) -> None:
    from fastapi import routing

    served = rig.built(RICH, 1, name="small", generation=1)
    assert isinstance(served.instance, building.Instance)
    for route in served.instance.routes:
        told = routing._endpoint_context_cache.pop(id(route.endpoint))
        assert routing._extract_endpoint_context(route.endpoint) == told
    served.instance.unload()


async def test_an_endpoint_at_the_address_of_an_unloaded_one_does_not_inherit_its_place(rig: Rig) -> None:
    from fastapi import routing

    await rig.publish(RICH, 1)
    await rig.use()
    known = set(routing._endpoint_context_cache)
    endpoints = {id(route.endpoint) for route in rig.host.snapshot.modules["small"].instance.routes}  # type: ignore[union-attr]
    assert known & endpoints
    await rig.host.remove("small", "u1")
    assert not set(routing._endpoint_context_cache) & endpoints


async def test_other_loggers_stay(rig: Rig) -> None:
    logging.getLogger("modplane_modules_of_mine.x")
    await rig.publish(RICH, 1)
    assert [name for name in logging.Logger.manager.loggerDict if name.startswith(f"{importing.ROOT}.small__")]
    await rig.host.remove("small", "u1")
    assert not [name for name in logging.Logger.manager.loggerDict if name.startswith(f"{importing.ROOT}.small__")]
    assert "modplane_modules_of_mine.x" in logging.Logger.manager.loggerDict


def test_the_caches_that_are_emptied_are_there() -> None:
    cleared = {getattr(each, "__qualname__", "") for each in forgetting._clearers()}
    assert len(forgetting._clearers()) > 10, cleared


async def test_the_caches_are_looked_for_when_a_module_is_built_not_when_one_is_unloaded_on_the_loop(rig: Rig) -> None:
    forgetting._clearers.cache_clear()
    await rig.publish(RICH, 1)
    assert forgetting._clearers.cache_info().misses == 1
    await rig.host.remove("small", "u1")
    assert forgetting._clearers.cache_info().misses == 1


@pytest.mark.processes
@pytest.mark.parametrize("number", [160, pytest.param(1000, marks=pytest.mark.slow)])
async def test_a_worker_process_stays_as_it_is_through_changes(workers: Any, number: int) -> None:
    process = await workers.start()
    async with httpx.AsyncClient() as client:
        digest = sources.store(workers.code_root, {"small.py": PLAIN.format(mark=-1)})
        await workers.leader.desire("stays", sources.desired(digest, "small:Small", ROUTES[PLAIN], namespace="stays"))
        own = (await process.ready())["address"]

        async def change(index: int) -> None:
            digest = sources.store(workers.code_root, {"small.py": PLAIN.format(mark=index)})
            desired = sources.desired(digest, "small:Small", ROUTES[PLAIN], namespace="comes")

            async def answers() -> bool:
                answer = await client.get(f"{own}{PREFIX}/comes/mark")
                return answer.status_code == 200 and answer.json() == index

            await workers.leader.desire("comes", desired, uid=f"u{index // 4}", generation=index)
            await until(answers, step=0.002)
            if index % 10 == 0:
                document = (await client.get(f"{own}/openapi.json")).json()
                assert set(document["paths"]) == {f"{PREFIX}/{name}/mark" for name in ("stays", "comes")}
            if index % 4 == 3:
                await workers.leader.desire("comes", None, uid=f"u{index // 4}", generation=index)

                async def gone() -> bool:
                    return (await client.get(f"{own}{PREFIX}/comes/mark")).status_code == 404

                await until(gone, step=0.002)

        async def settled() -> dict[str, Any]:
            async def unloaded() -> dict[str, Any] | None:
                facts: dict[str, Any] = (await client.get(f"{own}/modules/system/info")).json()
                told = facts["report"]["pinned"] == 0  # by a report that may be a moment old
                return facts if told and facts["draining"] == 0 and len(facts["modules"]) == 1 else None

            return await until(unloaded) or {}

        counted = psutil.Process(process.process.pid)
        for index in range(40):
            await change(index)
        await settled()
        threads, descriptors, memory = counted.num_threads(), counted.num_fds(), counted.memory_info().rss
        for index in range(40, number):
            await change(index)
        facts = await settled()
        assert facts["unloading"]["unloaded"] == number
        assert facts["unloading"]["pinned"] == 0

        async def flat() -> bool:  # a save that is under way holds a journal and its folder for a moment
            return counted.num_threads() <= threads + 1 and counted.num_fds() <= descriptors + 1

        await until(flat, step=0.02)
        # a leak of one module with its classes costs about 70 KiB: 120 of them 8 MiB
        assert counted.memory_info().rss - memory < 6 * 2**20
        bundle = next(part for part in (await client.get(f"{own}/docs")).text.split('"') if "bundle" in part)
        for method, size in (("GET", 1_000_000), ("HEAD", -1)):
            answer = await client.request(method, f"{own}/{bundle}")
            assert (answer.status_code, len(answer.content) > size) == (200, True)
            assert int(answer.headers["content-length"]) > 1_000_000
    assert await process.end() == 0
