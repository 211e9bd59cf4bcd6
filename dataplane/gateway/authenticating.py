"""Who calls: the one Authorization header of a request, read by whoever understands its scheme.

``Bearer`` is a token (`schemas.kits.tokens`); other schemes belong to auth providers, which an installed package offers
in the entry-point group ``modplane.auth_providers`` and an operator turns on.  Query, cookies and other headers are
never looked at.  Called by `dataplane.gateway.deciding` for callers that it does not know yet.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from starlette.types import Scope

from dataplane.gateway.answering import Headers
from dataplane.sdk.providing import AuthProvider
from schemas import audit
from schemas.kits.tokens.refusing import TokenRefused
from schemas.kits.tokens.verifying import TokenVerifier
from schemas.principals import Principal

logger = structlog.get_logger("dataplane.gateway.authenticating")

BEARER: Final = b"Bearer"
_REALM: Final = b"modplane"
_AUTHORIZATION: Final = b"authorization"
_READ: Final = audit.CARRIED | {_AUTHORIZATION}

Carried = tuple[tuple[bytes, bytes], ...]
"""Headers."""

SCHEME: Final = "SchemeUnknown"
SEVERAL: Final = "SeveralCredentials"
NOT_KNOWN: Final = "CredentialsUnknown"
PROVIDER: Final = "ProviderFailed"


class Refused(Exception):  # noqa: N818 - named for what happened, as in the rest of the house
    """Credentials that are not believed; the reason is for the audit trail."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Revised(Protocol):
    """Something that changes."""

    @property
    def revision(self) -> int:
        """Changes with it."""
        ...


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A caller, and what that rests on."""

    principal: Principal
    issued_at: float
    """Unix time of the credentials; 0 if they do not say."""
    source: Revised
    """Whose keys or secrets it rests on; when its revision changes, `holds` has to be asked again."""
    holds: Callable[[], bool]
    """Whether the caller would still be believed."""
    until: float = math.inf
    """The monotonic time at which that has to be found out anew."""


def read(scope: Scope) -> tuple[tuple[bytes, ...], Carried]:
    """Every value of the request's Authorization header, and those headers that a record of the audit trail tells."""
    shown: tuple[bytes, ...] = ()
    carried: Carried = ()
    for name, value in scope["headers"]:
        if name in _READ:
            if name == _AUTHORIZATION:
                shown = (*shown, value)
            else:
                carried = (*carried, (name, value))
    return shown, carried


@dataclass(frozen=True, slots=True)
class Challenges:
    """What goes with a refusal (RFC 9110 section 11.6.1, RFC 6750 section 3)."""

    missing: Headers
    """Nothing was shown."""
    invalid: Headers
    """What was shown is not believed."""
    forbidden: Headers
    """The caller is known, and may not."""


class Authenticator:
    """Everybody who may say who somebody is."""

    def __init__(self, tokens: TokenVerifier, providers: Mapping[str, AuthProvider] | None = None) -> None:
        """``providers``: by the scheme that each understands, spelled as clients have to spell it."""
        self._tokens = tokens
        self._providers = {scheme.encode(): provider for scheme, provider in (providers or {}).items()}
        self.challenges = _challenges(list(self._providers))

    async def authenticate(self, value: bytes, now: float) -> Authenticated:
        """Who calls with this Authorization header at the unix time ``now``; `Refused` if that is not believed."""
        scheme, _, rest = value.partition(b" ")
        if scheme == BEARER:
            return await self._token(rest, now)
        provider = self._providers.get(scheme)
        if provider is None:
            raise Refused(SCHEME)
        return await self._provided(provider, rest, now)

    async def _token(self, token: bytes, now: float) -> Authenticated:
        try:
            proof = await self._tokens.verify(token, now)
        except TokenRefused as refused:
            raise Refused(refused.reason.value) from None
        keys = proof.keys
        return Authenticated(proof.verified.principal, proof.verified.issued_at, keys, lambda: proof.holds, keys.until)

    async def _provided(self, provider: AuthProvider, rest: bytes, now: float) -> Authenticated:
        before = provider.revision
        try:
            principal = await provider.authenticate(rest)
        except Exception as error:
            logger.exception("auth provider failed", provider=type(provider).__name__)
            raise Refused(PROVIDER) from error
        if principal is None or principal.expires <= now:
            raise Refused(NOT_KNOWN)
        return Authenticated(principal, 0.0, provider, lambda: provider.revision == before)


def _challenges(schemes: list[bytes]) -> Challenges:
    others = tuple((b"www-authenticate", b'%b realm="%b"' % (scheme, _REALM)) for scheme in schemes)

    def bearer(*more: bytes) -> Headers:
        return ((b"www-authenticate", b", ".join((b'%b realm="%b"' % (BEARER, _REALM), *more))), *others)

    return Challenges(bearer(), bearer(b'error="invalid_token"'), bearer(b'error="insufficient_scope"'))
