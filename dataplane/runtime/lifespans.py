"""The life of one instance: a task of its own that owns start and stop.

One task enters and leaves the lifespan, so that context variables, task groups and cancel scopes of the author's
hold.  Whatever the author's code raises, `SystemExit` included, ends in a StartFailed or a log line, never in the
serving loop.  Runs on the serving loop.
"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

import structlog
from fastapi import FastAPI

from dataplane.errors import StartFailed
from dataplane.runtime import explaining
from dataplane.runtime.importing import Code
from dataplane.sdk import BaseModuleRouter

logger = structlog.get_logger("dataplane.runtime.lifespans")

_CANCEL_SECONDS: Final = 1.0
"""How long a cancelled lifespan may take for its clean-up before it is left alone."""


async def call(hook: Callable[[], Any]) -> Any:
    """The result of an author's hook, plain or async."""
    result = hook()
    return await result if inspect.isawaitable(result) else result


class Life:
    """Start and stop of one instance; each at most once."""

    def __init__(self, label: str, code: Code, app: FastAPI, module: BaseModuleRouter, state: dict[str, Any]) -> None:
        self._label = label
        self._code = code
        self._app = app
        self._module = module
        self._state = state
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None

    async def start(self, timeout: float) -> None:
        """Return when the module is started; StartFailed after a failure or ``timeout`` seconds."""
        task = self._task = asyncio.get_running_loop().create_task(self._live(), name=f"lifespan {self._label}")
        started = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait({task, started}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not self._started.is_set():
                raise await self._not_started(task, timeout)
        except asyncio.CancelledError:
            await self._end(task)
            raise
        finally:
            started.cancel()

    async def stop(self, timeout: float) -> None:
        """Return when the module is stopped, or was cancelled after ``timeout`` seconds."""
        task = self._task
        if task is None:
            return
        self._stopping.set()
        _, pending = await asyncio.wait({task}, timeout=timeout)
        if pending:
            logger.warning("module stop timed out", instance=self._label, at=self._waiting_place(task))
            await self._end(task)
        elif self._failure is not None:
            logger.warning(
                "module stop failed", instance=self._label, error=explaining.explain(self._failure, self._code)
            )

    async def _live(self) -> None:
        try:
            async with self._app.router.lifespan_context(self._app) as state:
                self._state.update(state or {})
                await call(self._module.on_startup)
                self._started.set()
                await self._stopping.wait()
                await call(self._module.on_shutdown)
        except asyncio.CancelledError as error:
            self._failure = error
            raise
        except BaseException as error:  # noqa: BLE001 – an author's SystemExit must not end the worker
            self._failure = error

    async def _not_started(self, task: asyncio.Task[None], timeout: float) -> StartFailed:
        if task.done() and self._failure is not None:
            return StartFailed("LifespanFailed", explaining.explain(self._failure, self._code))
        place = self._waiting_place(task)
        await self._end(task)
        where = f"; it waits at {place}" if place else ""
        return StartFailed("LifespanTimedOut", f"the start did not finish within {timeout:g} s{where}")

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        _, pending = await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if pending:
            logger.warning("module ignores cancellation", instance=self._label, at=self._waiting_place(task))

    def _waiting_place(self, task: asyncio.Task[None]) -> str:
        """Where in the author's source a suspended task waits."""
        places: list[tuple[str, int]] = []
        waiting: Any = task.get_coro()
        while waiting is not None:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
            if frame is not None:
                places.append((frame.f_code.co_filename, frame.f_lineno))
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
        return explaining.innermost(places, self._code)
