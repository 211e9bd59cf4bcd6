"""Modules are asked how they are beside requests: a failing one is rebuilt, taken out and put back; nobody waits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from fastapi import APIRouter

from dataplane.agent import checking
from dataplane.gateway import dispatching, hosting, pages, serving
from dataplane.runtime import asking
from schemas.module import CircuitState, HealthPolicy
from schemas.reports import Ailing, HealthState
from tests.doubles.asgi import call
from tests.doubles.clock import FakeClock
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BAD = asking.Answer(False, "CheckFailed", "no database")
HELLO = "/api/v1/modules/v1/shop/hello"


class Rig:
    """The checker over a real host, on this loop."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.host = hosting.Host(self.clock)
        self.app = dispatching.Dispatcher(
            self.host, pages.Pages(self.host, ready=dict, info=dict, version="1"), self.clock
        )
        self.fresh = asking.WELL
        """What fresh instances say."""
        self.rebuilt = 0
        self.changes = 0
        self.checker = checking.Checker(self, self._rebuild, self.clock, changed=self._changed, rng=Random(1))
        self.task = asyncio.ensure_future(self.checker.run())

    def modules(self) -> list[serving.Served]:
        return list(self.host.snapshot.modules.values())

    async def check(self, name: str, uid: str, timeout: float) -> asking.Answer | None:
        return await self.host.check(name, uid, timeout)

    async def trouble(self, name: str, uid: str, trouble: serving.Trouble | None) -> bool:
        return self.host.trouble(name, uid, trouble)

    async def look(self, names: Iterable[str]) -> None:
        self.host.look(names)

    async def install(
        self, name: str = "shop", *, says: asking.Answer | None = asking.WELL, **more: int
    ) -> FakeInstance:
        instance = self._made(name, says, **more)
        await self.host.install(serving.serve(instance, NOW))
        return instance

    async def ask(self, times: int = 1) -> None:
        """Let so many intervals of the check go by."""
        for _ in range(times):
            await self.clock.advance(12.5)

    @property
    def told(self) -> dict[str, Ailing]:
        return {each.module: each for each in self.checker.ailing()}

    def _made(self, name: str, says: asking.Answer | None, **more: Any) -> FakeInstance:
        instance = FakeInstance(
            _hello,
            name=name,
            bake_seconds=more.pop("bake_seconds", 0),
            health=HealthPolicy(failure_threshold=2),
            **more,
        )
        instance.has_check, instance.answer = says is not None, says or asking.WELL
        return instance

    async def _rebuild(self, name: str, uid: str, trouble: serving.Trouble | None) -> bool:
        self.rebuilt += 1
        served = serving.serve(self._made(name, self.fresh), NOW)
        served.trouble = trouble
        await self.host.install(served)
        return True

    def _changed(self) -> None:
        self.changes += 1


def _hello(router: APIRouter) -> None:
    @router.get("/hello")
    async def hello(fail: bool = False) -> str:
        if fail:
            raise RuntimeError("no")
        return "hello"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.task.cancel()
    await made.checker.stop()
    await made.host.close()


async def test_a_module_is_unknown_until_it_was_asked_and_then_is_not_listed(rig: Rig) -> None:
    await rig.install()
    assert rig.told["shop"].state is HealthState.UNKNOWN
    await rig.ask()
    assert rig.told == {}
    assert set(rig.checker.checked()) == {"shop"}


async def test_a_module_without_a_check_is_never_listed(rig: Rig) -> None:
    instance = await rig.install(says=None)
    await rig.ask(3)
    assert (rig.told, rig.checker.checked(), instance.checks) == ({}, {}, 0)


async def test_checks_come_every_interval_give_or_take(rig: Rig) -> None:
    instance = await rig.install()
    await rig.clock.advance(100)
    assert 8 <= instance.checks <= 13


