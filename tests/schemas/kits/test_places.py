"""Whether work that takes long lets others go on, and whether no more than the places are taken by quick work."""

import asyncio

import pytest

from schemas.kits.places import Places


async def test_work_that_hangs_gives_its_place_away() -> None:
    places, never = Places(2, hold=0.01), asyncio.Event()
    hanging = [asyncio.ensure_future(places.run(_hang(never))) for _ in range(6)]
    assert await places.run(_give(7)) == 7
    assert not any(task.done() for task in hanging)
    never.set()
    assert await asyncio.gather(*hanging) == ["late"] * 6


async def test_no_more_begins_than_there_are_places() -> None:
    places, go = Places(2, hold=3600.0), asyncio.Event()
    begun: list[int] = []

    async def work(number: int) -> int:
        begun.append(number)
        await go.wait()
        return number

    tasks = [asyncio.ensure_future(places.run(work(number))) for number in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun == [0, 1]
    go.set()
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("taken", [0, 1], ids=["at work", "waiting for a place"])
async def test_who_is_cancelled_ends_its_work_and_frees_its_place(taken: int) -> None:
    places, go, ended = Places(1, hold=3600.0), asyncio.Event(), list[str]()
    others = [asyncio.ensure_future(places.run(_hang(go))) for _ in range(taken)]

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    task = asyncio.ensure_future(places.run(work()))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.gather(*others)
    assert await places.run(_give(1)) == 1
    assert ended == ([] if taken else ["ended"])


async def test_a_failure_is_told_also_after_its_time_was_over() -> None:
    places, go = Places(1, hold=0.01), asyncio.Event()

    async def fail() -> None:
        await go.wait()
        raise ValueError("no")

    task = asyncio.ensure_future(places.run(fail()))
    assert await places.run(_give(2)) == 2
    go.set()
    with pytest.raises(ValueError, match="no"):
        await task


async def _hang(event: asyncio.Event) -> str:
    await event.wait()
    return "late"


async def _give(value: int) -> int:
    return value
