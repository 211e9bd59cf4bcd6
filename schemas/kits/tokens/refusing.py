"""The one error that leaves the box: a token is not believed, for a reason that only the audit trail hears."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a token is refused."""

    MALFORMED = "TokenMalformed"
    """Not three parts of canonical base64url, or not the JSON that belongs into them."""
    TOO_LARGE = "TokenTooLarge"
    HEADER = "TokenHeader"
    """A header member that is not expected, such as ``crit``, ``jku`` or ``jwk``."""
    TYPE = "TokenType"
    ISSUER = "IssuerUnknown"
    ALGORITHM = "AlgorithmWrong"
    """Another algorithm than the one of the issuer."""
    KEY = "KeyUnknown"
    SIGNATURE = "SignatureWrong"
    CLAIMS = "ClaimsMalformed"
    """A claim that is required is not there, or not of its type."""
    AUDIENCE = "AudienceWrong"
    EXPIRED = "TokenExpired"
    EARLY = "TokenNotYetValid"
    """``nbf`` or ``iat`` lies in the future."""
    ORGANISATION = "OrganisationForeign"
    """The issuer may not speak for that organisation, or may speak for some only and the token names none."""
    LIFETIME = "LifetimeTooLong"


class TokenRefused(Exception):  # noqa: N818 - named for what happened, as in the rest of the house
    """A token that is not believed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
