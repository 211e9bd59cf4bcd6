"""Which keys may verify: strong ones of the right type, from a set that is believed as a whole."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from schemas.kits.tokens import keys
from schemas.kits.tokens.keys import Algorithm, KeysRefused
from tests.doubles import issuers
from tests.doubles.issuers import b64, jwks, public_jwk

RS = Algorithm.RS256
GOOD = public_jwk("RS256", "good")


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
def test_a_good_key_is_taken_by_its_id(algorithm: str) -> None:
    found = keys.read_set(jwks(public_jwk(algorithm, "a")), Algorithm(algorithm))
    key = found.find("a")
    assert key is not None
    assert key.kid == "a"
    assert found.find("b") is None
    assert found.find(None) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"use": "enc"}, "not for signatures"),
        ({"key_ops": ["encrypt"]}, "not for verifying"),
        ({"key_ops": "verify"}, "not for verifying"),
        ({"alg": "RS512"}, "not for RS256"),
        ({"alg": "HS256"}, "not for RS256"),
        ({"kty": "EC"}, "not an RSA key"),
        ({"kid": ""}, "no id"),
        ({"kid": None}, "no id"),
        ({"kid": 7}, "no id"),
        ({"kid": "x" * 257}, "no id"),
        ({"n": GOOD["n"] + "="}, "base64url"),
        ({"n": 5}, "missing"),
        ({"e": "Aw"}, "weak"),
        ({"n": b64((issuers.rsa_key("one").public_key().public_numbers().n * 2).to_bytes(257))}, "2049 bits|weak"),
    ],
)
def test_a_key_that_is_not_for_this_is_left_out(change: dict[str, Any], why: str) -> None:
    found = keys.read_set(jwks(GOOD, {**GOOD, "kid": "other", **change}), RS)
    assert set(found.keys) == {"good"}
    (told,) = found.left_out
    assert any(word in told for word in why.split("|"))


def test_a_short_key_is_left_out() -> None:
    numbers = issuers.rsa_key("short", 1024).public_key().public_numbers()
    short = {"kty": "RSA", "kid": "short", "n": b64(numbers.n.to_bytes(128)), "e": "AQAB"}
    assert set(keys.read_set(jwks(GOOD, short), RS).keys) == {"good"}
    with pytest.raises(KeysRefused, match=r"no key for RS256.*1024 bits"):
        keys.read_set(jwks(short), RS)


def test_a_key_with_the_roca_fingerprint_is_left_out() -> None:
    primes = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157]
    product = 1
    for prime in primes:
        product *= prime
    modulus = 1 + product * 2 * ((1 << 2047) // (product * 2) + 1)
    assert modulus.bit_length() == 2048
    weak = {"kty": "RSA", "kid": "roca", "n": b64(modulus.to_bytes(256)), "e": "AQAB"}
    found = keys.read_set(jwks(GOOD, weak), RS)
    assert "ROCA" in found.left_out[0]


@pytest.mark.parametrize(
    "change",
    [
        {"crv": "P-384"},
        {"kty": "OKP"},
        {"x": "AA"},
        {"x": b64(bytes(32))},
        {"y": b64(b"\x01" * 33)},
        {"crv": "secp256k1"},
    ],
)
def test_a_point_that_is_not_on_the_curve_is_left_out(change: dict[str, str]) -> None:
    good = public_jwk("ES256", "good")
    assert set(keys.read_set(jwks(good, {**good, "kid": "bad", **change}), Algorithm.ES256).keys) == {"good"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no JWK Set"), (b"[]", "no JWK Set"), (b'{"keys":{}}', "not a list"), (b'{"keys":[1]}', "not a list"),
        (b"{}", "no JWK Set"), (jwks(), "empty"), (b'{"keys":[],"keys":[]}', "twice"),
        (jwks(GOOD, {**GOOD, "n": "AQAB"}), "two keys have the id 'good'"),
        (jwks(GOOD, {"kty": "oct", "kid": "s", "k": b64(issuers.SECRET)}), "secret key"),
        (jwks(GOOD, {**GOOD, "kid": "p", "d": "AQAB"}), "secret key"),
        (jwks(GOOD, {**GOOD, "kid": keys.DEVELOPMENT_KID + "1"}), "development key"),
        (jwks(*({**GOOD, "kid": f"k{n}"} for n in range(101))), "100 keys"),
        (b" " * 300_000, "262144 bytes"),
    ],
)  # fmt: skip
def test_a_set_that_is_not_believed_is_refused_whole(raw: bytes, why: str) -> None:
    with pytest.raises(KeysRefused, match=why):
        keys.read_set(raw, RS)


def test_a_symmetric_algorithm_takes_no_set() -> None:
    with pytest.raises(KeysRefused):
        keys.read_set(jwks(GOOD), Algorithm.HS256)


def test_two_sets_are_the_same_when_the_keys_are() -> None:
    one = keys.read_set(jwks(GOOD), RS)
    assert one.same(keys.read_set(json.dumps({"keys": [{**GOOD, "x5t": "abc"}]}).encode(), RS))
    assert not one.same(keys.read_set(jwks(public_jwk("RS256", "good", "two")), RS))


@pytest.mark.parametrize("algorithm", [Algorithm.HS256, Algorithm.HS384, Algorithm.HS512])
def test_a_strong_secret_is_taken(algorithm: Algorithm) -> None:
    assert keys.of_secret(issuers.SECRET, algorithm).find(None) is not None


def public_key(encoding: serialization.Encoding, kind: serialization.PublicFormat) -> bytes:
    return issuers.rsa_key("one").public_key().public_bytes(encoding, kind)


@pytest.mark.parametrize(
    "secret",
    [
        b"", b"x", b"short but long enough?"[:22], b"a" * 64, b"ab" * 32,
        public_key(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public_key(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        public_key(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        json.dumps(GOOD).encode(),
    ],
)  # fmt: skip
def test_a_weak_secret_or_a_public_key_is_refused(secret: bytes) -> None:
    with pytest.raises(KeysRefused):
        keys.of_secret(secret, Algorithm.HS256)


def test_a_secret_is_not_for_public_keys() -> None:
    with pytest.raises(KeysRefused):
        keys.of_secret(issuers.SECRET, RS)
