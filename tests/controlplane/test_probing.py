"""The check of the database: what it says while it answers, fails or hangs, and afterwards."""

import asyncio
from collections.abc import Callable
from typing import Any

from controlplane import errors, probing
from tests.doubles.clock import FakeClock


class Store:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def read(self, query: Callable[[Any], Any]) -> Any:
        if self.error is not None:
            raise self.error
        return 1


async def test_it_says_what_the_database_says_and_forgets_it_when_that_is_over() -> None:
    clock, store = FakeClock(), Store()
    probe = probing.StoreProbe(store, clock)  # type: ignore[arg-type]  # as much of a store as is asked
    task = asyncio.ensure_future(probe.run())
    seen = []
    for error in (None, errors.StoreBusy("locked by somebody"), OSError("no such disk"), TimeoutError(), None):
        store.error = error
        await clock.advance(probing.EVERY_SECONDS)
        seen.append(probe.trouble)
    task.cancel()
    assert seen == [
        "",
        "locked by somebody",
        "the database failed: OSError: no such disk",
        "the database did not answer within 5 s; look at its server and its disk",
        "",
    ]
