"""Flags and the caller's organisation, for a module's handlers: FastAPI dependencies over the ASGI scope.

A flag that a route cannot do without belongs into its declaration (`require_module_auth(feature_flags=...)`): then the
gateway closes the route.  Here is what a handler does in two ways.  Written by `dataplane.gateway.dispatching` before
any module code runs; all answers of one request are of one revision.
"""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import Depends
from fastapi.requests import HTTPConnection

from dataplane.sdk.calling import optional_principal
from schemas import names
from schemas.principals import Principal

T = TypeVar("T")

FLAGS: Final = "modplane.flags"
"""The scope's key of the flags as the gateway read them for this request."""
CONFIGURATION: Final = "modplane.configuration"
"""The scope's key of what the caller's organisation configured; absent where no access was asked for."""


class _Evaluation(Protocol):
    @property
    def on(self) -> bool:
        """Whether the flag is on."""
        ...


class Flags(Protocol):
    """The flags of one request."""

    def evaluate(self, name: str, principal: Principal | None, now: float) -> _Evaluation:
        """What the flag is for this caller."""
        ...

    def value(self, name: str, principal: Principal | None, now: float, default: T) -> T:
        """Its value, or the default."""
        ...


def feature_flag(name: str) -> Callable[[HTTPConnection], bool]:
    """A dependency: whether a flag is on for the caller; a flag that is unknown, or no boolean, is off.

    ``new: Annotated[bool, Depends(feature_flag("new-search"))]``
    """
    name = names.object_name(name)

    def dependency(connection: HTTPConnection) -> bool:
        flags: Flags | None = connection.scope.get(FLAGS)
        return flags is not None and flags.evaluate(name, optional_principal(connection), time.time()).on

    return dependency


def feature_value(name: str, default: T) -> Callable[[HTTPConnection], T]:
    """A dependency: a flag's value for the caller; ``default`` where it is off, unknown or of another type."""
    name = names.object_name(name)

    def dependency(connection: HTTPConnection) -> T:
        flags: Flags | None = connection.scope.get(FLAGS)
        if flags is None:
            return copy.deepcopy(default)
        return copy.deepcopy(flags.value(name, optional_principal(connection), time.time(), default))

    return dependency


def organisation_configuration(connection: HTTPConnection) -> dict[str, Any]:
    """What the caller's organisation configured in its access to this module: a copy of the handler's own.

    Empty for a module without ``tenancy: organisation``.
    """
    found: Mapping[str, Any] = connection.scope.get(CONFIGURATION) or {}
    return copy.deepcopy(dict(found))


OrganisationConfiguration = Annotated[dict[str, Any], Depends(organisation_configuration)]
"""For a handler's signature: ``async def mine(configuration: OrganisationConfiguration)``."""
