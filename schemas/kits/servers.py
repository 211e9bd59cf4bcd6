"""uvicorn's server for processes that rest most of the time: it wakes once a second, and at once when it is to end.

uvicorn's own looks ten times a second whether it is to end, which is a third of what a process of ours does at rest.
Always: `Server.on_tick` is called once a second, with a counter of tenths as uvicorn counts them.  The doors of both
planes are made of it.
"""

import asyncio
import contextlib
from typing import Final

import uvicorn

_TICK_SECONDS: Final = 1.0
_TENTHS: Final = 10
_DAY: Final = 864_000
"""Where uvicorn's counter begins anew."""


class Server(uvicorn.Server):
    """uvicorn with a main loop that sleeps longer."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._exit = asyncio.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Whether the server is to end; set it on the server's loop, from elsewhere it takes up to a second."""
        return self._exit.is_set()

    @should_exit.setter
    def should_exit(self, wanted: bool) -> None:
        if wanted:
            self._exit.set()
        else:
            self._exit.clear()

    async def main_loop(self) -> None:
        """Tick until the server is to end."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + _TENTHS) % _DAY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._exit.wait()
