"""Asks the modules of this worker how they are, and does what follows: a fresh instance, out of service, back into it.

    look ──▶ check on the serving loop, bounded ──▶ `probing` ──▶ rebuild (`applying`) | out | back ──▶ report

What always holds: a check is never on the way of a request; it is one at a time per module, and one that hangs delays
no other; when it is due is spread by ±20 %, and many modules that are new at once begin spread, too; what a module says
while its successor is put in place counts for nobody.
Runs on the agent's loop; started by `dataplane.agent.living`, which reports what it finds.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import structlog

from dataplane.agent import probing
from dataplane.gateway import serving
from dataplane.runtime import asking
from schemas.kits.backoffs import jittered
from schemas.kits.clocks import Clock
from schemas.kits.tasks import Tasks
from schemas.module import CircuitState
from schemas.reports import Ailing, HealthState, Trial

logger = structlog.get_logger("dataplane.agent.checking")

UNHEALTHY: Final = "Unhealthy"
_LOOK_SECONDS: Final = 0.5
_A_SECOND: Final = 200
"""How many modules that are new at once are checked in each second."""
_SPREAD: Final = 0.2
_CROSSING_SECONDS: Final = 5.0
"""How much longer than the check itself the serving loop may take to begin it; later, it says nothing of the module."""


class Gateway(Protocol):
    """What `dataplane.agent.crossing` offers."""

    def modules(self) -> list[serving.Served]:
        """Every module that is published, now."""
        ...

    async def check(self, name: str, uid: str, timeout: float) -> asking.Answer | None:
        """A module's own check."""
        ...

    async def trouble(self, name: str, uid: str, trouble: serving.Trouble | None) -> bool:
        """Take a running module out of service, or back into it."""
        ...

    async def look(self, names: Iterable[str]) -> None:
        """Let these modules' circuits go on to what time alone brings."""
        ...


Rebuild = Callable[[str, str, serving.Trouble | None], Awaitable[bool]]
"""Puts a fresh instance of what serves under (name, uid) in place, in trouble if that is given: `Applier.rebuild`."""


@dataclass(slots=True)
class _Patient:
    """One module that has a check."""

    uid: str
    generation: int
    instance: "weakref.ref[serving.Loaded]"
    vital: probing.Vital
    due: float
    busy: bool = False

    def is_of(self, served: serving.Served) -> bool:
        """Whether what is known holds for what is served: the same generation, or the same instance in another."""
        same = self.generation == served.generation or self.instance() is served.instance
        return self.uid == served.uid and same


class _Roll:
    """Of the modules that are served, those that are looked at: made anew only when one came, went or was exchanged."""

    def __init__(self, modules: Sequence[serving.Served] = ()) -> None:
        self.modules = modules
        running = [served for served in modules if served.instance is not None]
        self.checked = {served.name: served for served in running if served.instance and served.instance.has_check}
        """Those that have a check."""
        self.tried = [served for served in running if served.desired.bake_seconds]
        """Those whose calls the control plane watches."""

    def broken(self) -> list[serving.Served]:
        """Those whose circuit is not closed."""
        return [served for served in self.modules if served.pulse.breaker.state is not CircuitState.CLOSED]


