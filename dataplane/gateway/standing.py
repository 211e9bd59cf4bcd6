"""How things stand apart from routes and policies: flags, tenants, revocations, as decisions read them.

Part of the immutable snapshot (`dataplane.gateway.snapshots`) and swapped with it, so that no request sees half a
change.  A revision changes only when the content behind it changes: cached decisions compare the revisions of exactly
what they read, so that an unrelated publish leaves them warm (`dataplane.gateway.deciding`).

Always: what is not known is closed.  The implementations here are those of a worker that has heard of nothing: every
flag is off, no organisation may enter a module that asks for one, nothing is revoked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from schemas.principals import Principal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one flag is for one caller."""

    on: bool
    reason: str
    """CamelCase, for programs, such as ``FlagUnknown``."""
    variant: str | None = None
    until: float | None = None
    """The earliest unix time at which the answer may change by itself; None: never."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a caller's organisation lets the caller into one module."""

    allowed: bool
    reason: str
    """CamelCase, for programs, such as ``NoAccess``."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The organisation's own configuration, handed to the module."""


class Flags(Protocol):
    """Every feature flag, as of one revision."""

    @property
    def revision(self) -> int:
        """Changes when any flag changes."""
        ...

    def revision_of(self, name: str) -> int:
        """Changes when this flag changes, appears or goes."""
        ...

    def evaluate(self, name: str, principal: Principal | None, now: float) -> Evaluation:
        """What the flag is for this caller at this unix time; a flag that nobody knows is off."""
        ...

    def value(self, name: str, principal: Principal | None, now: float, default: T) -> T:
        """The flag's value for this caller; ``default`` where it is off, unknown or of another type."""
        ...


class Tenants(Protocol):
    """Every organisation and its accesses, as of one revision."""

    @property
    def revision(self) -> int:
        """Changes when any organisation or access changes."""
        ...

    def revision_of(self, module: str) -> int:
        """Changes when something changes that `admits` reads for this module."""
        ...

    def admits(self, module: str, principal: Principal) -> Admission:
        """Whether the caller may enter a module that asks for an organisation's access."""
        ...


class Revocations(Protocol):
    """Everything that was revoked, as of one revision."""

    @property
    def revision(self) -> int:
        """Changes when a revocation comes or goes."""
        ...

    def revoked(self, principal: Principal, issued_at: float) -> str | None:
        """Why a caller whose token is of this unix time is shut out, in CamelCase; None: not at all."""
        ...


class NoFlags:
    """Every flag is off."""

    revision = 0

    def revision_of(self, name: str) -> int:
        """Nothing changes."""
        return 0

    def evaluate(self, name: str, principal: Principal | None, now: float) -> Evaluation:
        """Off."""
        return Evaluation(on=False, reason="FlagUnknown")

    def value(self, name: str, principal: Principal | None, now: float, default: T) -> T:
        """The default."""
        return default


class NoTenants:
    """Nobody is admitted."""

    revision = 0

    def revision_of(self, module: str) -> int:
        """Nothing changes."""
        return 0

    def admits(self, module: str, principal: Principal) -> Admission:
        """Refused."""
        return Admission(allowed=False, reason="NoAccess")


class NoRevocations:
    """Nobody is shut out."""

    revision = 0

    def revoked(self, principal: Principal, issued_at: float) -> str | None:
        """Not revoked."""
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What decisions read besides a route's policy."""

    flags: Flags = field(default_factory=NoFlags)
    tenants: Tenants = field(default_factory=NoTenants)
    revocations: Revocations = field(default_factory=NoRevocations)
