"""The agent of one worker: a thread with a loop of its own, from desired state to reports.

The serving side reads only `Agent.facts`, an immutable value that is replaced; what happens on the agent's loop is
`dataplane.agent.living`.  Started and ended by `dataplane.app`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import structlog
import uvloop

from dataplane.agent import (
    carrying,
    crossing,
    holding,
    keeping,
    living,
    loading,
    reporting,
    states,
    striking,
    suspecting,
)
from dataplane.gateway import hosting, serving, watching
from dataplane.runtime import building, confiding, hosts
from dataplane.telemetry.lines import Lines
from schemas.kits.clocks import Clock, SystemClock
from schemas.kits.natslink import NatsLink
from schemas.kits.signatures import TrustedKeys
from schemas.kits.storing import Storing
from schemas.kits.tracing import OFF, Tracer
from schemas.reports import LastGood, WorkerState

logger = structlog.get_logger("dataplane.agent.agents")

_NOTHING_YET = "no desired state was applied yet; the worker starts"


class Agent:
    """One worker's agent; construct it on the serving loop."""

    def __init__(
        self,
        identity: states.Identity,
        host: hosting.Host,
        *,
        nats_url: str,
        nats_key: str = "",
        code_root: Path,
        last_good: Path,
        trusted: TrustedKeys,
        secrets: confiding.Secrets = building.NO_SECRETS,
        audit: carrying.Source | None = None,
        clock: Clock | None = None,
        build: loading.Build | None = None,
        beat_seconds: float = 2.0,
        report_seconds: float = reporting.INTERVAL_SECONDS,
        load_seconds: float = 30.0,
        tracer: Tracer = OFF,
        written: Lines | None = None,
        unstored: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """``audit``: what this boot has for the audit trail; its last record is there before `leave`.

        ``unstored`` hears, on the agent's thread, that NATS stores nothing of what this worker writes.
        """
        self._identity = identity
        self._host = host
        self._audit = audit
        self._clock = clock or SystemClock()
        self._nats_url = nats_url
        self._nats_key = nats_key
        self._last_good = last_good
        self._trusted = trusted
        self._build = build or _builder(code_root, secrets)
        self._reveal = secrets.revealed
        self._beat_seconds = beat_seconds
        self._report_seconds = report_seconds
        self._load_seconds = load_seconds
        self._tracer = tracer
        self._written = written or Lines()
        self._unstored = unstored
        self._serving_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._live, name="modplane-agent", daemon=True)
        self._ending: asyncio.Event | None = None
        self._life: living.Life | None = None
        self._early: list[watching.Block] = []
        self._leaving = False
        self._ready: Future[None] = Future()
        now = self._clock.now()
        self.facts = states.Facts(WorkerState.NEVER_LOADED, now, False, False, "", None, None, _NOTHING_YET, LastGood())

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    async def ready(self) -> None:
        """Wait until a first set, of disk or bucket, is applied (stragglers excepted): requests may come."""
        await asyncio.wrap_future(self._ready)

    def blocked(self, block: watching.Block) -> None:
        """Somebody held the serving loop; called from any thread."""
        if self._loop is None or self._life is None:
            self._early.append(block)
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed already
            self._loop.call_soon_threadsafe(self._life.blocked, block)

    async def leave(self) -> None:
        """Report that this worker goes, and end the agent; waits until its thread is gone."""
        self._leaving = True
        if self._loop is not None and self._ending is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._ending.set)
        await asyncio.to_thread(self._thread.join, 10.0)

    def _live(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except Exception as error:
            logger.exception("agent ended")
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _run(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        suspects = suspecting.Suspects(
            self._last_good.parent,
            worker=self._identity.id,
            boot=self._identity.boot,
            host_version=hosts.host_version(),
            clock=self._clock,
        )
        suspects.recall()
        strikes = striking.Strikes(
            self._last_good.with_name(f"{self._identity.id}.blocks.json"),
            worker=self._identity.id,
            host_version=hosts.host_version(),
            clock=self._clock,
        )
        strikes.recall()
        link = NatsLink(
            self._nats_url,
            name=f"modplane-worker-{self._identity.id}",
            clock=self._clock,
            key_file=self._nats_key,
            inbox=self._identity.id,
        )
        life = self._life = living.Life(
            self._identity,
            crossing.Crossing(self._host, self._serving_loop),
            link,
            loading.Loader(
                suspects.watched(self._build),
                self._clock,
                deadline=self._load_seconds,
                alone=lambda: not self._ready.done(),
            ),
            keeping.File(
                self._last_good,
                self._trusted,
                worker=self._identity.id,
                boot=self._identity.boot,
                replaces=self._identity.replaces,
            ),
            self._clock,
            suspects,
            strikes,
            self._trusted,
            reveal=self._reveal,
            tracer=self._tracer,
            written=self._written,
            storage=Storing(link, self._clock, self._unstored),
            publish=self._publish,
            audit=self._audit,
            beat_seconds=self._beat_seconds,
            report_seconds=self._report_seconds,
        )
        for block in self._early:
            life.blocked(block)
        life.start(self._opened)
        if not self._leaving:
            await self._ending.wait()
        await life.stop()
        suspects.close()

    def _publish(self, told: states.Facts) -> None:
        self.facts = told

    def _opened(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)


def _builder(code_root: Path, secrets: confiding.Secrets) -> loading.Build:
    def build(module: holding.Wanted) -> serving.Loaded:
        return building.build(
            module.desired,
            name=module.name,
            uid=module.uid,
            generation=module.generation,
            code_root=code_root,
            secrets=secrets,
        )

    return build
