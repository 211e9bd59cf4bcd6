"""Whether a caller may go on: a route's requirement, the caller, and how things stand; nothing else.  Pure.

A requirement is compiled from a route's effective policy once per generation (`dataplane.gateway.serving`) and compared
by value, so that decisions outlive a module's reload with the same policy.  Called by `dataplane.gateway.deciding`.

Always: every clause has to hold; what is not known is closed.  Who is nobody gets 401, who is somebody but not the
right one 403; which clause failed is for the audit trail, never for the caller.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dataplane.gateway.standing import Standing
from schemas.module import Tenancy
from schemas.policies import EffectivePolicy
from schemas.principals import ADMIN_ROLE, Principal

ALLOWED: Final = "Allowed"
NO_CREDENTIALS: Final = "NoCredentials"
NOT_ADMIN: Final = "AdminNeeded"
NO_ROLE: Final = "RoleMissing"
NO_PERMISSION: Final = "PermissionMissing"

_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a route asks of its callers; clauses are in conjunctive normal form."""

    module: str
    authenticated: bool
    admin: bool = False
    permissions: tuple[frozenset[str], ...] = ()
    roles: tuple[frozenset[str], ...] = ()
    flags: tuple[str, ...] = ()
    tenancy: bool = False
    """Whether the caller's organisation needs an access to the module."""
    key: str = field(init=False, compare=False, repr=False)
    """Equal exactly for equal requirements: each request looks its decision up by this, and a text has its hash."""

    def __post_init__(self) -> None:
        clauses = [[sorted(clause) for clause in clauses] for clauses in (self.permissions, self.roles)]
        said = (self.module, self.authenticated, self.admin, *clauses, self.flags, self.tenancy)
        object.__setattr__(self, "key", repr(said))

    def __str__(self) -> str:
        """In words, such as ``PERMISSION permissions=read|write,export flags=beta tenancy=organisation``."""
        level = (
            "ADMIN" if self.admin else "ROLE" if self.roles else "PERMISSION" if self.permissions
            else "BASIC" if self.authenticated else "NONE"
        )  # fmt: skip
        words = [level]
        for name, clauses in (("permissions", self.permissions), ("roles", self.roles)):
            if clauses:
                words.append(f"{name}=" + ",".join("|".join(sorted(clause)) for clause in clauses))
        if self.flags:
            words.append("flags=" + ",".join(self.flags))
        if self.tenancy:
            words.append("tenancy=organisation")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one caller at one route."""

    status: int
    """200: go on; 401 or 403 otherwise."""
    reason: str
    """CamelCase, for the audit trail."""
    detail: str = ""
    """What was missing, for the audit trail."""
    principal: Principal | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The caller's organisation's own, for the module."""
    until: float = math.inf
    """The unix time at which the answer may change by itself."""

    @property
    def allowed(self) -> bool:
        """Whether the caller may go on."""
        return self.status == 200


def requirement(module: str, policy: EffectivePolicy, tenancy: Tenancy) -> Requirement | None:
    """What a policy comes to; None: anybody may call, and nobody is asked who they are."""
    organisation = tenancy is not Tenancy.SHARED
    if policy.open and not organisation:
        return None
    named = policy.admin or policy.permissions or policy.roles or organisation
    return Requirement(
        module,
        authenticated=policy.authenticated or bool(named),
        admin=policy.admin,
        permissions=tuple(frozenset(clause) for clause in policy.permissions),
        roles=tuple(frozenset(clause) for clause in policy.roles),
        flags=tuple(policy.feature_flags),
        tenancy=organisation,
    )


def decide(asked: Requirement, caller: Principal | None, issued_at: float, standing: Standing, now: float) -> Verdict:
    """Whether ``caller``, whose token is of ``issued_at``, may go on at the unix time ``now``."""
    if caller is None:
        if asked.authenticated:
            return Verdict(401, NO_CREDENTIALS)
    else:
        revoked = standing.revocations.revoked(caller, issued_at)
        if revoked is not None:
            return Verdict(401, revoked, principal=caller)
        missing = _missing(asked, caller)
        if missing is not None:
            return Verdict(403, *missing, principal=caller)
    configuration = _NOTHING
    if asked.tenancy:
        assert caller is not None, "tenancy asks for a caller"
        admission = standing.tenants.admits(asked.module, caller)
        if not admission.allowed:
            return Verdict(403, admission.reason, caller.organisation or "", caller)
        configuration = admission.configuration
    return _flagged(asked, caller, configuration, standing, now)


def _missing(asked: Requirement, caller: Principal) -> tuple[str, str] | None:
    if asked.admin and ADMIN_ROLE not in caller.roles:
        return NOT_ADMIN, ADMIN_ROLE
    for clause in asked.roles:
        if clause.isdisjoint(caller.roles):
            return NO_ROLE, " or ".join(sorted(clause))
    for clause in asked.permissions:
        if clause.isdisjoint(caller.permissions):
            return NO_PERMISSION, " or ".join(sorted(clause))
    return None


def _flagged(
    asked: Requirement, caller: Principal | None, configuration: Mapping[str, Any], standing: Standing, now: float
) -> Verdict:
    until = math.inf
    for name in asked.flags:
        found = standing.flags.evaluate(name, caller, now)
        if not found.on:
            return Verdict(403, found.reason, name, caller)
        until = min(until, math.inf if found.until is None else found.until)
    return Verdict(200, ALLOWED, "", caller, configuration, until)


def revisions(asked: Requirement, standing: Standing) -> tuple[int, ...]:
    """What `decide` reads of how things stand, as numbers: while they stay, so does the answer."""
    tenants = standing.tenants.revision_of(asked.module) if asked.tenancy else 0
    return (standing.revocations.revision, tenants, *map(standing.flags.revision_of, asked.flags))