class Checker:
    """The checks of one worker."""

    def __init__(
        self,
        gateway: Gateway,
        rebuild: Rebuild,
        clock: Clock,
        *,
        changed: Callable[[], None],
        rng: Random | None = None,
    ) -> None:
        """``changed`` is called whenever `ailing` may have changed, or a call failed that the control plane watches."""
        self._gateway = gateway
        self._rebuild = rebuild
        self._clock = clock
        self._changed = changed
        self._rng = rng or Random()  # noqa: S311 - spreads load, keeps no secret
        self._tasks = Tasks(clock)
        self._patients: dict[str, _Patient] = {}
        self._told: object = None
        self._known = _Roll()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            self.look()
            await self._watch_circuits()
            await self._clock.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """Check no more."""
        await self._tasks.stop()

    def look(self) -> None:
        """Begin the checks that are due."""
        now, there = self._clock.monotonic(), self._roll().checked
        spread = min(len(there.keys() - self._patients.keys()) / _A_SECOND, 60.0)
        for name, served in there.items():
            patient = self._patient(served, now + spread * self._rng.random())
            if not patient.busy and patient.due <= now:
                patient.busy = True
                self._tasks.start(self._check(name, patient), f"check {name}")
        for name in self._patients.keys() - there.keys():
            del self._patients[name]

    def ailing(self) -> list[Ailing]:
        """The modules that are not known to be well."""
        roll = self._roll()
        suspects = roll.checked | {served.name: served for served in roll.broken()}
        return [found for name in sorted(suspects) if (found := self._ailing(suspects[name])) is not None]

    def checked(self) -> dict[str, int]:
        """Unix time of the last check of each module that has one."""
        found = ((name, served.pulse.checked_at) for name, served in self._roll().checked.items())
        return {name: int(at.timestamp()) for name, at in found if at is not None}

    def trials(self) -> list[Trial]:
        """How the calls of modules end that the control plane watches."""
        return [
            Trial(
                module=served.name, generation=served.generation, calls=served.pulse.calls, errors=served.pulse.errors
            )
            for served in self._roll().tried
        ]

    def _roll(self) -> _Roll:
        modules = self._gateway.modules()
        if modules != self._known.modules:
            self._known = _Roll(modules)
        return self._known

    def _patient(self, served: serving.Served, due: float) -> _Patient:
        instance = served.instance
        assert instance is not None, "only what runs is checked"
        patient = self._patients.get(served.name)
        if patient is None or not patient.is_of(served):
            fresh = probing.Vital(served.since)
            patient = _Patient(served.uid, served.generation, weakref.ref(instance), fresh, due)
            self._patients[served.name] = patient
        patient.generation, patient.instance = served.generation, weakref.ref(instance)
        return patient

    async def _check(self, name: str, patient: _Patient) -> None:
        try:
            await self._ask(name, patient)
        finally:
            patient.busy = False

    async def _ask(self, name: str, patient: _Patient) -> None:
        served = self._roll().checked.get(name)
        if served is None or self._patients.get(name) is not patient:
            return
        policy, generation = served.desired.health, served.generation
        try:
            async with asyncio.timeout(policy.timeout_seconds + _CROSSING_SECONDS):
                answer = await self._gateway.check(name, patient.uid, policy.timeout_seconds)
        except TimeoutError:
            answer = None
        patient.due = self._clock.monotonic() + jittered(policy.interval_seconds, _SPREAD, self._rng)
        if answer is None or self._patients.get(name) is not patient or patient.generation != generation:
            return
        before = patient.vital
        patient.vital, step = probing.heard(before, answer, policy, self._clock.monotonic(), self._clock.now())
        served.pulse.well = patient.vital.state is not HealthState.UNHEALTHY
        if before.state is not patient.vital.state:
            logger.info(
                "module health", module=name, generation=generation, state=patient.vital.state.value,
                reason=patient.vital.reason, message=patient.vital.message,
            )  # fmt: skip
        await self._do(step, name, patient)
        if (before.state, before.rebuilds, before.out) != (
            patient.vital.state, patient.vital.rebuilds, patient.vital.out,
        ):  # fmt: skip
            self._changed()

    async def _do(self, step: probing.Step, name: str, patient: _Patient) -> None:
        trouble = _trouble(patient.vital) if patient.vital.out else None
        if step is probing.Step.REBUILD:
            await self._rebuild(name, patient.uid, trouble)
            patient.due = self._clock.monotonic()
        elif step is not probing.Step.NOTHING:
            await self._gateway.trouble(name, patient.uid, trouble)

    async def _watch_circuits(self) -> None:
        broken = [(each.name, each.pulse.breaker.state) for each in self._roll().broken()]
        if broken:
            await self._gateway.look([name for name, _ in broken])
        failed = [(each.module, each.generation, each.errors) for each in self.trials() if each.errors]
        if self._told != (broken, failed):
            self._told = (broken, failed)
            self._changed()

    def _ailing(self, served: serving.Served) -> Ailing | None:
        if served.instance is None:
            return None
        breaker, vital = served.pulse.breaker, self._vital(served, served.instance)
        if vital is None and breaker.state is CircuitState.CLOSED:
            return None
        vital = vital or probing.Vital(served.since, HealthState.HEALTHY)
        return Ailing(
            module=served.name,
            generation=served.generation,
            state=vital.state,
            reason=vital.reason,
            message=vital.message,
            since=vital.since,
            rebuilds=vital.rebuilds,
            out=vital.out,
            circuit=breaker.state,
            circuit_message=breaker.message,
        )

    def _vital(self, served: serving.Served, instance: serving.Loaded) -> probing.Vital | None:
        """What is known of a module that is not known to be well; None: it is, or has no check."""
        if not instance.has_check:
            return None
        patient = self._patients.get(served.name)
        if patient is None or not patient.is_of(served):
            return probing.Vital(served.since)
        return None if patient.vital.state is HealthState.HEALTHY else patient.vital


def _trouble(vital: probing.Vital) -> serving.Trouble:
    return serving.Trouble(UNHEALTHY, f"its own check fails: {vital.message}", retryable=True)
