"""A module's own check: what it may answer, and what it cannot do to the worker."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from dataplane.runtime import asking
from dataplane.runtime.importing import Code
from dataplane.sdk import BaseModuleRouter, HealthStatus, ModuleMetadata
from tests.doubles.polling import until


class Module(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="m")

    def register_routes(self, router: Any) -> None:
        """None."""


def made(check: Any, tmp_path: Path) -> asking.Asking:
    kind = type("Checked", (Module,), {"check_health": check})
    return asking.Asking(kind(Module.metadata), Code(top="m", digest="sha256:" + "0" * 64, folder=tmp_path))


def says(value: Any) -> Any:
    async def check(self: Module) -> Any:
        return value

    return check


def plainly(self: Module) -> HealthStatus:
    return HealthStatus(healthy=False, message=threading.current_thread().name)


@pytest.mark.parametrize(
    ("value", "healthy", "reason", "message"),
    [
        (None, True, "", ""),
        (True, True, "", ""),
        (HealthStatus(healthy=True, message="fine"), True, "", ""),
        (False, False, "CheckFailed", "the module's check says that it is not well"),
        (HealthStatus(healthy=False, message="no database"), False, "CheckFailed", "no database"),
        ("yes", False, "CheckRaised", "check_health() returned str; return HealthStatus, True, False or None"),
    ],
)
async def test_what_a_check_may_return(value: Any, healthy: bool, reason: str, message: str, tmp_path: Path) -> None:
    answer = await made(says(value), tmp_path).ask(5)
    assert (answer.healthy, answer.reason, answer.message) == (healthy, reason, message)


async def test_details_are_plain_values(tmp_path: Path) -> None:
    status = HealthStatus(healthy=True, details={"free": 3, "since": Path("/x"), "share": math.nan, "long": "x" * 9999})
    details = (await made(says(status), tmp_path).ask(5)).details
    assert details == {"free": 3, "since": "/x", "share": "nan", "long": "x" * 500}


@pytest.mark.parametrize("error", [RuntimeError("no database"), SystemExit(3), KeyboardInterrupt()])
async def test_whatever_it_raises_is_an_answer(error: BaseException, tmp_path: Path) -> None:
    async def check(self: Module) -> None:
        raise error

    answer = await made(check, tmp_path).ask(5)
    assert (answer.healthy, answer.reason) == (False, "CheckRaised")


async def test_a_plain_function_runs_in_a_thread(tmp_path: Path) -> None:
    answer = await made(plainly, tmp_path).ask(5)
    assert answer.message != threading.current_thread().name


async def test_one_that_hangs_is_given_up_and_cancelled(tmp_path: Path) -> None:
    ended: list[str] = []

    async def check(self: Module) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    answer = await made(check, tmp_path).ask(0.01)
    assert (answer.reason, answer.message) == ("CheckTimedOut", "the check did not answer within 0.01 s")
    await until(lambda: ended == ["cancelled"])


async def test_a_thread_that_hangs_is_not_joined_by_another(tmp_path: Path) -> None:
    gate, begun = threading.Event(), []

    def check(self: Module) -> bool:
        begun.append(1)
        gate.wait(30)
        return True

    asked = made(check, tmp_path)
    try:
        answers = [await asked.ask(0.05) for _ in range(3)]
    finally:
        gate.set()
    assert {answer.reason for answer in answers} == {"CheckTimedOut"}
    assert len(begun) == 1

    async def well() -> bool:
        return (await asked.ask(5)).healthy

    await until(well)


async def test_a_module_without_a_check_of_its_own_is_known() -> None:
    assert not asking.has_check(Module(Module.metadata))
    assert asking.has_check(type("Checked", (Module,), {"check_health": plainly})(Module.metadata))
