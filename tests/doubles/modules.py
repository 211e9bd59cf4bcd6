"""Modules for the gateway without packed code: a FastAPI application that a test fills, with a life to look at."""

import asyncio
import weakref
from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, WebSocketRoute

from dataplane.errors import StartFailed
from dataplane.runtime import asking
from dataplane.telemetry.customs import ModuleMetrics
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import OPEN, EffectivePolicy

Register = Callable[[APIRouter], None]


class FakeInstance:
    """What the gateway and the agent see of a built module."""

    def __init__(
        self,
        register: Register,
        *,
        name: str = "shop",
        uid: str = "u1",
        generation: int = 1,
        namespace: str | None = None,
        guarded: Collection[str] = (),
        **desired: Any,
    ) -> None:
        self.name = name
        self.uid = uid
        self.generation = generation
        self.app = FastAPI(
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        register(self.app.router)
        self.desired = DesiredModule(
            entry_point="shop:Shop",
            digest="sha256:" + "0" * 64,
            source_path="shop",
            namespace=namespace or name,
            routes=routes_of(self.app, guarded),
            **desired,
        )
        self.state: dict[str, Any] = {}
        self.has_check = False
        self.metrics = ModuleMetrics()
        self.answer = asking.WELL
        """What its check says."""
        self.checks = 0
        self.starts = 0
        self.stops = 0
        self.unloads = 0
        self.failing: str | None = None
        self.gate: asyncio.Event | None = None

    async def start(self, timeout: float) -> None:
        self.starts += 1
        if self.gate is not None:
            try:
                await asyncio.wait_for(self.gate.wait(), timeout)
            except TimeoutError:
                raise StartFailed("StartTimedOut", "the start took too long") from None
        if self.failing is not None:
            raise StartFailed("StartFailed", self.failing)
        self.state = {"ready": True}

    async def stop(self, timeout: float) -> None:
        self.stops += 1

    async def check(self, timeout: float) -> asking.Answer:
        self.checks += 1
        return self.answer

    def unload(self) -> list[weakref.ref[Any]]:
        self.unloads += 1
        return [weakref.ref(self)]


def routes_of(app: FastAPI, guarded: Collection[str]) -> list[DesiredRoute]:
    """The routes as inspection would report them; all open but the guarded paths."""
    found = []
    for context in iter_route_contexts(app.router.routes):
        original, path = context.original_route, context.path or ""
        methods = sorted(context.methods or ())
        if isinstance(original, WebSocketRoute):
            methods = ["WEBSOCKET"]
        if isinstance(original, Mount):
            methods, path = ["*"], f"{path}/{{path:path}}"
        policy = EffectivePolicy() if path in guarded else OPEN
        found.append(DesiredRoute(methods=methods, path=path, policy=policy))
    return found
