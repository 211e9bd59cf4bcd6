"""No module takes all threads: each has a share of the pool that runs ``def`` handlers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends

from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.runtime import sharing
from schemas.module import Limits
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until


class Gate:
    """Plain functions that wait in here, counted."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self.opened = threading.Event()

    def wait(self) -> str:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.opened.wait(20)
        with self._lock:
            self.inside -= 1
        return "done"

    def register(self, router: APIRouter) -> None:
        router.add_api_route("/handler", self.wait)

        def dependent(value: Annotated[str, Depends(self.wait)]) -> str:
            return value

        async def background(tasks: BackgroundTasks) -> str:
            tasks.add_task(self.wait)
            return "later"

        async def direct() -> str:
            return await anyio.to_thread.run_sync(self.wait)

        router.add_api_route("/dependency", dependent)
        router.add_api_route("/background", background)
        router.add_api_route("/direct", direct)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


class Door:
    def __init__(self) -> None:
        self.host = hosting.Host()
        answers = pages.Pages(self.host, ready=lambda: {"ready": True}, info=dict, version="1")
        app = dispatching.Dispatcher(self.host, answers)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")

    async def install(self, gate: Gate, name: str, most: int, **more: Any) -> serving.Served:
        instance = FakeInstance(gate.register, name=name, limits=Limits(max_threads=most), **more)
        served = serving.serve(instance, instance_time())
        await self.host.install(served)
        return served

    def call(self, name: str, path: str) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.client.get(f"/api/v1/modules/v1/{name}/{path}"))


def instance_time() -> Any:
    from datetime import UTC, datetime

    return datetime(2030, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def opened() -> AsyncIterator[Door]:
    door = Door()
    async with door.client:
        yield door


@pytest.mark.parametrize("path", ["handler", "dependency", "background", "direct"])
async def test_a_module_uses_no_more_threads_than_its_share_and_others_find_theirs(gate: Gate, path: str) -> None:
    sharing.install(8)
    other = Gate()
    other.opened.set()
    async with opened() as door:
        served = await door.install(gate, "greedy", 3)
        await door.install(other, "modest", 3)
        greedy = [door.call("greedy", path) for _ in range(12)]
        await until(lambda: gate.inside == 3)
        # nine more are waiting, and a neighbour is answered at once
        answers = [await door.call("modest", path) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert gate.inside == served.share.used == 3
        gate.opened.set()
        assert {(await one).status_code for one in greedy} == {200}
        assert gate.most == 3
        assert served.share.used == 0


async def test_the_largest_share_leaves_a_quarter_of_the_pool(gate: Gate) -> None:
    sharing.install(8)
    other = Gate()
    other.opened.set()
    async with opened() as door:
        await door.install(gate, "greedy", 1000)
        await door.install(other, "modest", 1)
        greedy = [door.call("greedy", "handler") for _ in range(12)]
        await until(lambda: gate.inside == 6)
        assert (await door.call("modest", "handler")).status_code == 200
        gate.opened.set()
        await asyncio.gather(*greedy)
        assert gate.most == 6


async def test_a_caller_who_gives_up_while_waiting_takes_nothing_with_it(gate: Gate) -> None:
    sharing.install(4)
    pool = anyio.to_thread.current_default_thread_limiter()
    async with opened() as door:
        served = await door.install(gate, "greedy", 1)
        first, second = door.call("greedy", "handler"), door.call("greedy", "handler")
        await until(lambda: len(served.tasks) == 2 and gate.inside == 1)
        second.cancel()
        await asyncio.wait([second])
        gate.opened.set()
        assert (await first).status_code == 200
        assert (served.share.used, pool.borrowed_tokens) == (0, 0)


async def test_a_share_is_given_back_when_the_pool_is_not_reached(gate: Gate) -> None:
    sharing.install(2)
    share = sharing.Share(5)
    pool = anyio.to_thread.current_default_thread_limiter()
    holders = [object(), object()]
    for holder in holders:
        pool.acquire_on_behalf_of_nowait(holder)
    with sharing.within(share):
        waiting = asyncio.create_task(anyio.to_thread.run_sync(gate.wait))
    await until(lambda: share.used == 1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert share.used == 0
    for holder in holders:
        pool.release_on_behalf_of(holder)


async def test_the_host_itself_has_no_share_and_installing_twice_changes_only_the_size() -> None:
    sharing.install(3)
    kind = type(anyio.to_thread.current_default_thread_limiter())
    sharing.install(5)
    pool = anyio.to_thread.current_default_thread_limiter()
    assert type(pool) is kind
    assert pool.total_tokens == 5
    assert sharing.current.get() is None
    assert await anyio.to_thread.run_sync(lambda: 7) == 7


async def test_a_modules_start_runs_within_its_share() -> None:
    seen: list[sharing.Share | None] = []

    class Starting(FakeInstance):
        async def start(self, timeout: float) -> None:
            await super().start(timeout)
            seen.append(sharing.current.get())

    host = hosting.Host()
    served = serving.serve(Starting(Gate().register), instance_time())
    await host.install(served)
    assert seen == [served.share]
    assert sharing.current.get() is None
