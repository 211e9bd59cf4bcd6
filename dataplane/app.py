"""One worker process: sockets, gateway, agent and server, wired, started and ended in good order.

Start: own door → agent → last good state of this slot's disk applied, or else the first desired set from NATS →
shared door → one JSON line on standard output.  With a last good state nothing else has to be alive.
End (SIGTERM, SIGINT, or end of file on standard input when a supervisor holds its other side): shared door closed →
busy requests done → goodbye report → modules stopped → exit 0.  Called by `dataplane.__main__`.
"""

import asyncio
import gc
import json
import os
import secrets
import socket
import sys
from datetime import UTC, datetime
from importlib import metadata

import structlog
import uvloop

from dataplane import doors, gauging, guards, recycling
from dataplane.agent import agents, carrying, states
from dataplane.gateway import auditing, dispatching, hosting, pages, providing, watching
from dataplane.runtime import confiding, hosts, masking, sharing, sweeping, turns
from dataplane.settings import Settings, load
from dataplane.telemetry import outputs, tracing
from dataplane.telemetry.lines import Lines
from schemas.kits import checks, endings, exposing, logs, recorders, spools
from schemas.kits import tracing as kit
from schemas.kits.chains import Chain
from schemas.kits.clocks import SystemClock
from schemas.kits.signatures import TrustedKeys
from schemas.kits.tokens import issuing
from schemas.meta import Json

logger = structlog.get_logger("dataplane.app")

HEADER = "x-modplane-worker"
_LOOK_SECONDS = 3.0
_DRAINING = "this worker is draining"


def main(arguments: list[str]) -> int:
    """Run one worker until it is told to end; returns the exit code."""
    settings = load(arguments)
    masking.veil()
    module_secrets = confiding.Secrets.taken(os.environ, settings.secrets_dir)
    logs.configure(settings.log_level, settings.log_format, outputs.bound(settings.worker_id, sharing.whose))
    written = outputs.install(sharing.whose, masking.mask.text)
    try:
        shared = _shared_socket(settings)
        guard = guards.make(settings, SystemClock(), shared)
        own = doors.open_socket("127.0.0.1", 0)
    except issuing.SettingsRefused as error:
        sys.stderr.write(f"modplane worker: {error}\n")
        return 2
    except doors.DoorTaken as error:
        sys.stderr.write(f"modplane worker: {error}\n")
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Worker(settings, shared, own, guard, module_secrets, written.lines).run())


def _shared_socket(settings: Settings) -> socket.socket:
    if settings.listen_fd >= 0:
        return doors.inherited_socket(settings.listen_fd)
    return doors.open_socket(settings.data_host, settings.data_port)


