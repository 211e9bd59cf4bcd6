"""A token read before anybody has verified it: three canonical parts, a header of known members, a JSON object.

Nothing here is believed yet; it says which issuer's key is to be asked, and keeps from the library what it must not see
(the rules of RFC 8725 sections 3.1 to 3.10).  Pure.  Called by `schemas.kits.tokens.verifying`.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, Final

from schemas.kits.tokens import encoding
from schemas.kits.tokens.refusing import Reason, TokenRefused

TOKEN_BYTES: Final = 8_192
"""A longer token is refused unread."""
WORD_CHARACTERS: Final = 256
"""What an identifier in a token may have."""

_parts: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)").fullmatch
_ALLOWED: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
"""``x5t`` names a certificate and is not followed; every other member is refused, so also ``crit`` and ``zip``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a token says of itself."""

    signed: bytes
    """What the signature is of: header and claims as they came."""
    signature: bytes
    algorithm: str
    kid: str | None
    type: str
    """``typ``, in lower case, without ``application/``; ``jwt`` if the token does not say."""
    claims: dict[str, Any]


def read(token: bytes) -> Reading:
    """The parts of a token; TokenRefused if they are not as they have to be."""
    if len(token) > TOKEN_BYTES:
        raise TokenRefused(Reason.TOO_LARGE)
    parts = _parts(token)
    if parts is None:
        raise TokenRefused(Reason.MALFORMED)
    head, body, mark = parts.groups()
    try:
        algorithm, kid, kind = _header(head)
        claims = encoding.parsed(encoding.trusted(body))
        return Reading(token[: parts.end(2)], encoding.trusted(mark), algorithm, kid, kind, claims)
    except ValueError:
        raise TokenRefused(Reason.MALFORMED) from None


@functools.lru_cache(maxsize=256)
def _header(segment: bytes) -> tuple[str, str | None, str]:
    """Algorithm, key id and type; remembered, since all tokens of one key begin alike."""
    header = encoding.parsed(encoding.trusted(segment))
    if not header.keys() <= _ALLOWED or not all(map(_is_word, header.values())):
        raise TokenRefused(Reason.HEADER)
    return header.get("alg", ""), header.get("kid"), header.get("typ", "JWT").lower().removeprefix("application/")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= WORD_CHARACTERS
