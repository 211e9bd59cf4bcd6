"""Which organisation's users may enter which module: every organisation with its accesses, as of one revision.

A module with ``tenancy: organisation`` needs, for each call, an enabled access of the caller's own enabled
organisation, of whose users the caller is one who is not kept out.  Pure; made off the serving loop, one `TenantSet`
for each change.

Always: whoever is not named is refused, and nothing here reads anything but the caller's own organisation; an access
whose configuration names a secret that is not there is closed.
Asked by `dataplane.gateway.deciding`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from dataplane.errors import DataPlaneError
from dataplane.gateway.standing import Admission
from schemas.meta import Json
from schemas.organisation import DesiredAccess, DesiredOrganisation
from schemas.principals import Principal

logger = structlog.get_logger("dataplane.gateway.tenants")

ADMITTED: Final = "Admitted"
NO_ORGANISATION: Final = Admission(allowed=False, reason="NoOrganisation")
"""The caller acts for none."""
UNKNOWN: Final = Admission(allowed=False, reason="OrganisationUnknown")
DISABLED: Final = Admission(allowed=False, reason="OrganisationDisabled")
NO_ACCESS: Final = Admission(allowed=False, reason="NoAccess")
"""The organisation has none to this module."""
ACCESS_DISABLED: Final = Admission(allowed=False, reason="AccessDisabled")
USER_DENIED: Final = Admission(allowed=False, reason="UserDenied")
USER_NOT_ALLOWED: Final = Admission(allowed=False, reason="UserNotAllowed")


SECRET_MISSING: Final = Admission(allowed=False, reason="SecretMissing")
"""The configuration cannot be handed over."""

Reveal: TypeAlias = Callable[[Json], Json]
"""A configuration with secrets in place of references; DataPlaneError."""


def _as_it_is(configuration: Json) -> Json:
    return configuration


@dataclass(frozen=True, slots=True)
class _Access:
    """One access, made ready."""

    enabled: bool
    allowed: frozenset[str]
    denied: frozenset[str]
    admitted: Admission

    def admits(self, subject: str) -> Admission:
        if not self.enabled:
            return ACCESS_DISABLED
        if subject in self.denied:
            return USER_DENIED
        if self.allowed and subject not in self.allowed:
            return USER_NOT_ALLOWED
        return self.admitted


@dataclass(frozen=True, slots=True)
class _Tenant:
    desired: DesiredOrganisation
    accesses: Mapping[str, _Access]
    lacking: frozenset[str] = frozenset()
    """The modules to which an access is closed for want of a secret."""


@dataclass(frozen=True, slots=True)
class TenantSet:
    """Every organisation and its accesses, as of one revision."""

    revision: int = 0
    reveal: Reveal = _as_it_is
    _tenants: Mapping[str, _Tenant] = field(default_factory=dict)
    _revisions: Mapping[str, int] = field(default_factory=dict)
    """By module."""

    def with_changes(self, changes: Mapping[str, DesiredOrganisation | None]) -> "TenantSet":
        """This set with some organisations changed, added, or (None) gone."""
        tenants, revisions, revision = dict(self._tenants), dict(self._revisions), self.revision + 1
        for name, desired in changes.items():
            before = tenants.pop(name, None)
            if desired is not None:
                tenants[name] = _made(name, desired, self.reveal)
            revisions.update(dict.fromkeys(_moved(None if before is None else before.desired, desired), revision))
        return TenantSet(revision, self.reveal, tenants, revisions)

    @property
    def lacking(self) -> bool:
        """Whether some access is closed for want of a secret."""
        return any(tenant.lacking for tenant in self._tenants.values())

    def again(self) -> "TenantSet":
        """This set with the secrets looked for that were missing; itself if all are missing still."""
        tenants, revisions, revision = dict(self._tenants), dict(self._revisions), self.revision + 1
        for name, before in self._tenants.items():
            if before.lacking:
                tenants[name] = after = _made(name, before.desired, self.reveal)
                revisions.update(dict.fromkeys(before.lacking ^ after.lacking, revision))
        if revisions == self._revisions:
            return self
        return TenantSet(revision, self.reveal, tenants, revisions)

    def revision_of(self, module: str) -> int:
        """Changes when some organisation's right to this module does."""
        return self._revisions.get(module, 0)

    def admits(self, module: str, principal: Principal) -> Admission:
        """Whether the caller may enter a module that asks for an organisation's access."""
        if not principal.organisation:
            return NO_ORGANISATION
        tenant = self._tenants.get(principal.organisation)
        if tenant is None:
            return UNKNOWN
        if not tenant.desired.enabled:
            return DISABLED
        access = tenant.accesses.get(module)
        return NO_ACCESS if access is None else access.admits(principal.subject)


def _made(name: str, desired: DesiredOrganisation, reveal: Reveal) -> _Tenant:
    accesses: dict[str, _Access] = {}
    lacking: set[str] = set()
    for module, access in desired.accesses.items():
        try:
            configuration = reveal(access.configuration)
        except DataPlaneError as error:
            logger.warning("access closed", organisation=name, module=module, error=error.message)
            accesses[module] = _access(access, SECRET_MISSING)
            lacking.add(module)
        else:
            admitted = Admission(allowed=True, reason=ADMITTED, configuration=configuration)
            accesses[module] = _access(access, admitted)
    return _Tenant(desired, accesses, frozenset(lacking))


def _access(desired: DesiredAccess, admitted: Admission) -> _Access:
    return _Access(desired.enabled, frozenset(desired.users_allowed), frozenset(desired.users_denied), admitted)


def _moved(before: DesiredOrganisation | None, after: DesiredOrganisation | None) -> set[str]:
    """The modules to which a change of one organisation's document means something."""
    old = {} if before is None else before.accesses
    new = {} if after is None else after.accesses
    if before is None or after is None or before.enabled != after.enabled:
        return {*old, *new}
    return {module for module in {*old, *new} if old.get(module) != new.get(module)}
