"""When reports go out: at once on change, but long lists less often."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from dataplane.agent.reporting import Reporter
from dataplane.runtime import turns
from schemas.kits.natslink import NatsLink
from schemas.kits.storing import Storing
from schemas.reports import Pending, WorkerReport
from tests.doubles.clock import FakeClock


class Link:
    """Counts what is sent."""

    generation = 1
    connected = True

    def __init__(self) -> None:
        self.sent = 0

    async def call(self, send: object, *, deadline: float) -> None:
        self.sent += 1


def reporter_of(link: Link, clock: FakeClock, make: Callable[[int], WorkerReport]) -> Reporter:
    known = cast("NatsLink", link)
    return Reporter(known, clock, make, Storing(known, clock, lambda reason: None), interval=3_600.0)


@pytest.mark.parametrize(("pending", "pause"), [(0, 0.0), (20, 0.0), (520, 0.5), (5_000, 1.0)])
async def test_the_next_report_waits_the_longer_the_more_modules_are_pending(pending: int, pause: float) -> None:
    clock, link = FakeClock(), Link()

    def make(sequence: int) -> WorkerReport:
        words: dict[str, Any] = {"id": "w0", "boot": "b", "started_at": clock.now(), "reported_at": clock.now()}
        listed = [
            Pending(module=f"m{number}", generation=1, since=clock.now(), reason="Loading") for number in range(pending)
        ]
        return WorkerReport(**words, sequence=sequence, pending=listed)

    reporter = reporter_of(link, clock, make)
    running = asyncio.create_task(reporter.run())
    await clock.settle()
    for _ in range(3):
        reporter.due()
        await clock.settle()
    assert link.sent == (1 if pause else 4)
    await clock.advance(pause * 0.9)
    assert link.sent == (1 if pause else 4)
    await clock.advance(pause * 0.2)
    assert link.sent == (2 if pause else 4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stream_of_changes_is_told_at_a_steady_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, link = FakeClock(), Link()
    rests: list[int] = []
    monkeypatch.setattr(turns, "rest", lambda: rests.append(link.sent))

    def make(sequence: int) -> WorkerReport:
        words: dict[str, Any] = {"id": "w0", "boot": "b", "started_at": clock.now(), "reported_at": clock.now()}
        return WorkerReport(**words, sequence=sequence)

    reporter = reporter_of(link, clock, make)
    running = asyncio.create_task(reporter.run())
    for _ in range(200):
        reporter.due()
        await clock.settle()
        await clock.advance(0.005)
    assert 5 + 9 <= link.sent <= 5 + 11, "a burst, then ten a second"
    assert rests == list(range(link.sent)), "the serving loop gets its turn between making and sending each"
    await clock.advance(2.0)
    before = link.sent
    for _ in range(4):
        reporter.due()
        await clock.settle()
    assert link.sent >= before + 4, "after a rest, at once again"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