async def test_an_unhealthy_module_gets_a_fresh_instance_without_a_failed_request(rig: Rig) -> None:
    first = await rig.install(says=BAD)
    while not rig.rebuilt:
        assert (await call(rig.app, "GET", HELLO)).status == 200
        await rig.clock.advance(1)
    assert (await call(rig.app, "GET", HELLO)).status == 200
    await rig.ask()
    assert (rig.told, rig.rebuilt) == ({}, 1)
    await until(lambda: first.stops == 1)
    assert rig.changes


async def test_while_it_is_unhealthy_health_of_the_namespace_says_so(rig: Rig) -> None:
    rig.fresh = BAD
    await rig.install(says=BAD)
    await rig.ask(2)
    assert (await call(rig.app, "GET", "/api/v1/modules/v1/shop/health")).status == 503
    assert (await call(rig.app, "GET", HELLO)).status == 200


async def test_what_no_fresh_instance_helps_is_taken_out_and_put_back_when_it_is_well(rig: Rig) -> None:
    rig.fresh = BAD
    await rig.install(says=BAD)
    await rig.install("other")
    await rig.ask(8)
    assert rig.told["shop"].out
    answer = await call(rig.app, "GET", HELLO)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert (await call(rig.app, "GET", HELLO.replace("shop", "other"))).status == 200
    instance = rig.host.snapshot.modules["shop"].instance
    assert isinstance(instance, FakeInstance)
    instance.answer = asking.WELL
    await rig.ask()
    assert (await call(rig.app, "GET", HELLO)).status == 200
    assert rig.told == {}


async def test_a_fresh_instance_of_what_is_out_stays_out_until_it_is_well(rig: Rig) -> None:
    rig.fresh = BAD
    await rig.install(says=BAD)
    await rig.ask(8)
    built = rig.rebuilt
    rig.fresh = asking.WELL
    while rig.rebuilt == built:
        assert (await call(rig.app, "GET", HELLO)).status == 503
        await rig.clock.advance(1)
    await rig.ask()
    assert (await call(rig.app, "GET", HELLO)).status == 200


async def test_a_check_that_hangs_delays_nobody(rig: Rig) -> None:
    hanging = await rig.install("slow")
    gate = asyncio.Event()

    async def hang(timeout: float) -> asking.Answer:
        hanging.checks += 1
        await gate.wait()
        return asking.WELL

    hanging.check = hang  # type: ignore[method-assign]  # a check that does not come back
    other = await rig.install("other")
    await rig.ask(4)
    assert hanging.checks == 1
    assert other.checks >= 3


async def test_a_new_generation_begins_anew_and_one_around_the_same_instance_does_not(rig: Rig) -> None:
    instance = await rig.install()
    await rig.ask()
    rig.host.renew("shop", "u1", 2, instance.desired)
    assert rig.told == {}
    await rig.install(generation=3)
    assert (rig.told["shop"].generation, rig.told["shop"].state) == (3, HealthState.UNKNOWN)


async def test_an_open_circuit_is_told_and_what_time_brings_follows(rig: Rig) -> None:
    await rig.install(says=None)
    await rig.ask()
    before = rig.changes
    for _ in range(20):
        await call(rig.app, "GET", f"{HELLO}?fail=true")
    answer = await call(rig.app, "GET", HELLO)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    await rig.clock.advance(1)
    assert (rig.told["shop"].circuit, rig.told["shop"].state) == (CircuitState.OPEN, HealthState.HEALTHY)
    assert rig.told["shop"].circuit_message == "20 of 20 calls within 10 s failed"
    assert rig.changes > before
    await rig.clock.advance(5)
    assert rig.told["shop"].circuit is CircuitState.HALF_OPEN
    assert [(await call(rig.app, "GET", HELLO)).status for _ in range(4)] == [200] * 4
    assert rig.told == {}


async def test_calls_are_told_where_the_control_plane_watches_them(rig: Rig) -> None:
    await rig.install(says=None, bake_seconds=60)
    await rig.install("other", says=None)
    for query in ("", "?fail=true", ""):
        await call(rig.app, "GET", HELLO + query)
    (trial,) = rig.checker.trials()
    assert (trial.module, trial.generation, trial.calls, trial.errors) == ("shop", 1, 3, 1)
