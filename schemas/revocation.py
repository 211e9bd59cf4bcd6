"""Kind Revocation: tokens that are no longer good, although their signature and their time are.

`RevocationSet` is all of them as both planes ask it: pure; one set for each change; a question is three look-ups,
however many there are.  A revocation counts until it is gone: the control plane deletes it when it says so.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, StringConstraints

from schemas.meta import Json, Model, ObjectMeta
from schemas.principals import Principal

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Issuer = Annotated[str, StringConstraints(min_length=1, max_length=2048)]

TOKEN: Final = "TokenRevoked"  # noqa: S105 - a reason, no secret
SUBJECT: Final = "SubjectRevoked"
ORGANISATION: Final = "OrganisationRevoked"

Key = tuple[str, str, str]
"""Reason, issuer, and who."""


class RevocationSpec(Model):
    """One token, or all tokens of a subject or of an organisation, of one issuer."""

    issuer: Issuer
    """The tokens' ``iss``, letter by letter."""
    token_id: Word | None = None
    """The one token with this ``jti``."""
    subject: Word | None = None
    """Every token with this ``sub``."""
    organisation: Word | None = None
    """Every token that acts for this Organisation."""
    issued_before: AwareDatetime | None = None
    """Of a subject's or organisation's tokens only those whose ``iat`` is earlier; absent: all, also later ones."""
    expires: AwareDatetime | None = None
    """When the last token that it shuts out has run out: from then on the revocation is deleted by itself."""
    reason: Annotated[str, StringConstraints(max_length=1024)] = ""
    """For people."""


class Revocation(Model):
    """Tokens that are no longer good."""

    api_version: Literal["modplane.dev/v1"] = "modplane.dev/v1"
    kind: Literal["Revocation"] = "Revocation"
    metadata: ObjectMeta = ObjectMeta()
    spec: RevocationSpec
    status: Json = {}


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
