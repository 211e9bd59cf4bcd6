"""Who may call a route: requirements, and how a module's floor and a route's own words conjoin.

Pure.  The control plane computes the effective policy at registration; the gateway only evaluates it.
"""

import functools
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Final

from pydantic import ConfigDict

from schemas import names
from schemas.meta import Model


class AuthLevel(StrEnum):
    """How much a caller has to prove, weakest first."""

    NONE = "NONE"
    BASIC = "BASIC"
    PERMISSION = "PERMISSION"
    ROLE = "ROLE"
    ADMIN = "ADMIN"


class Match(StrEnum):
    """Whether one of a list is enough or every one is needed."""

    ANY = "any"
    ALL = "all"


class AuthRequirement(Model):
    """What one place (a manifest's floor, or a route) asks of a caller."""

    level: AuthLevel = AuthLevel.BASIC
    """NONE: anybody. BASIC: a valid token. PERMISSION, ROLE: also the listed ones. ADMIN: the role admin."""
    permissions: list[str] = []
    permissions_match: Match = Match.ALL
    roles: list[str] = []
    roles_match: Match = Match.ANY
    feature_flags: list[str] = []
    """Names of flags that must all be on for the caller; ``new_search`` and ``new-search`` are the same."""


class EffectivePolicy(Model):
    """The conjunction of all requirements on a route: a caller must satisfy every clause.

    ``permissions`` and ``roles`` are in conjunctive normal form: a list of clauses, one word of each suffices.  Unlike
    everything else on the wire it is read strictly: a clause that a reader does not know must not be let go unasked, so
    a route whose policy it cannot read whole is not served.
    """

    model_config = ConfigDict(extra="forbid")

    authenticated: bool = True
    admin: bool = False
    permissions: list[list[str]] = []
    roles: list[list[str]] = []
    feature_flags: list[str] = []

    @property
    def level(self) -> AuthLevel:
        """The strongest level that the clauses amount to, for showing."""
        if self.admin:
            return AuthLevel.ADMIN
        if self.roles:
            return AuthLevel.ROLE
        if self.permissions:
            return AuthLevel.PERMISSION
        return AuthLevel.BASIC if self.authenticated else AuthLevel.NONE

    @property
    def open(self) -> bool:
        """Whether anybody may call, with no check at all."""
        return not (self.authenticated or self.admin or self.permissions or self.roles or self.feature_flags)


OPEN = EffectivePolicy(authenticated=False)
"""The policy of a route that anybody may call."""


def _clauses(words: Collection[str], match: Match) -> list[list[str]]:
    if not words:
        return []
    return [sorted(set(words))] if match is Match.ANY else [[word] for word in sorted(set(words))]


def _of(requirement: AuthRequirement) -> EffectivePolicy:
    return _alone(
        requirement.level,
        tuple(requirement.permissions),
        requirement.permissions_match,
        tuple(requirement.roles),
        requirement.roles_match,
        tuple(requirement.feature_flags),
    )


@functools.lru_cache(maxsize=1024)
def _alone(
    level: AuthLevel,
    permissions: tuple[str, ...],
    permissions_match: Match,
    roles: tuple[str, ...],
    roles_match: Match,
    feature_flags: tuple[str, ...],
) -> EffectivePolicy:
    """What one requirement comes to; most routes of a platform say one of a few things."""
    return EffectivePolicy(
        authenticated=level is not AuthLevel.NONE or bool(permissions or roles),
        admin=level is AuthLevel.ADMIN,
        permissions=_clauses(permissions, permissions_match),
        roles=_clauses(roles, roles_match),
        feature_flags=sorted({names.object_name(flag) for flag in feature_flags}),
    )


def _union(clauses: Iterable[list[str]]) -> list[list[str]]:
    return [list(clause) for clause in sorted({tuple(clause) for clause in clauses})]


_UNSAID: Final = AuthRequirement()


def conjoin(floor: AuthRequirement | None, route: AuthRequirement | None) -> EffectivePolicy:
    """The effective policy of a route: the floor's and the route's requirements, both.

    ``floor`` None means no floor; ``route`` None means that the route declares nothing and so is BASIC.
    """
    own = _of(route if route is not None else _UNSAID)
    if floor is None:
        return own
    base = _of(floor)
    return EffectivePolicy(
        authenticated=base.authenticated or own.authenticated,
        admin=base.admin or own.admin,
        permissions=_union([*base.permissions, *own.permissions]),
        roles=_union([*base.roles, *own.roles]),
        feature_flags=sorted({*base.feature_flags, *own.feature_flags}),
    )
