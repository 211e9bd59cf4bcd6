"""Background tasks are held, started anew, and ended together."""

import asyncio
import itertools
import logging

import pytest

from schemas.kits.backoffs import Backoff
from schemas.kits.tasks import Tasks
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until


async def test_a_supervised_body_is_started_anew_after_a_failure_and_after_an_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, runs = FakeClock(), list[int]()
    tasks = Tasks(clock, Backoff(base=1.0, cap=1.0))

    async def body() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise RuntimeError("first run")

    with caplog.at_level(logging.ERROR):
        tasks.supervise(body, "body")
        await clock.settle()
        assert runs == [0]
        await clock.advance(1.0)
        await clock.advance(1.0)
    assert len(runs) >= 3
    assert tasks.failures == 1
    assert "task failed" in caplog.text
    await tasks.stop()
    assert len(tasks) == 0


async def test_a_long_run_clears_the_record_of_failures() -> None:
    clock = FakeClock()
    tasks = Tasks(clock, Backoff(base=0.1, cap=5.0))
    starts = list[float]()

    async def body() -> None:
        starts.append(clock.monotonic())
        await clock.sleep(10.0)
        raise OSError

    tasks.supervise(body, "body")
    await clock.advance(60.0)
    pauses = [after - before - 10.0 for before, after in itertools.pairwise(starts)]
    assert pauses
    assert max(pauses) <= 0.1 + 1e-9
    await tasks.stop()


async def test_a_task_that_fails_by_itself_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def body() -> None:
        raise ValueError

    with caplog.at_level(logging.ERROR):
        tasks.start(body(), "once")
        await until(lambda: not len(tasks))
    assert tasks.failures == 1


async def test_stopping_waits_for_every_end() -> None:
    tasks, ended = Tasks(), list[str]()

    async def body(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(name)

    tasks.start(body("a"), "a")
    tasks.start(body("b"), "b")
    await FakeClock.settle()
    await tasks.stop()
    assert sorted(ended) == ["a", "b"]
