"""Kind Revocation: tokens that are no longer good, although their signature and their time are."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, StringConstraints

from schemas.meta import Json, Model, ObjectMeta

Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Issuer = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


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
