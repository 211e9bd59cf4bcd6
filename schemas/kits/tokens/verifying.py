"""The way into the box: a token in, a caller out, or `TokenRefused` and nothing else.

A token's own words choose only among what operators configured: its ``iss`` the issuer, its ``kid`` one of that
issuer's keys.  The algorithm is the issuer's, and the key's type follows from it.  python-jose gets bytes, a signature
and one key that was made ready for one algorithm; it sees neither headers nor key material.

Called by `dataplane.gateway.authenticating`; a control plane's guard uses the same port.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from schemas.kits.tokens import claims, reading
from schemas.kits.tokens.claims import Expectation, Verified
from schemas.kits.tokens.keys import Algorithm, VerifyingKey
from schemas.kits.tokens.refusing import Reason, TokenRefused
from schemas.kits.tokens.sources import KeySource

logger = structlog.get_logger("schemas.kits.tokens.verifying")

TYPES: Final = frozenset({"jwt", "at+jwt"})
"""What ``typ`` may be, if an operator does not say more."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may sign, how, and with whose keys."""

    expected: Expectation
    algorithm: Algorithm
    keys: KeySource
    types: frozenset[str] = TYPES


@dataclass(frozen=True, slots=True)
class Proof:
    """A verified token, and what that rests on."""

    verified: Verified
    key: VerifyingKey
    keys: KeySource

    @property
    def holds(self) -> bool:
        """Whether the issuer still has the very key that the token was verified with."""
        now = self.keys.find(self.key.kid)
        return now is not None and now.mark == self.key.mark


class TokenVerifier(Protocol):
    """What verifies tokens."""

    async def verify(self, token: bytes, now: float) -> Proof:
        """Who calls with ``token`` at the unix time ``now``; TokenRefused for every token that is not believed."""
        ...


class Verifier:
    """Verifies tokens of the configured issuers."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self.issuers = {issuer.expected.issuer: issuer for issuer in issuers}
        self.verified = 0
        self.refused = 0

    async def verify(self, token: bytes, now: float) -> Proof:
        """Who calls with ``token``; waits only when a key has to be sought."""
        try:
            proof = await self._verify(token, now)
        except TokenRefused:
            self.refused += 1
            raise
        except Exception:
            self.refused += 1
            logger.exception("token not understood")
            raise TokenRefused(Reason.MALFORMED) from None
        self.verified += 1
        return proof

    async def _verify(self, token: bytes, now: float) -> Proof:
        read = reading.read(token)
        issuer = self._issuer(read.claims.get("iss"))
        if read.type not in issuer.types:
            raise TokenRefused(Reason.TYPE)
        if read.algorithm != issuer.algorithm.value:
            raise TokenRefused(Reason.ALGORITHM)
        key = issuer.keys.find(read.kid) or await issuer.keys.seek(read.kid)
        if key is None:
            raise TokenRefused(Reason.KEY)
        if not _signed(read, key):
            raise TokenRefused(Reason.SIGNATURE)
        return Proof(claims.accepted(read.claims, issuer.expected, now), key, issuer.keys)

    def _issuer(self, name: Any) -> Issuer:
        issuer = self.issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused(Reason.ISSUER)
        return issuer

    def wire(self) -> dict[str, Any]:
        """What is shown of it."""
        issuers = [{"issuer": name, **issuer.keys.wire()} for name, issuer in self.issuers.items()]
        return {"issuers": issuers, "verified": self.verified, "refused": self.refused}


def _signed(read: reading.Reading, key: VerifyingKey) -> bool:
    try:
        return key.key.verify(read.signed, read.signature) is True
    except Exception:  # noqa: BLE001 - whatever a library makes of a strange signature, it is none
        return False
