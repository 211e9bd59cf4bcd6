"""Keys that may verify: parsed with `cryptography`, checked for type and strength, handed to python-jose ready made.

A set is believed whole or not at all when something is wrong with it as a set: two keys of one id, private or symmetric
keys among public ones, no key that can be used.  A single key of another use, algorithm, type or strength is left out.

Sources: RFC 7517 sections 4 and 5, RFC 7518 sections 3.2, 3.3, 3.4 and 6, RFC 8725 sections 3.2 and 3.5; the ROCA
fingerprint of CVE-2017-15361.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk
from jose.backends.base import Key

from schemas.kits.tokens import encoding
from schemas.kits.tokens.reading import WORD_CHARACTERS

SET_BYTES: Final = 262_144
SET_KEYS: Final = 100
RSA_BITS: Final = range(2_048, 8_193)
_EXPONENT: Final = 65_537
_DISTINCT_BYTES: Final = 10
"""A secret with fewer different bytes was typed, not drawn."""

DEVELOPMENT_KID: Final = "modplane-development-"
"""What the id of a key begins with that `modplane up` made; no other set may hold one."""


class Algorithm(StrEnum):
    """How tokens of an issuer are signed."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    HS256 = "HS256"
    HS384 = "HS384"
    HS512 = "HS512"

    @property
    def symmetric(self) -> bool:
        """Whether who verifies can also sign."""
        return self.value.startswith("HS")


_CURVES: Final[Mapping[Algorithm, tuple[str, type[ec.EllipticCurve], int]]] = {
    Algorithm.ES256: ("P-256", ec.SECP256R1, 32),
    Algorithm.ES384: ("P-384", ec.SECP384R1, 48),
    Algorithm.ES512: ("P-521", ec.SECP521R1, 66),
}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_ROCA: Final[tuple[tuple[int, frozenset[int]], ...]] = tuple(
    (prime, frozenset(pow(_EXPONENT, power, prime) for power in range(prime)))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
)


