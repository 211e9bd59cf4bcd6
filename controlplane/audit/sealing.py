"""Checkpoints: what a chain holds, signed by the control plane, so that a cut or rewritten chain can be told.

Workers have no key of their own; the control plane signs what it received as it stores it, and whoever holds the file
alone cannot sign another story.  Pure but for the keys' file; used by `controlplane.audit.trails` and whoever copies
checkpoints to a second place.
"""

import json
from dataclasses import dataclass

from schemas.kits import chains
from schemas.kits.chains import Statement, UnreadableError
from schemas.kits.signatures import Signer, TrustedKeys


@dataclass(frozen=True, slots=True)
class Sealed:
    """A statement with its signature, as it is kept."""

    said: str
    kid: str
    sig: str

    def encode(self) -> bytes:
        """As it travels."""
        return json.dumps({"said": self.said, "kid": self.kid, "sig": self.sig}, sort_keys=True).encode()


def decode(data: bytes) -> Sealed:
    """A sealed statement as it came; UnreadableError."""
    try:
        found = json.loads(data)
        return Sealed(str(found["said"]), str(found["kid"]), str(found["sig"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreadableError("it is no checkpoint") from error


class Seals:
    """Tells what was signed."""

    def __init__(self, trusted: TrustedKeys) -> None:
        """``trusted``: whose checkpoints are believed."""
        self._trusted = trusted

    def opened(self, sealed: Sealed) -> Statement | None:
        """What was signed; None if the signature is not to be believed."""
        try:
            statement = chains.statement(sealed.said)
        except UnreadableError:
            return None
        if statement.said().decode() != sealed.said:
            return None
        refusal = self._trusted.refusal(statement.signed_bytes(), sealed.kid, sealed.sig)
        return statement if refusal is None else None


class Sealer(Seals):
    """Signs, and tells what was signed."""

    def __init__(self, signer: Signer, trusted: TrustedKeys) -> None:
        """``trusted``: whose checkpoints are believed beside our own."""
        super().__init__(trusted)
        self._signer = signer

    def seal(self, statement: Statement) -> Sealed:
        """The statement, signed."""
        return Sealed(statement.said().decode(), self._signer.kid, self._signer.sign(statement.signed_bytes()))
