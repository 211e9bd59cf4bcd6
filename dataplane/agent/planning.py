"""What to do next so that this worker serves what is wanted: pure, over facts, without a clock of its own.

A module is loaded when nothing of its uid, generation and payload serves or is known to fail; whether loading needs an
instance of its own is told by `keeps_instance`.  Called by `dataplane.agent.applying` after every change of the facts.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dataplane.agent.holding import Wanted
from schemas import references
from schemas.documents import canonical_json
from schemas.module import DesiredModule

Fingerprint = str


@dataclass(frozen=True, slots=True)
class Placed:
    """A module that is in the gateway, serving or blocked."""

    name: str
    uid: str
    generation: int
    digest: str
    """Of the payload."""
    serving: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a payload that could not be served."""

    uid: str
    digest: str
    retry_at: float | None
    """Monotonic seconds; None: never, it would fail again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps that may run at once, and when to look again."""

    load: tuple[Wanted, ...]
    remove: tuple[Placed, ...]
    wake_at: float | None


def plan(
    among: Iterable[str],
    wanted: Mapping[str, Wanted],
    placed: Mapping[str, Placed],
    failures: Mapping[str, Failure],
    busy: Collection[str],
    now: float,
) -> Plan:
    """The next steps for the names ``among``.  ``busy`` names have a step running and get no other."""
    load: list[Wanted] = []
    remove: list[Placed] = []
    retries: list[float] = []
    for name in among:
        module, there = wanted.get(name), placed.get(name)
        if name in busy:
            continue
        if module is None:
            remove += [] if there is None else [there]
            continue
        if there is not None and there.serving and _same(there, module) and there.generation == module.generation:
            continue
        failure = failures.get(name)
        if failure is None or not _same(failure, module):
            load.append(module)
        elif failure.retry_at is not None:
            if failure.retry_at <= now:
                load.append(module)
            else:
                retries.append(failure.retry_at)
    load.sort(key=lambda module: (module.order, module.name))
    return Plan(tuple(load), tuple(remove), min(retries, default=None))


def selects(module: Wanted, labels: Mapping[str, str]) -> bool:
    """Whether a worker with these labels serves the module."""
    return all(labels.get(key) == value for key, value in module.desired.worker_selector.items())


def fingerprint(module: Wanted, host_version: str) -> Fingerprint:
    """What decides whether code loads: two modules with one fingerprint fail alike (the quarantine's key)."""
    desired = module.desired
    routes = [[sorted(route.methods), route.path] for route in desired.routes]
    return canonical_json(
        [desired.digest, desired.source_path, desired.entry_point, desired.config, sorted(routes), host_version]
    )


def fails_alike(module: Wanted) -> bool:
    """Whether one failure to load tells of every other with this fingerprint: not if secrets took part in it."""
    return not references.mentioned(module.desired.config)


def keeps_instance(old: Wanted, new: Wanted) -> bool:
    """Whether the instance of ``old`` is what ``new`` wants too: they differ only in what is around the code."""
    return old.uid == new.uid and _inner(old.desired) == _inner(new.desired)


def _inner(desired: DesiredModule) -> tuple[object, ...]:
    """What an instance was built from, and where its routes lie."""
    routes = sorted((sorted(route.methods), route.path) for route in desired.routes)
    return (
        *(desired.digest, desired.source_path, desired.entry_point, desired.config, desired.version),
        *(desired.api_version, desired.namespace, routes, desired.limits.max_threads),
    )


def _same(known: Placed | Failure, module: Wanted) -> bool:
    return known.uid == module.uid and known.digest == module.digest
