"""What a verified token has to say, and the caller that it makes.

``iss``, ``sub``, ``aud``, ``exp`` and ``iat`` are required; times are numbers; what should be a word is one.  Pure: the
moment is handed in.  Called by `schemas.kits.tokens.verifying` once the signature holds.

Source: RFC 7519 section 4.1, RFC 8725 sections 3.7 to 3.10, RFC 6750 section 3 (a scope is words with spaces).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from schemas.kits.tokens.reading import WORD_CHARACTERS
from schemas.kits.tokens.refusing import Reason, TokenRefused
from schemas.principals import Principal

_WORDS: Final = 1_000
"""What a list of roles or permissions may have."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What tokens of one issuer have to say, and where they say it."""

    issuer: str
    audience: str
    leeway: float
    """Seconds by which clocks may differ."""
    longest: float
    """Seconds that a token may be valid for, from ``iat`` to ``exp``."""
    organisation: str
    """Name of the claim, or a JSON pointer into the claims if it begins with a slash."""
    roles: str
    permissions: str
    organisations: frozenset[str] | None = None
    """For whom the issuer may speak: then every token has to name one of them.  None: for anybody, or for nobody."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A caller, and since when."""

    principal: Principal
    issued_at: float
    """Unix time in seconds."""


def accepted(claims: Mapping[str, Any], expected: Expectation, now: float) -> Verified:
    """The caller that claims of a verified token stand for, at the unix time ``now``; TokenRefused otherwise."""
    subject, audience = claims.get("sub"), claims.get("aud")
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if claims.get("iss") != expected.issuer:
        raise TokenRefused(Reason.ISSUER)
    if not _is_word(subject) or not ("jti" not in claims or _is_word(claims["jti"])):
        raise TokenRefused(Reason.CLAIMS)
    if audience != expected.audience and not _among(expected.audience, audience):
        raise TokenRefused(Reason.AUDIENCE)
    if now >= expires + expected.leeway:
        raise TokenRefused(Reason.EXPIRED)
    if issued > now + expected.leeway or ("nbf" in claims and _time(claims, "nbf") > now + expected.leeway):
        raise TokenRefused(Reason.EARLY)
    if not 0 < expires - issued <= expected.longest:
        raise TokenRefused(Reason.LIFETIME)
    organisation = _organisation(_at(claims, expected.organisation))
    if expected.organisations is not None and organisation not in expected.organisations:
        raise TokenRefused(Reason.ORGANISATION)
    principal = Principal(
        issuer=expected.issuer,
        subject=subject,
        organisation=organisation,
        roles=_words(_at(claims, expected.roles)),
        permissions=_words(_at(claims, expected.permissions)),
        token_id=claims.get("jti"),
        expires=float(expires),
        claims=MappingProxyType(claims),
    )
    return Verified(principal, float(issued))


def _is_word(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= WORD_CHARACTERS


def _among(audience: str, given: object) -> bool:
    if isinstance(given, list):
        if all(isinstance(each, str) for each in given):
            return audience in given
        raise TokenRefused(Reason.CLAIMS)
    return False


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TokenRefused(Reason.CLAIMS)
    return value


def _at(claims: Mapping[str, Any], place: str) -> Any:
    if not place.startswith("/"):
        return claims.get(place)
    value: Any = claims
    for step in place[1:].split("/"):
        value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
    return value


def _organisation(value: object) -> str | None:
    if value is None:
        return None
    if _is_word(value):
        return value
    raise TokenRefused(Reason.CLAIMS)


def _words(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > _WORDS:
        raise TokenRefused(Reason.CLAIMS)
    if isinstance(value, str):
        words = [word for word in words if word]
    if not all(map(_is_word, words)):
        raise TokenRefused(Reason.CLAIMS)
    return frozenset(words)
