"""Issuers of tokens for tests: real keys, made once per process, and tokens of any shape, also wrong ones."""

import base64
import functools
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from schemas.kits.tokens import keys, sources
from schemas.kits.tokens.claims import Expectation
from schemas.kits.tokens.keys import Algorithm
from schemas.kits.tokens.verifying import Issuer, Verifier

ISSUER = "https://issuer.example/"
AUDIENCE = "modplane"
HASHES: dict[str, type[Any]] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"ES256": ("P-256", ec.SECP256R1), "ES384": ("P-384", ec.SECP384R1), "ES512": ("P-521", ec.SECP521R1)}
SECRET = bytes(range(64))


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One RSA key per name and size."""
    return rsa.generate_private_key(65_537, bits)


@functools.cache
def ec_key(algorithm: str, name: str = "one") -> ec.EllipticCurvePrivateKey:
    """One key per name on the algorithm's curve."""
    return ec.generate_private_key(CURVES[algorithm][1]())


def private(algorithm: str, name: str = "one") -> Any:
    """The key that signs."""
    if algorithm.startswith("HS"):
        return SECRET
    return rsa_key(name) if algorithm.startswith("RS") else ec_key(algorithm, name)


def public_jwk(algorithm: str, kid: str, name: str = "one", **more: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    numbers = private(algorithm, name).public_key().public_numbers()
    if algorithm.startswith("RS"):
        parts = {"kty": "RSA", "n": b64(numbers.n.to_bytes(256)), "e": b64(numbers.e.to_bytes(3))}
    else:
        size = (CURVES[algorithm][1]().key_size + 7) // 8
        parts = {"kty": "EC", "crv": CURVES[algorithm][0]}
        parts |= {"x": b64(numbers.x.to_bytes(size)), "y": b64(numbers.y.to_bytes(size))}
    return {**parts, "kid": kid, "use": "sig", "alg": algorithm, **more}


def jwks(*found: Mapping[str, Any]) -> bytes:
    """A JWK Set."""
    return json.dumps({"keys": list(found)}).encode()


def signature(algorithm: str, key: Any, message: bytes) -> bytes:
    """What a JWS of that algorithm carries."""
    digest = HASHES[algorithm[2:]]()
    if algorithm.startswith("HS"):
        mac = hmac.HMAC(key, digest)
        mac.update(message)
        return mac.finalize()
    if algorithm.startswith("RS"):
        signed: bytes = key.sign(message, padding.PKCS1v15(), digest)
        return signed
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(size) + s.to_bytes(size)


def claims(now: float | None = None, **more: Any) -> dict[str, Any]:
    """Good claims; a value of None leaves one out."""
    at = int(time.time() if now is None else now)
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": at, "exp": at + 600, **more}
    return {name: value for name, value in found.items() if value is not None}


def token(
    payload: Mapping[str, Any] | bytes | None = None,
    *,
    algorithm: str = "RS256",
    name: str = "one",
    kid: str | None = "k1",
    header: Mapping[str, Any] | bytes | None = None,
    key: Any = None,
) -> str:
    """A signed token; ``header`` and ``payload`` as bytes go in as they are."""
    if not isinstance(header, bytes):
        usual = {"alg": algorithm, "typ": "JWT", **({} if kid is None else {"kid": kid}), **(header or {})}
        header = json.dumps(usual).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(claims() if payload is None else payload).encode()
    message = f"{b64(header)}.{b64(body)}".encode()
    return f"{message.decode()}.{b64(signature(algorithm, key or private(algorithm, name), message))}"


def expectation(**more: Any) -> Expectation:
    """What tokens of `ISSUER` have to say."""
    usual: dict[str, Any] = {
        "issuer": ISSUER, "audience": AUDIENCE, "leeway": 10.0, "longest": 86_400.0,
        "organisation": "org", "roles": "roles", "permissions": "permissions",
    }  # fmt: skip
    return Expectation(**(usual | more))


def issuer(algorithm: str = "RS256", kid: str = "k1", name: str = "one", **more: Any) -> Issuer:
    """An issuer with one key."""
    wanted = Algorithm(algorithm)
    if wanted.symmetric:
        found = keys.of_secret(SECRET, wanted)
    else:
        found = keys.read_set(jwks(public_jwk(algorithm, kid, name)), wanted)
    return Issuer(expectation(**more), wanted, sources.FixedKeys(found))


def verifier(*issuers: Issuer) -> Verifier:
    """A verifier of those issuers, or of one that signs RS256."""
    return Verifier(issuers or (issuer(),))
