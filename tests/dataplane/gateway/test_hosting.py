"""Modules come and go while requests flow, and nobody inside is cut off before the grace is over."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from fastapi import APIRouter, WebSocket

from dataplane.errors import StartFailed
from dataplane.gateway import hosting, serving
from dataplane.runtime import sweeping
from schemas.policies import EffectivePolicy
from tests.doubles.asgi import Socket, call
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until

PREFIX = "/api/v1/modules/v1/shop"


class Inside:
    """A route that holds its request until the test lets it go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

    def register(self, router: APIRouter) -> None:
        @router.get("/slow")
        async def slow() -> str:
            self.entered.set()
            await self.gate.wait()
            return "done"

        @router.websocket("/live")
        async def live(socket: WebSocket) -> None:
            await socket.accept()
            self.entered.set()
            await self.gate.wait()


def plain(router: APIRouter) -> None:
    router.add_api_route("/hello", lambda: "hello", methods=["GET"])


async def test_a_failing_start_publishes_nothing_and_the_last_good_keeps_serving(gateway: Any, now: Any) -> None:
    await gateway.install(plain)
    bad = FakeInstance(plain, generation=2)
    bad.failing = "no database"
    snapshot = gateway.host.snapshot
    with pytest.raises(StartFailed, match="no database"):
        await gateway.host.install(serving.serve(bad, now))
    assert gateway.host.snapshot is snapshot


async def test_an_unchanged_module_keeps_its_instance_and_its_websockets_through_changes_of_others(
    gateway: Any,
) -> None:
    inside = Inside()
    kept = await gateway.install(inside.register)
    socket = Socket(gateway.app, f"{PREFIX}/live")
    await inside.entered.wait()
    for generation in range(20):
        await gateway.install(plain, name="other", generation=generation)
    await gateway.host.remove("other", "u1")
    assert kept.stops == 0
    assert not socket.task.done()
    inside.gate.set()
    await socket.task


async def test_a_replaced_module_drains_before_it_stops(gateway: Any) -> None:
    inside = Inside()
    first = await gateway.install(inside.register)
    request = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await inside.entered.wait()
    await gateway.install(plain, generation=2)
    assert (gateway.host.retiring, first.stops) == (1, 0)
    inside.gate.set()
    assert (await request).json == "done"
    await until(lambda: not gateway.host.retiring)
    assert (first.stops, first.unloads) == (1, 1)


async def test_removal_takes_the_routes_at_once_and_returns_when_drained(gateway: Any) -> None:
    inside = Inside()
    instance = await gateway.install(inside.register)
    request = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await inside.entered.wait()
    removal = asyncio.create_task(gateway.host.remove("shop", "u1"))
    await until(lambda: not gateway.host.snapshot.modules)
    assert (await call(gateway.app, "GET", f"{PREFIX}/slow")).status == 404
    assert not removal.done()
    inside.gate.set()
    await removal
    assert (await request).json == "done"
    assert (instance.stops, instance.unloads) == (1, 1)


async def test_who_stays_longer_than_the_grace_is_cut_off(gateway: Any) -> None:
    gateway.host._grace = 0.05
    inside = Inside()
    instance = await gateway.install(inside.register)
    socket = Socket(gateway.app, f"{PREFIX}/live")
    await inside.entered.wait()
    await gateway.host.remove("shop", "u1")
    with pytest.raises(asyncio.CancelledError):
        await socket.task
    assert socket.answer.messages[-1] == {"type": "websocket.close", "code": 1012}
    assert instance.unloads == 1


async def test_a_removal_for_another_uid_leaves_the_newcomer_alone(gateway: Any) -> None:
    await gateway.install(plain, uid="new")
    await gateway.host.remove("shop", "old")
    await gateway.host.remove("nothing", "old")
    assert (await call(gateway.app, "GET", f"{PREFIX}/hello")).status == 200


async def test_of_two_claims_on_one_route_the_newer_counts_until_it_goes(gateway: Any) -> None:
    def older(router: APIRouter) -> None:
        router.add_api_route("/x", lambda: "older", methods=["GET"])

    def newer(router: APIRouter) -> None:
        router.add_api_route("/x", lambda: "newer", methods=["GET"])

    await gateway.install(older, name="a", namespace="shop")
    await gateway.install(newer, name="b", namespace="shop")
    assert (await call(gateway.app, "GET", f"{PREFIX}/x")).json == "newer"
    await gateway.host.remove("b", "u1")
    assert (await call(gateway.app, "GET", f"{PREFIX}/x")).json == "older"


