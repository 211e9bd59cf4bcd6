"""Waiting for a real thing to happen, with a deadline: the only way in which tests wait."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_STEP = 0.01


@overload
async def until(
    predicate: Callable[[], Awaitable[T]], *, timeout: float = 30.0, what: str = "", step: float = _STEP
) -> T: ...


@overload
async def until(predicate: Callable[[], T], *, timeout: float = 30.0, what: str = "", step: float = _STEP) -> T: ...


async def until(predicate: Callable[[], Any], *, timeout: float = 30.0, what: str = "", step: float = _STEP) -> Any:
    """Wait until ``predicate`` answers something true and return it; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    pause = asyncio.Event()
    while True:
        found = predicate()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or inspect.getsource(predicate).strip()}")
        try:
            await asyncio.wait_for(pause.wait(), step)
        except TimeoutError:
            continue


def until_sync(predicate: Callable[[], T], *, timeout: float = 30.0, what: str = "", step: float = _STEP) -> T:
    """`until` for tests without an event loop."""

    async def run() -> T:
        return await until(predicate, timeout=timeout, what=what, step=step)

    return asyncio.run(run())
