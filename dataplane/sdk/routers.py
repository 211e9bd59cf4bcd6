"""The class that a module author subclasses: registers routes, and hears of start, stop and health.

The host makes one instance per generation (`create_instance`), sets ``config``, hands over a router
(`register_routes`, in a thread of its own), then runs the hooks on the serving loop.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from fastapi import APIRouter, FastAPI
from fastapi.middleware import Middleware

from dataplane.sdk.checking import HealthStatus
from dataplane.sdk.metadata import ModuleMetadata
from dataplane.telemetry.customs import ModuleMetrics


class IModuleRouter(ABC):
    """What the host needs of a module."""

    metadata: ModuleMetadata

    @classmethod
    @abstractmethod
    def create_instance(cls) -> "IModuleRouter":
        """Make the module; called once per generation, without arguments."""

    @abstractmethod
    def register_routes(self, router: APIRouter) -> None:
        """Add routes to ``router``; their paths are below the module's namespace."""


class BaseModuleRouter(IModuleRouter):
    """Subclass this, implement `register_routes`, and say who you are in `create_instance` or ``metadata``."""

    config: Mapping[str, Any] = {}
    """The manifest's ``config``; set by the host before `register_routes`."""

    metrics: ModuleMetrics = ModuleMetrics()
    """Counters, gauges and histograms of the module's own; set by the host before `register_routes`."""

    def __init__(self, metadata: ModuleMetadata) -> None:
        self.metadata = metadata

    @classmethod
    def create_instance(cls) -> Self:
        """Make the module from the class attribute ``metadata``; override it to do more."""
        metadata = getattr(cls, "metadata", None)
        if not isinstance(metadata, ModuleMetadata):
            raise TypeError(
                f"{cls.__name__} does not say who it is: set the class attribute metadata = ModuleMetadata(...) "
                "or override create_instance()"
            )
        return cls(metadata)

    def exception_handlers(self) -> Mapping[int | type[Exception], Callable[..., Any]]:
        """Handlers for exceptions or status codes, as FastAPI's ``exception_handlers``; for this module only."""
        return {}

    def middleware(self) -> Sequence[Middleware]:
        """ASGI middleware around this module's routes, outermost first; the gateway has let the caller in by then.

        Prefer plain ASGI classes: one ``BaseHTTPMiddleware`` costs about ten times a bare route.
        """
        return ()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        """FastAPI's lifespan, for this module: what it yields is ``request.state`` of every request.

        An override carries ``@asynccontextmanager``, too.  `on_startup` and `on_shutdown` run inside it.
        """
        yield {}

    async def on_startup(self) -> None:
        """Before the first request; an exception, or more than the host's time limit, keeps the generation out."""

    async def on_shutdown(self) -> None:
        """After the last request of this generation; only if `on_startup` went well."""

    async def check_health(self) -> HealthStatus | bool | None:
        """Whether the module can do its work; None or True: yes.  An exception, or no answer in time: no.

        Asked by the worker every ``spec.health.intervalSeconds``, beside requests.  Look at what the module depends
        on, and do not wait for long: ``spec.health.timeoutSeconds``.
        """
        return True
