"""Who may do what at this plane's own doors: three roles, each with all that the one before it may.

    viewer  reads everything
    editor  writes modules and feature flags, has the modules path scanned
    admin   writes who the tenants are, what they may use, and whose tokens are void; reads the audit trail

Pure.  A caller who acts for an organisation is a tenant's, and has no say over the platform whatever the token's roles
are.  Asked by `guarding` before any handler runs, and by `changing` for what a list holds.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final

from schemas import kinds, names
from schemas.principals import Principal


class Role(IntEnum):
    """What a caller may do here, weakest first."""

    VIEWER = 1
    EDITOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As tokens and settings spell it."""
        return self.name.lower()


_OPEN: Final = frozenset({"/health", "/ready", "/openapi.json", "/docs"})
_OPEN_BELOW: Final = "/docs/"
LOCAL: Final = frozenset({"/metrics"})
"""Paths that callers on this machine may read without a token: they tell of the platform, never of a tenant."""
_ADMINS: Final = frozenset({"Organisation", "ModuleAccess", "Revocation"})
_AUDIT: Final = f"{names.MANAGEMENT_PREFIX}/audit"
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


def role_of(principal: Principal) -> Role | None:
    """The strongest role that a caller's token names; None: none, or the caller is a tenant's."""
    if principal.organisation is not None:
        return None
    return max((role for role in Role if role.word in principal.roles), default=None)


def is_open(path: str) -> bool:
    """Whether a path is everybody's: probes carry no tokens, and what is published is no secret."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def needed(method: str, path: str) -> Role | None:
    """The role that a request needs; None: anybody may."""
    if is_open(path):
        return None
    if path.startswith(_AUDIT):
        return Role.ADMIN
    if method in READING:
        return Role.VIEWER
    kind = kinds.BY_PLURAL.get(path.removeprefix(f"{names.API_PREFIX}/").partition("/")[0])
    return Role.EDITOR if kind is None else needed_for([kind.name])


def needed_for(written: Iterable[Any]) -> Role:
    """The role that writing objects of these kinds needs."""
    return Role.ADMIN if any(isinstance(kind, str) and kind in _ADMINS for kind in written) else Role.EDITOR