async def test_a_renewed_module_keeps_its_instance_and_whoever_is_inside_until_that_is_replaced(gateway: Any) -> None:
    inside = Inside()
    instance = await gateway.install(inside.register)
    request = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await inside.entered.wait()
    routes = [route.model_copy(update={"policy": EffectivePolicy()}) for route in instance.desired.routes]
    guarded = instance.desired.model_copy(update={"routes": routes})
    assert gateway.host.renew("shop", instance.uid, 2, guarded) is not None
    assert gateway.host.snapshot.modules["shop"].generation == 2
    assert (await call(gateway.app, "GET", f"{PREFIX}/slow")).status == 401
    await gateway.install(plain, generation=3)
    await until(lambda: gateway.host.retiring)
    assert instance.stops == 0, "the request that came in before the renewal is inside"
    inside.gate.set()
    assert (await request).json == "done"
    await until(lambda: instance.stops == 1)


async def test_only_what_serves_under_that_uid_is_renewed(gateway: Any) -> None:
    instance = await gateway.install(plain)
    assert gateway.host.renew("shop", "another", 2, instance.desired) is None
    assert gateway.host.renew("none", instance.uid, 2, instance.desired) is None
    assert gateway.host.snapshot.modules["shop"].generation == instance.generation


async def test_a_module_that_moves_leaves_nothing_behind(gateway: Any) -> None:
    await gateway.install(plain)
    await gateway.install(plain, generation=2, namespace="elsewhere")
    assert set(gateway.host.snapshot.table) == {("v1", "elsewhere")}


async def test_closing_stops_every_module(gateway: Any) -> None:
    instances = [await gateway.install(plain, name=name) for name in ("a", "b")]
    await gateway.host.close()
    assert [instance.stops for instance in instances] == [1, 1]
    assert not gateway.host.snapshot.modules


async def test_closing_waits_for_nobody_and_still_ends_what_was_draining(gateway: Any) -> None:
    inside = Inside()
    first = await gateway.install(inside.register)
    request = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await inside.entered.wait()
    await gateway.install(plain, generation=2)
    await until(lambda: gateway.host.retiring and next(iter(gateway.host._old.values())).inside.emptied)
    await gateway.host.close()
    assert (first.stops, first.unloads) == (1, 1)
    inside.gate.set()
    await request


@pytest.mark.slow
async def test_a_thousand_changes_leave_nothing_alive(gateway: Any) -> None:
    instances = []
    for generation in range(1000):
        instances.append(weakref.ref(await gateway.install(plain, generation=generation)))
        await until(lambda: not gateway.host.retiring)
    gc.collect()
    assert sum(instance() is not None for instance in instances) == 1
    assert len(asyncio.all_tasks()) == 1


async def test_swaps_under_load_fail_no_request(gateway: Any) -> None:
    seen: set[int] = set()
    calls = 0
    ended = asyncio.Event()

    async def caller(path: str) -> None:
        nonlocal calls
        while not ended.is_set():
            seen.add((await call(gateway.app, "GET", path)).status)
            calls += 1
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)

    await gateway.install(plain)
    await gateway.install(plain, name="still")
    callers = [asyncio.create_task(caller(f"/api/v1/modules/v1/{name}/hello")) for name in ("shop", "still")]
    for generation in range(2, 100):
        await gateway.install(plain, generation=generation)
        await gateway.install(plain, name="other", generation=generation)
        await gateway.host.remove("other", "u1")
    await until(lambda: calls > 20)
    ended.set()
    await asyncio.gather(*callers)
    assert seen == {200}


async def test_the_start_has_the_hosts_deadline(now: Any) -> None:
    host = hosting.Host(start=0.01)
    slow = FakeInstance(plain)
    slow.gate = asyncio.Event()
    with pytest.raises(StartFailed, match="too long"):
        await host.install(serving.serve(slow, now))


async def test_garbage_is_collected_at_the_pace_of_the_modules_that_there_are(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(sweeping, "pace", told.append)
    await gateway.install(plain, name="one")
    await gateway.install(plain, name="two")
    await gateway.host.remove("one", "u1")
    assert told == [1, 2, 1]
