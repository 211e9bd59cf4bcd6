"""A signing key that every test knows, and workers' trust in it."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import names
from schemas.documents import DesiredDocument, Head
from schemas.kits.signatures import Signer, TrustedKeys

Signed = TypeVar("Signed", DesiredDocument, Head)

SIGNER: Final = Signer(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
STRANGER: Final = Signer(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
"""Whom nobody trusts."""


def trusting(folder: Path) -> TrustedKeys:
    """The trust of a data folder in the signer."""
    trusted = TrustedKeys(folder / names.TRUSTED_KEYS)
    trusted.add(SIGNER.jwk)
    return trusted


def signed(said: Signed, signer: Signer = SIGNER) -> Signed:
    """What was said, with its signature."""
    return said.model_copy(update={"kid": signer.kid, "sig": signer.sign(said.signed_bytes())})


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="modplane-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


TRUSTED: Final = trusting(_folder())
"""The same trust, for what needs no folder."""
