"""Wiring: the only file that knows every room; starts them in order and stops them in the opposite one.

Start: store → inspection → API (answers, degraded, from here on) → NATS link → leadership → engines.
Stop: API → engines → NATS link → inspection → lease, last but the store.  Only a leader's engines run.
Called by `controlplane.__main__`.
"""

import asyncio
import gc
import importlib.metadata
import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import structlog
import uvloop
from prometheus_client.metrics_core import Metric

from controlplane import doors, errors, gauging, intaking, planning, probing, securing, settings, starting, writing
from controlplane.api import apps, authenticating, guarding, revoking
from controlplane.audit import archives, noting, sealing
from controlplane.discovery import discovering, rows, watching
from controlplane.inspection import inspecting
from controlplane.messaging import asking, comparing, messengers, steps, trailing
from controlplane.reconcile import fleet, leadership, locks, looping
from controlplane.store import keeping, stores
from controlplane.telemetry import instruments, measurements, tracing
from schemas import names
from schemas.kits import checks, endings, exposing, logs
from schemas.kits import tracing as kit
from schemas.kits.clocks import SystemClock
from schemas.kits.natslink import NatsLink
from schemas.kits.signatures import KeyUnusableError, Signer, TrustedKeys
from schemas.kits.tasks import Tasks
from schemas.kits.tokens import issuing, verifying
from schemas.meta import Json, now_text

logger = structlog.get_logger("controlplane.app")

VERSION = importlib.metadata.version("modplane")
_SWITCH_SECONDS = 0.0005
"""SQLite lets go of the interpreter at every statement; with Python's usual 5 ms the writer thread may wait that long
each time for a busy event loop to give it back."""

_COLLECT = (10_000, 10, 10)
"""How many new objects Python's garbage collection waits for.  What a change is made of has no circles and goes by
itself; with Python's usual 700 every second apply is held up for half a millisecond by a look that finds nothing."""


def main(arguments: Sequence[str]) -> int:
    """Serve until told to end; returns the exit code (1: could not start, the message says why and what to do)."""
    chosen = settings.load(arguments)
    logs.configure(chosen.log_level, chosen.log_format, tracing.bound)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # nothing that is loaded by now ever goes: full collections walk over what came later only, and hold up writes less
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    try:
        shown, door = doors.certificate(chosen, SystemClock()), doors.opened(chosen)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(chosen, door, shown))
    except errors.ModplaneError as error:
        sys.stderr.write(f"modplane controlplane: {error.message}\n")
        return 1


async def _serve(chosen: settings.Settings, door: socket.socket, shown: securing.Certificate | None) -> int:
    clock = SystemClock()
    opener = partial(stores.open_store, chosen.database, clock=clock, data_dir=chosen.data_dir)
    store = await starting.opened_store(opener, door, shown, clock)
    if store is None:
        return 0
    tracer = tracing.book.tracer = kit.open_tracer(
        os.environ, "modplane-controlplane", {"service.instance.id": f"{socket.gethostname()}-{os.getpid()}"}
    )
    try:
        return await ControlPlane(chosen, store, clock, shown).run(door)
    finally:
        await store.close()
        await asyncio.to_thread(tracer.close)