class Worker:
    """The parts of one worker process."""

    def __init__(
        self,
        settings: Settings,
        shared: socket.socket,
        own: socket.socket,
        guard: guards.Guards,
        module_secrets: confiding.Secrets,
        written: Lines,
    ) -> None:
        self._settings = settings
        self._written = written
        self._secrets = module_secrets
        self._guards = guard
        self._shared = shared
        self._boot = secrets.token_hex(4)
        self._started = datetime.now(UTC)
        self._version = _version()
        self._clock = SystemClock()
        self._checks = checks.Checks(self._found, self._clock)
        self._host = hosting.Host(self._clock)
        self._recorder = self._make_recorder()
        self._agent: agents.Agent | None = None
        self._watchdog: watching.Watchdog | None = None
        self._exposition = exposing.Exposition(self._make_gauges())
        self._ending = asyncio.Event()
        self._failed = False
        self._tracer = kit.open_tracer(
            os.environ, "modplane-worker", {"service.instance.id": f"{settings.worker_id}/{self._boot}"}
        )
        headers = [(HEADER, f"{settings.worker_id}/{self._boot}")] if settings.worker_header else []
        gateway = dispatching.Dispatcher(
            self._host,
            pages.Pages(
                self._host, ready=self._ready, info=self._info, metrics=self._exposition.text, version=self._version
            ),
            self._clock,
            guard.gate,
            auditing.Trail(self._recorder, opened=settings.audit_open),
        )
        self._server = doors.Server(
            tracing.traced(gateway, self._tracer), own, headers=headers, keep_alive=settings.keep_alive_seconds
        )

    async def run(self) -> int:
        """Serve until told to end."""
        loop = asyncio.get_running_loop()
        endings.watch(loop, self._end)
        sharing.install(self._settings.threads)
        providing.register(lambda: self._host.snapshot.standing.flags)
        serving = asyncio.create_task(self._server.run_own_door(), name="own door")
        # only what the host itself is made of is frozen, before any module loads: a frozen module could never unload
        gc.collect()
        gc.freeze()
        self._recorder.start()
        refreshing = self._guards.refresh(self._clock)
        self._agent = self._make_agent()
        self._agent.start()
        self._watchdog = self._make_watchdog(self._agent)
        self._watchdog.start()
        opening = asyncio.create_task(self._open(self._agent), name="first sync")
        looking = asyncio.create_task(self._checks.run(), name="look at the parts")
        ended = asyncio.create_task(self._ending.wait(), name="ending")
        await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        failed = self._failed or serving.done()
        opening.cancel()
        looking.cancel()
        await self._leave(self._agent)
        await asyncio.to_thread(self._watchdog.stop)
        self._server.should_exit = True
        await asyncio.wait({serving})
        await refreshing.stop()
        self._exposition.close()
        ended.cancel()
        await asyncio.to_thread(self._tracer.close)
        return 1 if failed else 0

    def _make_agent(self) -> agents.Agent:
        settings = self._settings
        identity = states.Identity(
            settings.worker_id, self._boot, settings.labels, self._server.address, self._started, settings.replaces
        )
        return agents.Agent(
            identity,
            self._host,
            nats_url=settings.nats_url,
            nats_key=settings.nats_key_file,
            code_root=settings.code_root,
            last_good=settings.last_good,
            trusted=TrustedKeys(settings.trusted_keys),
            secrets=self._secrets,
            tracer=self._tracer,
            written=self._written,
            unstored=lambda reason: self._say("unstored", reason=reason),
            audit=carrying.Source(settings.audit_folder, settings.worker_id, lambda: self._recorder.spool),
        )

    def _make_recorder(self) -> recorders.Recorder:
        """What keeps the audit trail until NATS has it."""
        chain = Chain(self._settings.worker_id, self._boot)
        return recorders.Recorder(
            lambda: spools.make(self._settings.audit_folder, chain),
            auditing.encode,
            first={"version": self._version},
            limit=self._settings.audit_spool_bytes,
        )

    def _make_gauges(self) -> gauging.Gauges:
        labels = {"worker": self._settings.worker_id, "boot": self._boot, "version": self._version}
        return gauging.Gauges(self._host, self._guards, lambda: self._agent, lambda: self._watchdog, labels)

    def _make_watchdog(self, agent: agents.Agent) -> watching.Watchdog:
        settings = self._settings
        try:
            trap = watching.Trap(
                settings.last_good.with_suffix(".stack"),
                after=2 * settings.loop_held_seconds,
                last=settings.loop_lost_seconds,
            )
        except OSError as error:
            logger.warning("stacks cannot be kept", path=str(settings.last_good.parent), error=str(error))
            trap = None
        return watching.Watchdog(
            self._host,
            watching.LoopThread(),
            self._clock,
            told=agent.blocked,
            trap=trap,
            held=settings.loop_held_seconds,
            lost=settings.loop_lost_seconds,
        )

    async def _open(self, agent: agents.Agent) -> None:
        try:
            with sweeping.held():
                await agent.ready()
            turns.begin()
            await self._server.open_shared_door(self._shared)
        except Exception:
            logger.exception("worker cannot open its door")
            self._failed = True
            self._end("it cannot open its door")
            return
        logger.info("worker ready", worker=self._settings.worker_id, boot=self._boot, address=self._server.address)
        self._say(
            "ready",
            address=self._server.address,
            door=_url(self._shared),
            hostVersion=hosts.host_version(),
            drainSeconds=self._settings.drain_seconds,
        )
        await self._watch_memory(agent)

    def _say(self, event: str, **more: str | float) -> None:
        """One line on standard output, for who supervises this process."""
        line = {"event": event, "id": self._settings.worker_id, "boot": self._boot, **more}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    async def _watch_memory(self, agent: agents.Agent) -> None:
        """Hand what each report says to the recycler, as long as this worker lives."""
        recycler = recycling.Recycler(
            self._settings.memory_limit_bytes,
            lambda: len(self._host.departed.pinned()),
            lambda reason: self._say("recycle", reason=reason),
        )
        while self._settings.memory_limit_bytes and not recycler.asked:
            if (report := agent.facts.report) is not None:
                recycler.look(report.memory_bytes)
            await self._clock.sleep(_LOOK_SECONDS)

    def _end(self, reason: str) -> None:
        if not self._ending.is_set():
            logger.info("worker ends", worker=self._settings.worker_id, reason=reason)
            self._ending.set()

    async def _leave(self, agent: agents.Agent) -> None:
        await self._server.drain(self._settings.drain_seconds)
        await asyncio.to_thread(self._recorder.close)
        await agent.leave()
        await self._host.close()

    def _found(self) -> dict[str, tuple[bool, str]]:
        """Whether each part works, and why not."""
        assert self._agent is not None, "the server starts with the agent"
        return {**self._agent.facts.checks(), "door": (not self._server.draining, _DRAINING)}

    def _ready(self) -> Json:
        assert self._agent is not None, "the server starts with the agent"
        facts = self._agent.facts.readiness(datetime.now(UTC)) | {"checks": self._checks.told()}
        if self._server.draining:
            return facts | {"ready": False, "reason": _DRAINING}
        return facts

    def _info(self) -> Json:
        assert self._agent is not None, "the server starts with the agent"
        facts = self._agent.facts
        return {
            "plane": "data",
            "version": self._version,
            "worker": {
                "id": self._settings.worker_id,
                "boot": self._boot,
                "address": self._server.address,
                "labels": self._settings.labels,
                "startedAt": self._started.isoformat(),
                "hostVersion": hosts.host_version(),
                "pid": os.getpid(),
            },
            "nats": {"connected": facts.connected, "reason": facts.trouble, "beatAgeSeconds": facts.beat_age},
            "lastGood": facts.kept(datetime.now(UTC)) | {"path": str(self._settings.last_good)},
            "report": None if facts.report is None else facts.report.wire(),
            "modules": [
                {
                    "name": served.name,
                    "generation": served.generation,
                    "version": served.desired.version,
                    "digest": served.desired.digest,
                    "prefix": served.prefix,
                    "since": served.since.isoformat(),
                    "serving": served.trouble is None,
                    "reason": "" if served.trouble is None else served.trouble.reason,
                    "inFlight": len(served.tasks),
                    "pulse": served.pulse.wire(),
                }
                for served in self._host.snapshot.modules.values()
            ],
            "auth": self._guards.wire(),
            "tracing": self._tracer.wire(),
            "audit": self._recorder.wire(),
            "draining": self._host.retiring,
            "unloading": self._host.departed.wire(),
            "loop": None if self._watchdog is None else self._watchdog.wire(),
        }


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _version() -> str:
    try:
        return metadata.version("modplane")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"
