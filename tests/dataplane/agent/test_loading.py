"""Builds have a thread of their own and a deadline; nothing that they raise gets out as anything but a failure."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import APIRouter

from dataplane.agent import holding, loading
from dataplane.errors import LoadFailed, StartFailed
from dataplane.gateway import serving
from dataplane.runtime import turns
from schemas.kits.clocks import SystemClock
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import OPEN
from tests.doubles.modules import FakeInstance
from tests.doubles.polling import until

WANTED = holding.Wanted(
    "a", "u", 1, (1, 1), "d",
    DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a"),
)  # fmt: skip


def plain(router: APIRouter) -> None:
    router.add_api_route("/hello", lambda: "hello", methods=["GET"])


def loader(build: Callable[[holding.Wanted], Any], **more: Any) -> loading.Loader:
    return loading.Loader(build, SystemClock(), **more)


async def test_a_build_runs_off_the_loop() -> None:
    threads: list[threading.Thread] = []

    def build(module: holding.Wanted) -> FakeInstance:
        threads.append(threading.current_thread())
        return FakeInstance(plain)

    made = loader(build)
    served = await made.load(WANTED)
    await made.load(WANTED)
    made.close()
    assert served.since <= datetime.now(UTC)
    assert threads[0] is threads[1]
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("x"), RecursionError()])
async def test_whatever_code_raises_is_a_failure_of_that_module(error: BaseException) -> None:
    def build(module: holding.Wanted) -> FakeInstance:
        raise error

    made = loader(build)
    with pytest.raises(LoadFailed, match=type(error).__name__):
        await made.load(WANTED)
    made.close()


async def test_a_route_that_cannot_be_compiled_is_a_failure_and_the_code_is_let_go() -> None:
    instance = FakeInstance(plain)
    route = DesiredRoute(methods=["GET"], path="/{x:nonsense}", policy=OPEN)
    instance.desired = instance.desired.model_copy(update={"routes": [route]})
    made = loader(lambda module: instance)
    with pytest.raises(LoadFailed, match="nonsense"):
        await made.load(WANTED)
    made.close()
    assert instance.unloads == 1


async def test_a_hanging_import_is_left_behind_and_the_next_build_goes_on() -> None:
    gate = threading.Event()
    late = FakeInstance(plain)

    def build(module: holding.Wanted) -> FakeInstance:
        if not gate.is_set():
            gate.wait(30)
            return late
        return FakeInstance(plain)

    made = loader(build, deadline=0.05)
    with pytest.raises(StartFailed, match="took longer"):
        await made.load(WANTED)
    gate.set()
    assert (await made.load(WANTED)).instance is not late
    await until(lambda: late.unloads)
    made.close()


async def test_between_the_build_and_its_making_ready_the_loop_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def build(module: holding.Wanted) -> FakeInstance:
        steps.append("built")
        return FakeInstance(plain)

    def serve(instance: serving.Loaded, since: datetime) -> serving.Served:
        steps.append("made ready")
        return real(instance, since)

    real = serving.serve
    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(turns, "rest", lambda: steps.append("rest"))
    made = loader(build)
    await made.load(WANTED)
    made.close()
    assert steps == ["built", "rest", "made ready"]
