"""Tokens for trying things out: a key that `modplane up` makes on first start, and what `modplane token create` signs.

The private key lies in ``DATA_DIR/auth``, readable by its owner alone; beside it is the public set that workers read.
Nobody believes it but a process that a living `modplane up` started on the same folder.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk, jws

from schemas.kits.tokens import encoding, keys
from schemas.kits.tokens.keys import Algorithm

ISSUER: Final = "urn:modplane:development"
AUDIENCE: Final = "modplane"
ALGORITHM: Final = Algorithm.ES256
LOCK: Final = "up.lock"
"""The file of a data folder that a living `modplane up` holds."""
_FOLDER: Final = "auth"
_PRIVATE: Final = "development.pem"
_PUBLIC: Final = "development.jwks.json"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token is for."""

    subject: str
    organisation: str | None = None
    roles: Collection[str] = ()
    permissions: Collection[str] = ()


def key_set(data_dir: Path) -> Path:
    """The public set of a data folder."""
    return data_dir / _FOLDER / _PUBLIC


def private_key(data_dir: Path) -> Path:
    """The private key of a data folder."""
    return data_dir / _FOLDER / _PRIVATE


def is_held(data_dir: Path) -> bool:
    """Whether a living `modplane up` holds the data folder."""
    try:
        lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def ensure(data_dir: Path) -> None:
    """Make the key of a data folder unless it has a good one; OSError if it cannot be written."""
    (data_dir / _FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError, ValueError):
        _write(key_set(data_dir), json.dumps({"keys": [_public(_load(data_dir))]}).encode(), 0o644)
        return
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(private_key(data_dir), pem, 0o600)
    _write(key_set(data_dir), json.dumps({"keys": [_public(key)]}).encode(), 0o644)


def sign(data_dir: Path, caller: Caller, *, now: float, seconds: float) -> str:
    """A token for ``caller``, valid from ``now`` for so many seconds; OSError or ValueError if there is no good key."""
    key = _load(data_dir)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": caller.subject,
        "iat": int(now),
        "exp": int(now + seconds),
        "jti": secrets.token_hex(16),
    }
    if caller.organisation:
        claims["org"] = caller.organisation
    claims |= {"roles": sorted(set(caller.roles)), "permissions": sorted(set(caller.permissions))}
    ready = jwk.construct(key, ALGORITHM.value)
    token: str = jws.sign(claims, ready, headers={"kid": _kid(key), "typ": "at+jwt"}, algorithm=ALGORITHM.value)
    return token


def _load(data_dir: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(private_key(data_dir).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"{private_key(data_dir)} is no key of the curve P-256")
    return key


def _kid(key: ec.EllipticCurvePrivateKey) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return keys.DEVELOPMENT_KID + digest.finalize().hex()[:16]


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    coordinates = {axis: encoding.encoded(getattr(numbers, axis).to_bytes(32)) for axis in ("x", "y")}
    return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": ALGORITHM.value, "kid": _kid(key), **coordinates}


def _write(path: Path, raw: bytes, mode: int) -> None:
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(mode)
    part.replace(path)
