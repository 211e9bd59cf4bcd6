"""Who calls this plane: a bearer token (RFC 6750) of a configured issuer, or nobody.

A verified token is remembered by its SHA-256 for some minutes, and no longer than it is valid and its key is there.
Asked by `guarding`; the verifying itself is `schemas.kits.tokens`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from controlplane.api import answering, authorising
from schemas.kits.clocks import Clock
from schemas.kits.tokens.claims import Verified
from schemas.kits.tokens.refusing import TokenRefused
from schemas.kits.tokens.verifying import Proof, TokenVerifier
from schemas.principals import Principal

Caller = tuple[Principal | None, authorising.Role | None]
Revoked = Callable[[Principal, float], bool]

_LONGEST: Final = 8 * 1024
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="modplane"'}
_REFUSED: Final = {"www-authenticate": 'Bearer realm="modplane", error="invalid_token"'}


class Callers:
    """Tells who calls, and with which role."""

    def __init__(
        self,
        verifier: TokenVerifier,
        clock: Clock,
        revoked: Revoked,
        *,
        anonymous: authorising.Role | None = None,
        ttl: float = 300.0,
        tokens: int = 1_000,
    ) -> None:
        """``revoked``: whether a caller whose token was issued then is shut out.

        ``anonymous``: the role of those who bring no token; ``ttl``: seconds for which a token is remembered.
        """
        self.hits = 0
        """Tokens that were remembered."""
        self.unknown = 0
        """Tokens that had to be verified."""
        self._revoked = revoked
        self._verifier = verifier
        self._clock = clock
        self._anonymous = anonymous
        self._ttl = ttl
        self._tokens = tokens
        self._known: OrderedDict[bytes, tuple[Proof, float]] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many tokens are remembered."""
        return len(self._known)

    async def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller and the caller's role, None where there is none; Refusal 401 for a token that is not believed."""
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            return None, self._anonymous
        if len(given) > 1:
            raise answering.Refusal(400, "exactly one Authorization header is expected")
        scheme, _, token = given[0].partition(b" ")
        # in one spelling, as the data plane's gateway wants it: no two readers may differ on what is a credential
        if scheme != b"Bearer" or not token or len(token) > _LONGEST:
            words = "Authorization has to be: Bearer TOKEN, with the scheme in this spelling"
            raise answering.Refusal(401, words, headers=_CHALLENGE)
        verified = await self._verified(token)
        if self._revoked(verified.principal, verified.issued_at):
            raise answering.Refusal(401, "the token was revoked", headers=_REFUSED)
        return verified.principal, authorising.role_of(verified.principal)

    async def _verified(self, token: bytes) -> Verified:
        key, now = hashlib.sha256(token).digest(), self._clock.now().timestamp()
        proof, until = self._known.pop(key, (None, 0.0))
        if proof is None or not proof.holds or now >= until:
            self.unknown += 1
            try:
                proof = await self._verifier.verify(token, now)
            except TokenRefused as error:
                words = "the token is not believed: it ran out, or is not of an issuer of this system"
                raise answering.Refusal(401, words, headers=_REFUSED) from error
            until = min(now + self._ttl, proof.verified.principal.expires)
        else:
            self.hits += 1
        self._known[key] = proof, until
        while len(self._known) > self._tokens:
            self._known.popitem(last=False)
        return proof.verified


def missing(role: authorising.Role, caller: Principal | None, had: authorising.Role | None) -> answering.Refusal:
    """The refusal of a caller without the role that is needed."""
    if caller is None:
        words = (
            f"this needs a token with the role {role.word}: send Authorization: Bearer TOKEN; the command line finds "
            "the token file of `modplane up` by itself, or takes --token"
        )
        return answering.Refusal(401, words, headers=_CHALLENGE)
    if caller.organisation is not None:
        return answering.Refusal(403, "a token of an organisation has no say over the platform; use one without")
    held = "none" if had is None else had.word
    return answering.Refusal(403, f"{caller.subject[:100]} needs the role {role.word} for this and has {held}")
