"""A server that rests wakes once a second, and ends at once."""

import asyncio
from typing import Any

import pytest
import uvicorn

from schemas.kits import servers


class Ticked(servers.Server):
    """A server that serves nobody and counts its ticks."""

    def __init__(self, until: int = -1) -> None:
        super().__init__(uvicorn.Config(_nothing, log_config=None))
        self.counters: list[int] = []
        self._until = until

    async def on_tick(self, counter: int) -> bool:
        self.counters.append(counter)
        return await super().on_tick(counter) or len(self.counters) == self._until


async def _nothing(*_: Any) -> None:
    return


async def test_it_ends_when_it_is_told_to_and_not_at_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_TICK_SECONDS", 3600.0)
    server = Ticked()
    running = asyncio.ensure_future(server.main_loop())
    await asyncio.sleep(0)
    assert not server.should_exit
    server.should_exit = True
    await asyncio.wait_for(running, 30)
    assert server.counters == [0, 10]


async def test_its_ticks_count_tenths_of_seconds_as_uvicorns_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_TICK_SECONDS", 0.001)
    server = Ticked(until=4)
    await asyncio.wait_for(server.main_loop(), 30)
    assert server.counters == [0, 10, 20, 30]
