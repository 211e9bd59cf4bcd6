"""One module as the gateway serves it: its compiled routes, its application, and who is inside right now.

Made off the serving loop (`serve`, `broken`), published in a snapshot, and counted while requests run.  A module that
cannot be loaded and has no last good generation is here too, with its known routes and the trouble that answers them.
"""

import asyncio
import copy
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from dataplane.gateway import answering, authorising, matching, pulsing, reaching
from dataplane.gateway.authorising import Requirement
from dataplane.runtime import asking, sharing
from dataplane.telemetry import customs, meters
from schemas.measures import OTHER
from schemas.module import DesiredModule
from schemas.paths import ANY_METHOD, WEBSOCKET
from schemas.policies import EffectivePolicy

if TYPE_CHECKING:
    from dataplane.gateway.describing import Fragment

_Key = tuple[frozenset[str], str]
"""Methods and path of a route."""


class Loaded(Protocol):
    """What the gateway needs of a built module (`dataplane.runtime.building.Instance`)."""

    name: str
    uid: str
    generation: int
    desired: DesiredModule
    app: FastAPI
    metrics: customs.ModuleMetrics
    """What the module measures of itself."""
    has_check: bool
    """Whether the module has a check of its own."""

    @property
    def state(self) -> dict[str, Any]:
        """What the module's lifespan yielded; copied into each request's scope."""
        ...

    async def start(self, timeout: float) -> None:
        """Run the start of the module's lifespan; StartFailed if it fails or takes longer than ``timeout``."""
        ...

    async def stop(self, timeout: float) -> None:
        """Run its end; never raises for what the module does."""
        ...

    async def check(self, timeout: float) -> asking.Answer:
        """What the module's own check says within ``timeout`` seconds; never raises for what it does."""
        ...

    def unload(self) -> "list[weakref.ref[Any]]":
        """Let go of the code; returns what has to be gone by the next full garbage collection."""
        ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a module's known routes answer 503."""

    reason: str
    message: str
    retryable: bool


class RouteName(NamedTuple):
    """A route as the audit trail names it: texts alone, so that a record that waits holds no module."""

    module: str
    version: str
    generation: int
    route: str
    policy: str
    """In words; ``NONE`` where callers are asked for nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request reaches: a route of a module, and who may call it."""

    served: "Served"
    template: str
    policy: EffectivePolicy
    requirement: Requirement | None
    """What is asked of callers; None: nothing."""
    route: BaseRoute | None
    """What answers inside the module's application; None: its own router is to look for it."""
    methods: meters.Methods
    """Where its calls are counted."""
    named: RouteName

    @property
    def guarded(self) -> bool:
        """Whether callers are asked for anything."""
        return self.requirement is not None


class Inside:
    """The requests and WebSockets inside one instance of a module."""

    __slots__ = ("emptied", "tasks")

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.emptied: asyncio.Event | None = None
        """Set when the last one leaves; None until somebody waits for that."""

    def left(self, task: "asyncio.Task[Any]") -> None:
        """A request is done."""
        self.tasks.discard(task)
        if self.emptied is not None and not self.tasks:
            self.emptied.set()

    async def drain(self, grace: float) -> int:
        """Wait until nobody is inside, at most ``grace`` seconds; then cancel the rest and say how many they were."""
        self.emptied = asyncio.Event()
        if self.tasks:
            try:
                async with asyncio.timeout(grace):
                    await self.emptied.wait()
            except TimeoutError:
                rest = list(self.tasks)
                for task in rest:
                    task.cancel()
                await asyncio.wait(rest, timeout=1.0)
                return len(rest)
        return 0