class Engines:
    """What only the leader runs: the loop, messaging, row edits, retention, and discovery."""

    def __init__(
        self,
        chosen: settings.Settings,
        store: stores.Store,
        clock: SystemClock,
        link: NatsLink,
        keys: "Keys",
        archive: archives.Archive,
    ) -> None:
        self.measured = measurements.Measurements(chosen.data_dir.absolute() / measurements.PATH, clock.now)
        self._chosen = chosen
        self._clock = clock
        self._tasks = Tasks(clock)
        self.inspector = inspecting.InspectionPool()
        self.leadership = leadership.Leadership(
            store, clock, f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}", locks.beside(chosen.database)
        )
        self.fleet = fleet.Fleet(clock)
        self.discovery = discovering.ModuleDiscovery(
            store,
            clock,
            self.inspector,
            modules_path=chosen.modules_path.absolute(),
            data_dir=chosen.data_dir.absolute(),
            epoch=lambda: self._epoch() if self.leadership.leads else None,
        )
        self._code_root = chosen.data_dir.absolute() / "code"
        self._scribe = comparing.Scribe(keys.signer, keys.trusted)
        self._archive = archive
        self._store = store
        self._link = link
        self.parts: tuple[looping.Reconciler, messengers.Messaging] | None = None
        """What works while this process leads."""

    async def start(self, epoch: int) -> None:
        """Start every engine under ``epoch``."""
        reconciler = looping.Reconciler(
            self._store, self._clock, self.inspector, self.fleet, self._epoch, code_root=self._code_root
        )
        messenger = messengers.Messaging(
            self._store,
            self._link,
            self._clock,
            self._epoch,
            self.fleet,
            self._scribe,
            self.measured,
            _tell_unstored,
            self._archive,
        )
        self.parts = reconciler, messenger
        self.discovery.carrier.wake = reconciler.wake
        own = writing.Writer(self._store, self._clock, self.discovery, epoch=self._epoch)
        for writer in (*self.discovery.writers, own):
            writer.forward = reconciler.forwarder
        for writer in (self.discovery.writers.own, own):
            writer.wrote = self._note
        edits = rows.RowEdits(self._store, own, self._clock, wake=reconciler.wake)
        keeper = keeping.Keeper(self._store, self._clock, self._epoch)
        for body, name in (
            (messenger.run, "messaging"),
            (reconciler.run, "reconcile"),
            (edits.run, "row edits"),
            (keeper.run, "retention"),
            (self._thin_out, "retention of measurements"),
        ):
            self._tasks.supervise(body, name)
        if self._chosen.auto_discover:
            path, poll = self._chosen.modules_path.absolute(), self._chosen.modules_poll_seconds
            watch = watching.Watching(self.discovery, path, self._clock, poll=poll)
            self._tasks.supervise(watch.run, "discovery")
        logger.info("engines started", epoch=epoch)

    def _note(self, write: intaking.Write, outcome: writing.Outcome) -> None:
        """A change that no request asked for belongs into the audit trail as well; what is tried again does not."""
        resource, book, record = f"{write.kind}/{write.name}", self._archive.book, outcome.record
        if record is not None and outcome.verb != planning.Verb.UNCHANGED.value:
            book.wrote(write.manager, outcome.verb, resource, revision=record.revision, generation=record.generation)
        elif write.manager == names.MANAGER_SQL and outcome.error is not None and not outcome.error.retryable:
            book.wrote(write.manager, noting.REFUSED, resource)

    async def _thin_out(self) -> None:
        """Keep the measurements within bounds."""
        while True:
            await self.measured.prune()
            await self._clock.sleep(measurements.PRUNE_SECONDS)

    def _epoch(self) -> int:
        """Under which epoch we lead now; messaging may have raised it."""
        return self.leadership.epoch

    async def stop(self) -> None:
        """Stop every engine and wait until they have ended."""
        self.parts = None
        await self._tasks.stop()
        logger.info("engines stopped")


