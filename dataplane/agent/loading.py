"""Builds modules in a thread of its own, one after the other, each with a deadline.

An author's import may hang for ever, and a thread cannot be ended: at the deadline the thread is left behind (it
is a daemon and throws its late result away), and the next build gets a new one.  While a build runs beside requests
the interpreter's switch interval is short, so that the serving loop gets its turns.  What is said of a failure names no
secret's value.  Called by
`dataplane.agent.applying`; goes to `dataplane.runtime.building` and `dataplane.gateway.serving`.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dataplane.agent.holding import Wanted
from dataplane.errors import DataPlaneError, LoadFailed, StartFailed
from dataplane.gateway import serving
from dataplane.runtime import masking, sharing, turns
from schemas.kits.clocks import Clock

logger = structlog.get_logger("dataplane.agent.loading")

Build = Callable[[Wanted], serving.Loaded]
"""Makes an instance, in whichever thread it is called; LoadFailed, StartFailed."""


@dataclass(eq=False, slots=True)
class _Job:
    module: Wanted
    done: "asyncio.Future[serving.Served]"
    loop: asyncio.AbstractEventLoop
    left: bool = False
    """Whether nobody waits any more."""


class Loader:
    """One build at a time, off every loop."""

    def __init__(
        self,
        build: Build,
        clock: Clock,
        *,
        deadline: float = 30.0,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """``alone``: whether nobody else needs the interpreter, since the worker's door is still closed."""
        self._build = build
        self._alone = alone
        self._clock = clock
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self.built_at = 0
        """When the last module was built and its warming began, nanoseconds since 1970."""
        self._jobs: queue.SimpleQueue[_Job | None] | None = None

    async def load(self, module: Wanted) -> serving.Served:
        """Build a module and make it ready to be published; LoadFailed, or StartFailed at the deadline."""
        async with self._turn:
            if self._jobs is None:
                self._jobs = self._new_thread()
            loop = asyncio.get_running_loop()
            job = _Job(module, loop.create_future(), loop)
            self._jobs.put(job)
            try:
                async with asyncio.timeout(self._deadline):
                    return await job.done
            except TimeoutError:
                logger.error("module still loading, thread left behind", module=module.name)
                raise StartFailed(
                    "LoadTimedOut",
                    f"importing {module.desired.entry_point} took longer than {self._deadline:g} s; "
                    "do no waiting at import time, use on_startup",
                ) from None
            finally:
                if not job.done.done() or job.done.cancelled():
                    job.left = True
                    self.close()

    def close(self) -> None:
        """End the thread after what it does now."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None

    def _new_thread(self) -> "queue.SimpleQueue[_Job | None]":
        jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(jobs,), name="modplane-loader", daemon=True).start()
        return jobs

    def _work(self, jobs: "queue.SimpleQueue[_Job | None]") -> None:
        while (job := jobs.get()) is not None:
            share = sharing.Share(job.module.desired.limits.max_threads, job.module.name)
            with contextlib.nullcontext() if self._alone() else turns.short(), sharing.within(share):
                outcome = self._outcome(job.module)
            try:
                job.loop.call_soon_threadsafe(_deliver, job, outcome)
            except RuntimeError:  # the loop is closed: the process ends
                return

    def _outcome(self, module: Wanted) -> serving.Served | DataPlaneError:
        made = self._made(module)
        if isinstance(made, DataPlaneError):
            made.message = masking.mask.text(made.message)
        return made

    def _made(self, module: Wanted) -> serving.Served | DataPlaneError:
        try:
            instance = self._build(module)
        except (LoadFailed, StartFailed) as error:
            return error
        except BaseException as error:  # noqa: BLE001 - nothing that an author's code raises may end this thread
            return LoadFailed("LoadFailed", f"{type(error).__name__}: {error}")
        self.built_at = time.time_ns()
        turns.rest()
        try:
            return serving.serve(instance, self._clock.now())
        except Exception as error:  # noqa: BLE001 - a route that cannot be compiled is the author's, whatever it raises
            instance.unload()
            return LoadFailed("RouteInvalid", f"{module.name}: {error}")


def _deliver(job: _Job, outcome: "serving.Served | Exception") -> None:
    if job.left or job.done.done():
        if isinstance(outcome, serving.Served) and outcome.instance is not None:
            outcome.instance.unload()
    elif isinstance(outcome, Exception):
        job.done.set_exception(outcome)
    else:
        job.done.set_result(outcome)