class Served:
    """A module in service.  While it serves, only `inside`, `fragment` and `pulse` ever change."""

    __slots__ = (
        "app",
        "desired",
        "fragment",
        "generation",
        "inside",
        "instance",
        "key",
        "measured",
        "name",
        "other",
        "prefix",
        "pulse",
        "routes",
        "share",
        "since",
        "state",
        "tasks",
        "trouble",
        "uid",
        "way",
    )

    def __init__(
        self,
        name: str,
        uid: str,
        generation: int,
        desired: DesiredModule,
        since: datetime,
        instance: Loaded | None,
        trouble: Trouble | None = None,
        order: Mapping[_Key, BaseRoute | None] | None = None,
    ) -> None:
        """``order``: the routes of the application as its router tries them."""
        self.name = name
        self.uid = uid
        self.generation = generation
        self.desired = desired
        self.since = since
        self.instance = instance
        self.trouble = trouble
        self.app: FastAPI | None = None if instance is None else instance.app
        self.way = None if instance is None else reaching.Way(instance.app)
        """Into the application; None: there is none."""
        self.state: dict[str, Any] = {}
        self.share = sharing.Share(desired.limits.max_threads, name)
        self.key = (desired.api_version, desired.namespace)
        self.prefix = desired.prefix()
        self.measured: dict[str, meters.Methods] = {}
        """Where the calls of each template are counted."""
        self.other = meters.Methods(meters.Owner(name, uid, desired.version), OTHER)
        """Where the calls are counted that no route answers."""
        self.routes = self._compiled(order or {})
        self.pulse = pulsing.Pulse(desired)
        self.inside = Inside()
        self.tasks = self.inside.tasks
        self.fragment: Fragment | None = None
        """Its part of the merged OpenAPI document, once it was asked for."""

    def _compiled(self, order: Mapping[_Key, BaseRoute | None]) -> list[matching.Compiled[Target]]:
        places = {key: place for place, key in enumerate(order)}
        routes = matching.in_order(self.desired.routes, lambda route: route.path)
        routes.sort(key=lambda route: places.get((frozenset(route.methods), route.path), len(places)))
        return matching.faithful(
            matching.compiled(
                route.methods,
                route.path,
                _target(self, route.path, route.policy, order.get((frozenset(route.methods), route.path))),
            )
            for route in routes
        )

    def count_in(self, book: meters.Book, before: "Served | None") -> None:
        """Enter what is counted from now on into ``book``; the same version of a module goes on where it was."""
        self.other.of.book = book
        if before is None or (before.uid, before.desired.version) != (self.uid, self.desired.version):
            return
        self.other.update(before.other)
        for template, methods in self.measured.items():
            methods.update(before.measured.get(template, ()))

    def counted(self) -> set[int]:
        """The numbers of the series that are counted in here; from any thread."""
        every = (self.other, *list(self.measured.values()))
        return {meter.number for methods in every for meter in list(methods.values())}

    def release(self) -> None:
        """Break the circle through the routes, so that this and what it holds go with their last user."""
        self.routes = []
        self.fragment = None

    def renewed(self, generation: int, desired: DesiredModule) -> "Served":
        """The same running instance under another generation's policies and limits, and with whoever is inside.

        Of ``desired`` only what is outside of the instance may differ, see `dataplane.agent.planning.keeps_instance`.
        """
        served = copy.copy(self)
        served.generation, served.desired, served.fragment = generation, desired, None
        served.pulse = pulsing.Pulse(desired, before=self.pulse)
        policies = {(method.upper(), route.path): route.policy for route in desired.routes for method in route.methods}
        served.routes = []
        for route in self.routes:
            policy = policies[route.methods[0], route.path]
            served.routes.append(replace(route, target=_target(served, route.path, policy, route.target.route)))
        return served

    def troubled(self, trouble: Trouble | None) -> "Served":
        """The same running instance, out of service for ``trouble``, or, for None, in service again."""
        served = copy.copy(self)
        served.trouble, served.fragment = trouble, None
        served.routes = [replace(route, target=replace(route.target, served=served)) for route in self.routes]
        return served


def _target(served: Served, template: str, policy: EffectivePolicy, route: BaseRoute | None) -> Target:
    asked = authorising.requirement(served.name, policy, served.desired.tenancy)
    methods = served.measured.get(template)
    if methods is None:
        methods = served.measured[template] = meters.Methods(served.other.of, template)
    named = RouteName(
        served.name, served.desired.version, served.generation, template, "NONE" if asked is None else str(asked)
    )
    return Target(served, template, policy, asked, route, methods, named)


def serve(instance: Loaded, since: datetime) -> Served:
    """A built module made ready: routes sorted and compiled, error answer set, middleware built (no first-call cost).

    ValueError for a route that cannot be compiled.
    """
    app = instance.app
    if 500 not in app.exception_handlers:
        app.exception_handlers.setdefault(Exception, answering.crashed)
    app.router.routes[:] = matching.in_order(app.router.routes, _sort_path)
    app.middleware_stack = app.build_middleware_stack()
    near = {id(route) for route in reaching.direct(app)}
    order: dict[_Key, BaseRoute | None] = {}
    for context in iter_route_contexts(app.router.routes):
        order.setdefault(_route_key(context), context.route if id(context.route) in near else None)
    return Served(instance.name, instance.uid, instance.generation, instance.desired, since, instance, order=order)


def _sort_path(route: BaseRoute) -> str | None:
    path: str | None = getattr(route, "path", None)
    return f"{path}/{{path:path}}" if isinstance(route, Mount) else path


def _route_key(context: RouteContext) -> _Key:
    original, path = context.original_route, context.path or ""
    if isinstance(original, Mount):
        return frozenset({ANY_METHOD}), f"{path}/{{path:path}}"
    if isinstance(original, WebSocketRoute):
        return frozenset({WEBSOCKET}), path
    return frozenset(context.methods or ()), path


def broken(name: str, uid: str, generation: int, desired: DesiredModule, since: datetime, trouble: Trouble) -> Served:
    """A module that is known and cannot serve: its routes answer 503 and never fall through to another module."""
    return Served(name, uid, generation, desired, since, None, trouble)
