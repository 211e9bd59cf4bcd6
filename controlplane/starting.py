"""The store at start-up: opened at once, or waited for behind a door that already answers.

    open ──▶ store
      └── its server is away (StoreUnusable, retryable) ──▶ `waiting` answers, tried again with back-off ──▶ store

Always: what only a person can mend (a damaged file, another program's tables) ends the process at once, with what to
do; nobody gets two applications at one door.  Called by `controlplane.app`.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import structlog

from controlplane import doors, errors, securing
from controlplane.api import waiting
from controlplane.store.stores import Store
from schemas.kits import endings
from schemas.kits.backoffs import Backoff
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.starting")


async def opened_store(
    opener: Callable[[], Awaitable[Store]],
    door: socket.socket,
    shown: securing.Certificate | None,
    clock: Clock,
    backoff: Backoff | None = None,
) -> Store | None:
    """The store; None: the process was told to end while it waited.  errors.StoreUnusable: waiting will not help."""
    try:
        return await opener()
    except errors.StoreUnusable as error:
        if not error.retryable:
            raise
        first = error
    backoff = backoff or Backoff(base=1.0, cap=10.0)
    app, ending = waiting.Waiting(clock), asyncio.Event()
    app.reason = first.message
    logger.warning("waiting for the database", reason=first.message)
    endings.watch(asyncio.get_running_loop(), lambda _: ending.set())
    server = doors.Server(app, shown)
    # a copy: the server closes what it is handed
    serving = asyncio.create_task(server.serve(sockets=[socket.socket(fileno=os.dup(door.fileno()))]), name="waiting")
    ended = asyncio.create_task(ending.wait(), name="ending")
    try:
        return await _waited(opener, app, ended, clock, backoff)
    finally:
        ended.cancel()
        server.should_exit = True
        await asyncio.wait({serving})


async def _waited(
    opener: Callable[[], Awaitable[Store]],
    app: waiting.Waiting,
    ended: "asyncio.Task[bool]",
    clock: Clock,
    backoff: Backoff,
) -> Store | None:
    failures = 0
    while not ended.done():
        failures += 1
        pause = asyncio.ensure_future(clock.sleep(backoff.delay(failures)))
        await asyncio.wait({pause, ended}, return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()
        if ended.done():
            break
        try:
            return await opener()
        except errors.StoreUnusable as error:
            if not error.retryable:
                raise
            app.reason = error.message
    return None
