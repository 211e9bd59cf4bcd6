"""Signatures under what must not be forged on its way: Ed25519 (RFC 8032), keys as JSON Web Keys (RFC 8037).

A signer's private key is a PEM file (PKCS #8) that only its owner may read, made when it is not there.  What may be
believed is a file with a JSON Web Key Set; a key's id is its thumbprint (RFC 7638), so it cannot name another key.
Always: whoever verifies decides by its own file which keys count; nothing that arrives can add one.
Called by both planes; knows nothing of what is signed.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST: Final = 1 << 20


class KeyUnusableError(Exception):
    """A key file cannot be used; the message says why and what to do."""


class Signer:
    """One private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.jwk = _jwk(key.public_key())
        """The public half, as a JSON Web Key."""
        self.kid: str = self.jwk["kid"]

    @classmethod
    def open(cls, path: Path) -> "Signer":
        """The key in ``path``, made if there is none; KeyUnusableError."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls._made(path)
        except OSError as error:
            raise KeyUnusableError(f"the signing key {path} cannot be read: {error.strerror}") from error
        if path.stat().st_mode & 0o077:
            raise KeyUnusableError(f"the signing key {path} may be read by others; chmod 600 {path}")
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise KeyUnusableError(f"{path} is no PEM file with an Ed25519 private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusableError(f"{path} holds another kind of key; an Ed25519 key is needed")
        return cls(key)

    @classmethod
    def _made(cls, path: Path) -> "Signer":
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        place(path, pem, 0o600)
        return cls.open(path)

    def sign(self, message: bytes) -> str:
        """The signature as base64url without padding; the same message always gets the same."""
        return _b64(self._key.sign(message))


class TrustedKeys:
    """The keys whose signatures are believed: the JSON Web Key Set in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._keys: Mapping[str, Ed25519PublicKey] = {}

    def refusal(self, message: bytes, kid: str | None, signature: str | None) -> str | None:
        """Why ``signature`` of ``message`` is not to be believed; None when it is."""
        if not kid or not signature:
            return "it is not signed"
        key = self._keys.get(kid)
        if key is None:
            self._read()
            key = self._keys.get(kid)
        if key is None:
            return f"it is signed with key {kid[:64]!r}, which {self.path} does not have"
        try:
            key.verify(_bytes(signature), message)
        except (InvalidSignature, ValueError):
            return f"its signature is not that of key {kid}; it was altered"
        return None

    def add(self, jwk: Mapping[str, str]) -> None:
        """Have the file list this key too; OSError."""
        self._read()
        if jwk["kid"] in self._keys:
            return
        listed = [_jwk(key) for key in self._keys.values()] + [dict(jwk)]
        place(self.path, json.dumps({"keys": listed}, indent=2).encode() + b"\n", 0o644, replace=True)
        self._read()

    def _read(self) -> None:
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp == self._stamp or stat.st_size > _LARGEST:
                return
            self._keys, self._stamp = _keys_of(self.path.read_bytes()), stamp
        except OSError:
            return


def _keys_of(data: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JSON Web Key Set by thumbprint; what is no such key is left out."""
    found: dict[str, Ed25519PublicKey] = {}
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        for entry in json.loads(data)["keys"]:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                if (entry["kty"], entry["crv"]) == ("OKP", "Ed25519"):
                    key = Ed25519PublicKey.from_public_bytes(_bytes(entry["x"]))
                    found[_jwk(key)["kid"]] = key
    return found


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    x = _b64(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
    required = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": _b64(hashlib.sha256(required.encode()).digest())}


def place(path: Path, data: bytes, mode: int, *, replace: bool = False) -> None:
    """Put a file in place whole; without ``replace``, leave the one that was quicker."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        fresh.replace(path)
        return
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """ValueError unless ``text`` is base64url in its one spelling."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _b64(data) != text:
        raise ValueError("not base64url without padding")
    return data
