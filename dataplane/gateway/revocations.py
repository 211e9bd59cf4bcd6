"""Who is shut out although the token is good: by token, by subject, by organisation, of one issuer each.

Pure; made off the serving loop, one `RevocationSet` for each change; a question is three look-ups, however many there
are.  A revocation counts until it is gone: the control plane deletes it when it says so.
Asked by `dataplane.gateway.deciding`, also for tokens that are cached.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.principals import Principal
from schemas.revocation import RevocationSpec

TOKEN: Final = "TokenRevoked"  # noqa: S105 - a reason, no secret
SUBJECT: Final = "SubjectRevoked"
ORGANISATION: Final = "OrganisationRevoked"

Key = tuple[str, str, str]
"""Reason, issuer, and who."""


@dataclass(frozen=True, slots=True)
class RevocationSet:
    """Everything that was revoked, as of one revision."""

    revision: int = 0
    _specs: Mapping[str, RevocationSpec] = field(default_factory=dict)
    _before: Mapping[Key, float] = field(default_factory=dict)
    """Tokens issued before this unix time are shut out."""

    def with_changes(self, changes: Mapping[str, RevocationSpec | None]) -> "RevocationSet":
        """This set with some revocations changed, added, or (None) gone."""
        specs = dict(self._specs)
        for name, spec in changes.items():
            specs.pop(name, None)
            if spec is not None:
                specs[name] = spec
        return RevocationSet(self.revision + 1, specs, _merged(specs.values()))

    def revoked(self, principal: Principal, issued_at: float) -> str | None:
        """Why a caller whose token is of this unix time is shut out; None: not at all."""
        if not self._before:
            return None
        issuer = principal.issuer
        for reason, who in (
            (TOKEN, principal.token_id),
            (SUBJECT, principal.subject),
            (ORGANISATION, principal.organisation),
        ):
            if who is not None and issued_at < self._before.get((reason, issuer, who), -math.inf):
                return reason
        return None


def _merged(specs: Iterable[RevocationSpec]) -> dict[Key, float]:
    """Of several for one, the one that shuts out most."""
    merged: dict[Key, float] = {}
    for spec in specs:
        before = math.inf if spec.issued_before is None else spec.issued_before.timestamp()
        for reason, who in ((TOKEN, spec.token_id), (SUBJECT, spec.subject), (ORGANISATION, spec.organisation)):
            if who is not None:
                key = (reason, spec.issuer, who)
                merged[key] = max(before, merged.get(key, -math.inf))
    return merged
