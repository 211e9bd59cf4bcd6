"""Who calls at the bench, and how things stand there: callers without tokens, flags by value, tenants by configuration.

Always: decisions are the gateway's own (`dataplane.gateway.deciding`); only who somebody is, and what flags and
organisations say, is made up.  Called by `dataplane.testing` and `dataplane.workshop.developing`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from dataplane.gateway import deciding
from dataplane.gateway.authenticating import Authenticator
from dataplane.gateway.flags import FlagSet
from dataplane.gateway.standing import Standing
from dataplane.gateway.tenants import TenantSet
from dataplane.runtime import building, confiding
from schemas.flag import FlagDefinition
from schemas.kits.clocks import Clock, SystemClock
from schemas.kits.tokens.verifying import Verifier
from schemas.meta import Json
from schemas.names import object_name
from schemas.organisation import DesiredAccess, DesiredOrganisation
from schemas.principals import Principal

_SCHEME: Final = "Caller"
_LIFE_SECONDS: Final = 86_400.0
_GIVEN: Final = "given"


def principal(
    subject: str,
    *,
    organisation: str | None = None,
    roles: Iterable[str] = (),
    permissions: Iterable[str] = (),
    claims: Mapping[str, Any] | None = None,
) -> Principal:
    """A caller as a token would make it, valid for a day."""
    return Principal(
        issuer="urn:modplane:testing",
        subject=subject,
        organisation=organisation,
        roles=frozenset(roles),
        permissions=frozenset(permissions),
        expires=time.time() + _LIFE_SECONDS,
        claims=dict(claims or {}),
    )


class Cast:
    """The callers of one bench: an auth provider that knows each by the word that it gave out."""

    scheme = _SCHEME
    revision = 0

    def __init__(self) -> None:
        self._callers: list[Principal] = []

    def credentials(self, caller: Principal) -> str:
        """The Authorization header with which ``caller`` calls."""
        self._callers.append(caller)
        return f"{_SCHEME} {len(self._callers) - 1}"

    async def authenticate(self, credentials: bytes) -> Principal | None:
        """Whoever got this word."""
        if not credentials.isdigit() or int(credentials) >= len(self._callers):
            return None
        return self._callers[int(credentials)]

    async def run(self) -> None:
        """Nothing to keep fresh."""

    def gate(self, clock: Clock | None = None) -> deciding.Gate:
        """A gate that believes these callers and nobody else."""
        return deciding.Gate(Authenticator(Verifier([]), {_SCHEME: self}), clock or SystemClock())


@dataclass(frozen=True, slots=True)
class Scenery:
    """How things stand."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    """Each flag's value, for everybody; what is not named is unknown, and so off."""
    organisations: Mapping[str, Json] = field(default_factory=dict)
    """The organisations that have access to every module here, with their configuration for it."""
    secrets: confiding.Secrets = building.NO_SECRETS

    def standing(self, modules: Iterable[str]) -> Standing:
        """The same, for the modules of these names; StartFailed for a configuration whose secret is not there."""
        flags = {object_name(name): _flag(value) for name, value in self.flags.items()}
        revealed = {name: self.secrets.revealed(given) for name, given in self.organisations.items()}
        tenants = {name: _tenant(given, modules) for name, given in revealed.items()}
        return Standing(flags=FlagSet().with_changes(flags), tenants=TenantSet().with_changes(tenants))


def _flag(value: Any) -> FlagDefinition:
    return FlagDefinition(variants={_GIVEN: value}, default_variant=_GIVEN)


def _tenant(configuration: Json, modules: Iterable[str]) -> DesiredOrganisation:
    access = DesiredAccess(enabled=True, configuration=configuration)
    return DesiredOrganisation(enabled=True, accesses=dict.fromkeys(modules, access))


class Assumed:
    """ASGI: who brings no credentials is taken for one caller."""

    def __init__(self, app: ASGIApp, credentials: str) -> None:
        self._app = app
        self._header = (b"authorization", credentials.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header where there is none."""
        if scope["type"] in ("http", "websocket") and all(name != b"authorization" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], self._header]}
        await self._app(scope, receive, send)
