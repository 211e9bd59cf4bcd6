"""Asks a module how it is: its own ``check_health``, in a task of its own, never for longer than it is given.

What always holds: one question at a time; a check that does not come back holds up nobody, and is not asked again
before it has; whatever it raises, `SystemExit` included, is an answer.  An ``async def`` runs on the serving loop and
is cancelled when its time is over; a plain ``def`` runs in a thread of the module's own share, which nobody can end.
Runs on the serving loop; called by `dataplane.runtime.building`, on behalf of `dataplane.agent.checking`.
"""

import asyncio
import inspect
import math
from dataclasses import dataclass, field
from typing import Any, Final

import anyio.to_thread

from dataplane.runtime import explaining, masking
from dataplane.runtime.importing import Code
from dataplane.sdk import BaseModuleRouter, HealthStatus
from schemas.meta import Json

_TEXT: Final = 500
_DETAILS: Final = 32
_UNWELL: Final = "the module's check says that it is not well"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check came to."""

    healthy: bool
    reason: str = ""
    """CamelCase; empty if it is well."""
    message: str = ""
    details: Json = field(default_factory=dict)


WELL: Final = Answer(healthy=True)


def has_check(module: BaseModuleRouter) -> bool:
    """Whether the module has a check of its own."""
    return type(module).check_health is not BaseModuleRouter.check_health


class Asking:
    """The check of one instance."""

    def __init__(self, module: BaseModuleRouter, code: Code) -> None:
        self._module = module
        self._code = code
        self._running: asyncio.Task[Any] | None = None

    async def ask(self, timeout: float) -> Answer:
        """The module's answer, or that there was none within ``timeout`` seconds; never raises for the module."""
        if self._running is not None and not self._running.done():
            return Answer(False, "CheckTimedOut", "the check before this one has not come back yet")
        task = self._running = asyncio.get_running_loop().create_task(self._call(), name="health check")
        try:
            await asyncio.wait({task}, timeout=timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            if not self._in_thread:
                task.cancel()
            return Answer(False, "CheckTimedOut", f"the check did not answer within {timeout:g} s")
        return self._read(task)

    def stop(self) -> None:
        """Ask no more; a check that is under way is left alone."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    @property
    def _in_thread(self) -> bool:
        return not inspect.iscoroutinefunction(self._module.check_health)

    async def _call(self) -> Any:
        try:
            if self._in_thread:
                said = await anyio.to_thread.run_sync(self._module.check_health, abandon_on_cancel=True)
            else:
                said = self._module.check_health()
            return await said if inspect.isawaitable(said) else said
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a SystemExit of the author's must not end the worker
            return error

    def _read(self, task: asyncio.Task[Any]) -> Answer:
        self._running = None  # what the check raised holds its frames
        if task.cancelled():
            return Answer(False, "CheckRaised", "the check cancelled itself")
        said = task.result()
        if isinstance(said, BaseException):
            return Answer(False, "CheckRaised", explaining.explain(said, self._code)[:_TEXT])
        return _answer(said)


def _answer(said: object) -> Answer:
    """What a check returned, as an answer."""
    if said is None or said is True:
        return WELL
    if isinstance(said, HealthStatus):
        details = {_text(key): _plain(said.details[key]) for key in list(said.details)[:_DETAILS]}
        if said.healthy:
            return Answer(True, details=details)
        return Answer(False, "CheckFailed", _text(said.message) or _UNWELL, details)
    if said is False:
        return Answer(False, "CheckFailed", _UNWELL)
    kind = type(said).__name__
    return Answer(False, "CheckRaised", f"check_health() returned {kind}; return HealthStatus, True, False or None")


def _text(value: object) -> str:
    return masking.mask.text(str(value))[:_TEXT]


def _plain(value: object) -> Any:
    """A value as JSON may hold it."""
    finite = isinstance(value, float) and math.isfinite(value)
    return value if value is None or finite or isinstance(value, bool | int) else _text(value)
