"""Build one generation of a module into an instance that can be started, called, stopped and unloaded.

Here, and nowhere else, secrets take the place of their references; an instance has them in its module's ``config``.

`build` runs in the agent's thread; everything of `Instance` but `unload` runs on the serving loop.  An instance is
never changed: another code or configuration is another instance, and both live until the older one is drained.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import FastAPI

from dataplane.errors import LoadFailed, StartFailed
from dataplane.runtime import asking, assembling, collecting, confiding, forgetting, lifespans
from dataplane.runtime.importing import Code, library
from dataplane.sdk import BaseModuleRouter
from dataplane.telemetry import customs
from schemas import digests
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import EffectivePolicy

logger = structlog.get_logger("dataplane.runtime.building")


NO_SECRETS: Final = confiding.Secrets()
"""Whatever is referred to is missing."""


@dataclass(frozen=True, slots=True)
class BuiltRoute:
    """One route that an instance serves, with the policy that the control plane decided."""

    methods: tuple[str, ...]
    """Sorted; ``WEBSOCKET`` for a WebSocket, ``*`` for a mounted application."""
    path: str
    """Template below the module's prefix."""
    policy: EffectivePolicy
    endpoint: Callable[..., Any] | None
    """The author's handler; None for a mounted application."""


class Instance:
    """One generation of one module, built."""

    def __init__(
        self,
        desired: DesiredModule,
        *,
        name: str,
        uid: str,
        generation: int,
        code: Code,
        assembled: assembling.Assembled,
        routes: list[BuiltRoute],
    ) -> None:
        self.name = name
        self.uid = uid
        self.generation = generation
        self.desired = desired
        self.prefix = desired.prefix()
        self.routes = routes
        self.app: FastAPI = assembled.app
        self.module: BaseModuleRouter = assembled.module
        self.metrics = assembled.module.metrics
        """What the module measures of itself."""
        self.state: dict[str, Any] = {}
        """What the module's lifespan yielded; each request's scope gets a copy."""
        self.has_check = asking.has_check(assembled.module)
        """Whether `check` asks anything of the module's own."""
        self._asking = asking.Asking(assembled.module, code)
        self._code: Code | None = code
        self._life = lifespans.Life(f"{name}#{generation}", code, assembled.app, assembled.module, self.state)

    async def start(self, timeout: float) -> None:
        """Run the module's lifespan up to its yield and ``on_startup``, within ``timeout`` seconds.

        StartFailed if it fails or takes longer; then it is stopped already.
        """
        await self._life.start(timeout)

    async def stop(self, timeout: float) -> None:
        """Run ``on_shutdown`` and the rest of the lifespan, cancelled after ``timeout`` seconds; never raises."""
        self._asking.stop()
        await self._life.stop(timeout)

    async def check(self, timeout: float) -> asking.Answer:
        """What the module says of itself within ``timeout`` seconds; never raises for what its check does."""
        return await self._asking.ask(timeout)

    def unload(self) -> list["weakref.ref[Any]"]:
        """Break the instance's cycles and drop its code if nobody else uses it; the instance is not usable after.

        Returns what has to be gone by the next full garbage collection, if nobody holds on to it.
        """
        code, self._code = self._code, None
        if code is None:
            return []
        remains: list[weakref.ref[Any]] = [weakref.ref(self), weakref.ref(self.app)]
        forgetting.forget_calls(route.endpoint for route in self.routes)
        self.app.router.routes.clear()
        vars(self.app.router).clear()
        vars(self.app).clear()
        self.routes = []
        self.state.clear()
        kind = weakref.ref(type(self.module))
        del self.app, self.module, self._life, self._asking
        if library.release(code):
            remains.append(kind)
            forgetting.forget_code(code)
            logger.info("code unloaded", module=self.name, digest=code.digest)
        return remains


def build(
    desired: DesiredModule,
    *,
    name: str,
    uid: str,
    generation: int,
    code_root: Path,
    secrets: confiding.Secrets = NO_SECRETS,
) -> Instance:
    """Import and assemble what ``desired`` names from ``code_root/<hex of the digest>``.

    LoadFailed if it will fail again; StartFailed (retryable) if the code (``CodeMissing``) or a secret
    (``SecretMissing``, ``SecretRefused``) cannot be had on this machine.
    """
    code = locate(desired, code_root)
    config = secrets.revealed(desired.config)
    library.acquire(code)
    try:
        metrics = customs.of_version(name, uid, desired.version)
        assembled = assembling.assemble(code, desired.entry_point, config, version=desired.version, metrics=metrics)
        routes = _agreed(assembled.routes, desired.routes)
        forgetting.remember_calls(route.endpoint for route in routes)
    except BaseException:
        library.release(code)
        raise
    return Instance(desired, name=name, uid=uid, generation=generation, code=code, assembled=assembled, routes=routes)


def locate(desired: DesiredModule, code_root: Path) -> Code:
    """Where the code of ``desired`` lies; StartFailed if it does not."""
    try:
        folder = code_root / digests.folder_name(desired.digest)
    except ValueError as error:
        raise LoadFailed("DigestInvalid", f"the desired document names no code: {error}") from error
    code = Code(top=desired.source_path.rsplit("/", 1)[-1], digest=desired.digest, folder=folder)
    if not code.exists():
        raise StartFailed(
            "CodeMissing",
            f"{folder} does not hold {code.top!r}; the code store of this machine lacks {desired.digest}: "
            "run discovery on the control plane again, or copy the folder",
        )
    return code


def _agreed(collected: list[collecting.CollectedRoute], desired: list[DesiredRoute]) -> list[BuiltRoute]:
    """The code's routes with the desired policies; LoadFailed if they are not the same routes."""
    policies = {(tuple(sorted(route.methods)), route.path): route.policy for route in desired}
    have = Counter(route.key for route in collected)
    want = Counter((tuple(sorted(route.methods)), route.path) for route in desired)
    if have != want:
        extra = _listed(have - want)
        lacking = _listed(want - have)
        raise LoadFailed(
            "RoutesDiffer",
            f"the code registers other routes here than at its inspection: more {extra or 'none'}, fewer "
            f"{lacking or 'none'}; register the same routes on every host",
        )
    return [BuiltRoute(route.methods, route.path, policies[route.key], route.endpoint) for route in collected]


def _listed(routes: Counter[tuple[tuple[str, ...], str]]) -> str:
    return ", ".join(f"{'|'.join(methods)} {path}" for methods, path in sorted(routes)[:8])
