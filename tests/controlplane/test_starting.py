"""A database that is away is waited for behind a door that answers; one that is broken is not."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controlplane import errors, starting
from schemas.kits.backoffs import Backoff
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

STORE: Any = object()


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


async def test_a_store_that_opens_is_not_waited_for(door: socket.socket) -> None:
    async def opener() -> Any:
        return STORE

    assert await starting.opened_store(opener, door, None, FakeClock()) is STORE


async def test_what_only_a_person_can_mend_is_told_at_once(door: socket.socket) -> None:
    async def opener() -> Any:
        raise errors.StoreUnusable("the database is damaged")

    with pytest.raises(errors.StoreUnusable, match="damaged"):
        await starting.opened_store(opener, door, None, FakeClock())


async def test_a_server_that_is_away_is_waited_for_and_the_door_says_so(door: socket.socket) -> None:
    clock, away = FakeClock(), True

    async def opener() -> Any:
        if away:
            raise errors.StoreUnusable("cannot use the database: connection refused", retryable=True)
        return STORE

    waiting = asyncio.ensure_future(starting.opened_store(opener, door, None, clock, Backoff(base=4.0)))
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        ready = await client.get("/ready")
        check = ready.json()["checks"]["store"]
        assert (ready.status_code, check["reason"]) == (503, "cannot use the database: connection refused")
        assert check["since"]
        refused = await client.get("/api/v1/module-management/modules")
        assert (refused.status_code, refused.json()["retryable"]) == (503, True)
        assert refused.headers["retry-after"]
        assert (await client.get("/apis/modplane.dev/v1/modules")).json()["kind"] == "Status"
    await clock.advance(30)
    assert not waiting.done()
    away = False

    async def handed_over() -> bool:
        await clock.advance(10)
        return waiting.done()

    await until(handed_over)
    assert await waiting is STORE
    assert door.fileno() >= 0
