"""Who calls: what a verified token, or a custom auth provider, says of the caller.

Made by the gateway's authentication and nowhere else; handed to decisions, to the audit trail and, over the ASGI
scope, to the module.  Never made from headers that say who somebody is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ADMIN_ROLE: Final = "admin"
"""The role that level ADMIN asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller."""

    issuer: str
    """Who vouches for the caller: a token's ``iss``, or the name of an auth provider."""
    subject: str
    """Unique within the issuer."""
    organisation: str | None = None
    """Name of the Organisation that the caller acts for; None: of none."""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    token_id: str | None = None
    """The token's ``jti``."""
    expires: float
    """Unix time in seconds at which this ceases to hold."""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Everything that the token says; read only."""