class KeysRefused(ValueError):  # noqa: N818 - named for what happened, as in the rest of the house
    """A set of keys that is not believed; says why, for operators."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that python-jose verifies with."""

    kid: str | None
    mark: bytes
    """Digest of the key itself."""
    key: Key


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer, by id."""

    keys: Mapping[str | None, VerifyingKey] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """What was not taken, and why."""

    def find(self, kid: str | None) -> VerifyingKey | None:
        """Exactly the key of that id."""
        return self.keys.get(kid)

    def same(self, other: "KeySet") -> bool:
        """Whether both hold the same keys under the same ids."""
        return {kid: key.mark for kid, key in self.keys.items()} == {kid: key.mark for kid, key in other.keys.items()}


def read_set(raw: bytes, algorithm: Algorithm, *, development: bool = False) -> KeySet:
    """The keys of a JWK Set that may verify tokens of ``algorithm``; KeysRefused if the set is not believed."""
    if algorithm.symmetric:
        raise KeysRefused("a symmetric algorithm takes its secret from a file of its own, never from a key set")
    if len(raw) > SET_BYTES:
        raise KeysRefused(f"a key set may have {SET_BYTES} bytes")
    try:
        found = encoding.parsed(raw)["keys"]
    except (ValueError, KeyError) as error:
        raise KeysRefused(f"this is no JWK Set: {error}") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise KeysRefused("this is no JWK Set: 'keys' is not a list of objects")
    _check_whole(found, development=development)
    keys: dict[str | None, VerifyingKey] = {}
    left_out = []
    for each in found:
        try:
            key = _public(each, algorithm)
        except ValueError as error:
            left_out.append(f"{_shown(each.get('kid'))}: {error}")
        else:
            keys[key.kid] = key
    if not keys:
        raise KeysRefused(f"the set has no key for {algorithm}: {'; '.join(left_out) or 'it is empty'}")
    return KeySet(keys, tuple(left_out))


def of_secret(secret: bytes, algorithm: Algorithm) -> KeySet:
    """The one key of a symmetric issuer, which has no id; KeysRefused if it is weak."""
    least = int(algorithm.value[2:]) // 8
    if not algorithm.symmetric:
        raise KeysRefused(f"{algorithm} needs public keys, not a secret")
    if len(secret) < least or len(set(secret)) < _DISTINCT_BYTES:
        raise KeysRefused(f"the secret is weak: {algorithm} needs at least {least} random bytes")
    if b"-----BEGIN" in secret or secret.startswith((b"ssh-", b"ecdsa-", b'{"')) or _is_der(secret):
        raise KeysRefused("the secret looks like a public key, which everybody may have")
    key = jwk.construct({"kty": "oct", "k": encoding.encoded(secret)}, algorithm.value)
    return KeySet({None: VerifyingKey(None, hashlib.sha256(secret).digest(), key)})


def _check_whole(found: list[dict[str, Any]], *, development: bool) -> None:
    if len(found) > SET_KEYS:
        raise KeysRefused(f"a key set may have {SET_KEYS} keys")
    kids = [each["kid"] for each in found if isinstance(each.get("kid"), str)]
    twice = {kid for kid in kids if kids.count(kid) > 1}
    if twice:
        raise KeysRefused(f"two keys have the id {_shown(min(twice))}")
    for each in found:
        if each.get("kty") == "oct" or _PRIVATE & each.keys():
            raise KeysRefused(f"{_shown(each.get('kid'))} is a secret key: it must not stand in a set that is shown")
    if not development and any(kid.startswith(DEVELOPMENT_KID) for kid in kids):
        raise KeysRefused("the set holds the development key of `modplane up`, which only `modplane up` takes")


def _public(value: Mapping[str, Any], algorithm: Algorithm) -> VerifyingKey:
    kid = value.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= WORD_CHARACTERS:
        raise ValueError("it has no id")
    if value.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures")
    operations = value.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not for verifying")
    if value.get("alg", algorithm.value) != algorithm.value:
        raise ValueError(f"it is not for {algorithm}")
    key = _elliptic(value, algorithm) if algorithm in _CURVES else _rsa(value)
    mark = hashlib.sha256(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).digest()
    return VerifyingKey(kid, mark, jwk.construct(key, algorithm.value))


def _rsa(value: Mapping[str, Any]) -> rsa.RSAPublicKey:
    if value.get("kty") != "RSA":
        raise ValueError("it is not an RSA key")
    modulus, exponent = _number(value, "n"), _number(value, "e")
    if modulus.bit_length() not in RSA_BITS:
        raise ValueError(f"it has {modulus.bit_length()} bits; {RSA_BITS.start} are needed")
    if exponent != _EXPONENT or modulus % 2 == 0:
        raise ValueError("its exponent or modulus is weak")
    if all(modulus % prime in residues for prime, residues in _ROCA):
        raise ValueError("it was made by a device with a known weakness (ROCA)")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _elliptic(value: Mapping[str, Any], algorithm: Algorithm) -> ec.EllipticCurvePublicKey:
    name, curve, size = _CURVES[algorithm]
    if value.get("kty") != "EC" or value.get("crv") != name:
        raise ValueError(f"it is not on the curve {name}")
    x, y = _bytes(value, "x"), _bytes(value, "y")
    if len(x) != size or len(y) != size:
        raise ValueError("its coordinates have another length than the curve's")
    return ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve()).public_key()


def _number(value: Mapping[str, Any], member: str) -> int:
    return int.from_bytes(_bytes(value, member))


def _bytes(value: Mapping[str, Any], member: str) -> bytes:
    text = value.get(member)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{member!r} is missing")
    return encoding.decoded(text.encode("utf-8"))


def _is_der(secret: bytes) -> bool:
    try:
        serialization.load_der_public_key(secret)
    except Exception:  # noqa: BLE001 - whatever the parser says: it is none
        return False
    return True


def _shown(kid: object) -> str:
    return ascii(kid if isinstance(kid, str) else str(kid))[:80]
