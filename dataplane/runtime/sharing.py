"""Each module's share of the threads that run ``def`` handlers, so that no module can take them all (rule 22).

FastAPI runs plain functions (handlers, dependencies, background tasks, file reads) in one pool per loop.  `install`
makes that pool ask first for a place in the share of the module on whose behalf it is called; which module that is
travels in a context variable, set around every call into a module (`dataplane.gateway`).  Always: who waits for its
share holds no thread of the pool meanwhile, and the largest share leaves a quarter of the pool to the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import anyio.to_thread
from anyio import CapacityLimiter, WouldBlock


class Share:
    """How many threads one module instance may use at once."""

    __slots__ = ("_limiter", "_most", "module")

    def __init__(self, most: int, module: str = "") -> None:
        self.module = module
        """Whose share it is."""
        self._most = most
        self._limiter: CapacityLimiter | None = None

    def of(self, total: float) -> CapacityLimiter:
        """The limit within a pool of ``total`` threads; made at the first use, on the loop."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(min(self._most, max(1, int(total) * 3 // 4)))
        return self._limiter

    @property
    def used(self) -> int:
        """How many threads it uses now."""
        return 0 if self._limiter is None else self._limiter.borrowed_tokens


current: Final[ContextVar[Share | None]] = ContextVar("modplane_thread_share", default=None)
"""On whose behalf a task runs; None: the host's own."""


def whose() -> str:
    """The module on whose behalf this task runs; empty: the host's own."""
    share = current.get()
    return "" if share is None else share.module


@contextmanager
def within(share: Share) -> Iterator[None]:
    """Run a block, and every task that it starts, on behalf of ``share``."""
    token = current.set(share)
    try:
        yield
    finally:
        current.reset(token)


def install(total: int) -> None:
    """Give this loop's thread pool ``total`` threads, and make it respect shares."""
    pool: Any = anyio.to_thread.current_default_thread_limiter()
    pool.total_tokens = total
    if not isinstance(pool, _Shared):
        kind: Any = type("SharedThreads", (_Shared, type(pool)), {"__slots__": ()})
        pool.__class__ = kind


class _Shared:
    """Goes before the pool's own limiter class: the module's share first, then the pool."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        pool: Any = super()
        share = current.get()
        if share is None:
            await pool.__aenter__()
            return
        limiter = share.of(self.total_tokens)  # type: ignore[attr-defined]  # the class mixed in has it
        try:
            limiter.acquire_nowait()
        except WouldBlock:
            await limiter.acquire()
        try:
            await pool.__aenter__()
        except BaseException:
            limiter.release()
            raise

    async def __aexit__(self, *error: object) -> None:
        pool: Any = super()
        share = current.get()
        try:
            await pool.__aexit__(*error)
        finally:
            if share is not None:
                share.of(0).release()
