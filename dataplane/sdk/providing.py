"""The port of an auth provider: somebody who can tell who calls from credentials that are no token.

A package offers one in the entry-point group ``modplane.auth_providers``: a callable that takes the options which the
operator gave (a JSON object) and returns the provider.  ``AUTH_PROVIDERS`` turns it on.  `dataplane.gateway.apikeys` is
one.  Called on the serving loop, for each caller that is not remembered: waiting is fine, blocking is not.
"""

from typing import Final, Protocol

from schemas.principals import Principal

GROUP: Final = "modplane.auth_providers"
"""The entry-point group."""


class AuthProvider(Protocol):
    """Knows callers by other credentials than tokens."""

    scheme: str
    """The scheme of the Authorization header that it understands, such as ``ApiKey``; never ``Bearer``."""

    @property
    def revision(self) -> int:
        """Changes when a caller who was known may be known no more: callers are then asked for again."""
        ...

    async def authenticate(self, credentials: bytes) -> Principal | None:
        """Who calls with what stands behind the scheme; None: nobody that is known."""
        ...

    async def run(self) -> None:
        """Keep itself fresh, until cancelled."""
        ...