class ControlPlane:
    """One control-plane process over an open store."""

    def __init__(
        self,
        chosen: settings.Settings,
        store: stores.Store,
        clock: SystemClock,
        shown: securing.Certificate | None = None,
    ) -> None:
        self._chosen = chosen
        self._store = store
        self._clock = clock
        self._shown = shown
        self._started = clock.now()
        self._ending = asyncio.Event()
        self._link = NatsLink(
            chosen.nats_url,
            name="modplane-controlplane",
            clock=clock,
            key_file=chosen.nats_key_file,
            inbox="controlplane",
        )
        self._verifier = _verifier(chosen, clock)
        self._revocations = revoking.Revocations(store)
        self._guards = Tasks(clock)
        keys = _keys(chosen)
        self._archive = archives.Archive(
            chosen.data_dir.absolute(),
            sealing.Sealer(keys.signer, keys.trusted),
            clock,
            most_bytes=chosen.audit_max_bytes,
            age_seconds=chosen.audit_max_age_seconds,
            version=VERSION,
        )
        self._engines = Engines(chosen, store, clock, self._link, keys, self._archive)
        self._steps = steps.Keeping(store, clock)
        self._probe = probing.StoreProbe(store, clock)
        self._checks = checks.Checks(self._found, clock)
        self._callers = authenticating.Callers(
            self._verifier,
            self._clock,
            self._revocations.revoked,
            anonymous=self._chosen.anonymous,
            ttl=self._chosen.auth_cache_ttl,
            tokens=self._chosen.auth_cache_tokens,
        )
        self._families: list[Metric] = []
        self._exposition = exposing.Exposition(lambda: self._families, instruments.REGISTRY)

    async def run(self, door: socket.socket) -> int:
        """Serve on ``door`` until told to end; returns the exit code."""
        endings.watch(asyncio.get_running_loop(), self._end)
        api = self._api()
        server = doors.Server(api, self._shown)
        self._archive.start()
        self._link.start()
        await self._revocations.load()
        self._guard()
        await self._engines.inspector.start()
        serving = asyncio.create_task(server.serve(sockets=[door]), name="api")
        leading = asyncio.create_task(
            self._engines.leadership.run(self._engines.start, self._engines.stop), name="leadership"
        )
        self._announce(door)
        ended = asyncio.create_task(self._ending.wait(), name="ending")
        await asyncio.wait({serving, leading, ended}, return_when=asyncio.FIRST_COMPLETED)
        failed = not ended.done()
        ended.cancel()
        api.close()
        server.should_exit = True
        await asyncio.wait({serving})
        leading.cancel()
        await asyncio.wait({leading})
        await self._stop()
        for task in (serving, leading):
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("control plane failed", task=task.get_name(), exc_info=error)
        return 1 if failed else 0

    def _api(self) -> apps.Api:
        """The application, which is closed in the end."""
        return apps.create_app(
            self._store,
            clock=self._clock,
            sources=self._engines.discovery,
            discoverer=self._engines.discovery,
            readiness=self._checks.told,
            info=self._info,
            version=VERSION,
            callers=self._callers,
            allowed_hosts=[*guarding.LOOPBACK, *(self._shown.names if self._shown else ())],
            writer=self._engines.discovery.writer,
            auditor=trailing.Auditor(self._archive, self._link),
            book=self._archive.book,
            measured=self._engines.measured,
            last_check=self._engines.fleet.last_check,
            tail=asking.Asking(self._link),
            metrics=self._metrics,
        )

    def _guard(self) -> None:
        """Begin what goes on for as long as this process, whoever leads."""
        for body, name in (
            (self._archive.run, "store audit records"),
            (self._archive.keep, "keep the audit trail small"),
            (self._revocations.run, "follow revocations"),
            (self._probe.run, "ask the database"),
            (self._steps.run, "keep steps"),
            (self._checks.run, "look at the parts"),
        ):
            self._guards.supervise(body, name)
        if self._shown:
            self._guards.supervise(self._shown.run, "follow the certificate")
        for name, issuer in self._verifier.issuers.items():
            self._guards.supervise(issuer.keys.run, f"keys of {name}")

    async def _stop(self) -> None:
        """End everything but the API, in the opposite order of the start; the lease goes last."""
        await self._engines.stop()
        await self._guards.stop()
        await self._archive.close()
        await self._steps.keep()
        await self._link.close()
        await self._engines.measured.close()
        self._exposition.close()
        await self._engines.inspector.close()
        await self._engines.leadership.release()

    async def _metrics(self) -> bytes:
        """What Prometheus reads: looked at here, rendered elsewhere."""
        engines = self._engines
        reconciler, messenger = engines.parts or (None, None)
        self._families = list(
            gauging.families(
                gauging.Parts(
                    VERSION,
                    self._store,
                    self._link,
                    engines.leadership,
                    engines.fleet,
                    self._verifier,
                    self._callers,
                    reconciler,
                    messenger,
                )
            )
        )
        return await self._exposition.text()

    def _end(self, reason: str) -> None:
        if not self._ending.is_set():
            logger.info("control plane ends", reason=reason)
            self._ending.set()

    def _announce(self, door: socket.socket) -> None:
        address = doors.url(door, self._shown)
        logger.info("control plane answers", address=address)
        _say("ready", address=address)

    def _found(self) -> dict[str, tuple[bool, str]]:
        """Whether each part works, and why not."""
        leads = self._engines.leadership.leads
        return {
            "store": (not self._probe.trouble, self._probe.trouble),
            "nats": (self._link.connected, self._link.trouble),
            "leader": (
                leads,
                "" if leads else "this process does not lead (yet): another one does, or is being waited out",
            ),
        }

    def _info(self) -> Json:
        return {
            "plane": "control",
            "version": VERSION,
            "store": {"id": self._store.id, "revision": self._store.revision},
            "leader": {"leads": self._engines.leadership.leads, "epoch": self._engines.leadership.epoch},
            "nats": {"connected": self._link.connected, "sessions": self._link.generation},
            "certificate": {"ends": now_text(self._shown.ends)} if self._shown else None,
            "tracing": tracing.book.wire(),
            "audit": self._archive.recorder.wire(),
            "startedAt": now_text(self._started),
            "pid": os.getpid(),
        }


class Keys(NamedTuple):
    """Who signs desired state and audit checkpoints, and whose signatures are believed here."""

    signer: Signer
    trusted: TrustedKeys


def _keys(chosen: settings.Settings) -> Keys:
    """The signing key, made known to the workers of this data folder."""
    try:
        keys = Keys(Signer.open(chosen.signing_key), TrustedKeys(chosen.data_dir / names.TRUSTED_KEYS))
        keys.trusted.add(keys.signer.jwk)
    except KeyUnusableError as error:
        raise errors.ModplaneError(str(error)) from error
    except OSError as error:
        raise errors.ModplaneError(
            f"the keys of desired state cannot be written to {error.filename}: {error}"
        ) from error
    return keys


def _say(event: str, **more: str) -> None:
    """One line on standard output, for who supervises this process."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def _tell_unstored(reason: str) -> None:
    """NATS stores nothing: only who runs the server can help."""
    _say("unstored", reason=reason)


def _verifier(chosen: settings.Settings, clock: SystemClock) -> verifying.Verifier:
    """Whose tokens are believed; ModplaneError when the settings let anybody in, or nobody."""
    try:
        verifier = issuing.verifier(chosen, issuing.Ground(clock, chosen.data_dir / "jwks", chosen.data_dir.absolute()))
    except issuing.SettingsRefused as error:
        raise errors.ModplaneError(str(error)) from error
    if not verifier.issuers and not chosen.control_anonymous:
        raise errors.ModplaneError(
            "nobody could call this control plane: name whose tokens it believes (MODPLANE_AUTH_ISSUER and its keys), "
            "or what everybody on this machine may do (MODPLANE_CONTROL_ANONYMOUS=admin)"
        )
    return verifier
