"""Mutated tokens before three readers: nothing that we accept is refused by joserfc or PyJWT.

What they accept and we refuse is ours to refuse.  Both are set to what an operator would ask of them: the issuer's key
and algorithm, audience and issuer, the required claims, the same leeway.
"""

import asyncio
import json
import time
import warnings
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt as rfc
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

from schemas.kits.tokens.refusing import TokenRefused
from tests.doubles import issuers
from tests.doubles.issuers import AUDIENCE, ISSUER, b64, claims, private, token

LEEWAY = 10
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512"]
BOXES = {name: issuers.verifier(issuers.issuer(name)) for name in ALGORITHMS}
REGISTRY = rfc.JWTClaimsRegistry(
    leeway=LEEWAY,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
    iat={"essential": True},
)


def ours(text: bytes, algorithm: str) -> bool:
    try:
        asyncio.run(BOXES[algorithm].verify(text, time.time()))
    except TokenRefused:
        return False
    return True


def rfc_key(algorithm: str) -> Any:
    kinds: dict[str, Any] = {"RS": RSAKey, "ES": ECKey, "HS": OctKey}
    return kinds[algorithm[:2]].import_key(private(algorithm))


def joserfc_takes(text: bytes, algorithm: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = rfc.decode(text.decode("latin-1"), rfc_key(algorithm), algorithms=[algorithm])
        REGISTRY.validate(found.claims)
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


def pyjwt_takes(text: bytes, algorithm: str) -> bool:
    key = private(algorithm) if algorithm.startswith("HS") else private(algorithm).public_key()
    try:
        pyjwt.decode(
            text.decode("latin-1"), key, [algorithm], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY,
            options={"require": ["exp", "iat", "aud", "iss", "sub"]},
        )  # fmt: skip
    except (pyjwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def agree(text: bytes, algorithm: str) -> bool:
    """Whether we accept; AssertionError if we do and another does not."""
    if not ours(text, algorithm):
        return False
    assert joserfc_takes(text, algorithm), text
    assert pyjwt_takes(text, algorithm), text
    return True


def kid(algorithm: str) -> str | None:
    return None if algorithm.startswith("HS") else "k1"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_three_accept_a_good_token(algorithm: str) -> None:
    assert agree(token(algorithm=algorithm, kid=kid(algorithm)).encode(), algorithm)


word = st.text(max_size=8)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | st.floats() | word,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(word, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "org", "roles", "scope", "x"])
# far from the moments at which the answer changes: the three readers do not look at the same instant
time_like = st.sampled_from([-700, -300, -60, 0, 60, 300, 700]).map(lambda offset: int(time.time()) + offset) | value
audience = st.sampled_from([AUDIENCE, [AUDIENCE], ["x", AUDIENCE], [], [AUDIENCE, 1], None, {AUDIENCE: 1}])


@settings(max_examples=150)
@given(st.data(), st.sampled_from(ALGORITHMS))
def test_claims_of_any_shape(data: st.DataObject, algorithm: str) -> None:
    changed = claims()
    for name in data.draw(st.lists(names, max_size=3)):
        drawn = time_like if name in {"exp", "nbf", "iat"} else (audience if name == "aud" else value)
        changed[name] = data.draw(drawn)
    agree(token(changed, algorithm=algorithm, kid=kid(algorithm)).encode(), algorithm)


header_names = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "zip", "cty", "x5t", "x"])
header_value = st.sampled_from(["RS256", "none", "HS256", "JWT", "at+jwt", "k1", "k2", "", ["exp"], [], False, 1, {}])


@settings(max_examples=150)
@given(st.dictionaries(header_names, header_value, max_size=3), st.sampled_from(ALGORITHMS))
def test_headers_of_any_shape(header: dict[str, Any], algorithm: str) -> None:
    agree(token(algorithm=algorithm, kid=kid(algorithm), header=header).encode(), algorithm)


@settings(max_examples=200)
@given(st.data(), st.sampled_from(ALGORITHMS))
def test_bytes_of_a_good_token_changed_anywhere(data: st.DataObject, algorithm: str) -> None:
    good = bytearray(token(algorithm=algorithm, kid=kid(algorithm)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(good)))
        kind = data.draw(st.sampled_from(["insert", "delete", "replace", "swap"]))
        byte = data.draw(st.sampled_from(b"ABab019-_.=+/ \n%~\x00\xc4"))
        if kind == "insert":
            good.insert(place, byte)
        elif kind == "delete":
            del good[place : place + data.draw(st.integers(1, 5))]
        elif kind == "replace" and place < len(good):
            good[place] = byte
        elif place + 1 < len(good):
            good[place], good[place + 1] = good[place + 1], good[place]
    agree(bytes(good), algorithm)


texts = st.sampled_from(
    [
        b'{"a":1,"a":2,%s}', b'{%s,"sub":"eve"}', b"{%s}", b" {%s} ", b"{%s}\n", b'{%s,"x":1e400}', b'{%s,"x":NaN}',
        b"[{%s}]",
        b'{%s,"exp":"99999999999"}', b'{%s,"nbf":1.5}', b'{%s,"x":"\\ud800"}', b"\xef\xbb\xbf{%s}", b'{%s,"x":"\xff"}',
        b"{%s}{}",
        b'{%s,"x":0x10}', b"{%s,}", b'{%s,"\\u0073ub":"eve"}', b"{%s}\x00", b'{%s,"x":"\x01"}',
    ]
)  # fmt: skip


@settings(max_examples=150)
@given(texts, texts, st.sampled_from(ALGORITHMS))
def test_json_that_readers_may_read_in_two_ways(head: bytes, body: bytes, algorithm: str) -> None:
    usual: dict[str, Any] = {"alg": algorithm, "typ": "JWT", **({"kid": "k1"} if kid(algorithm) else {})}
    inner = [json.dumps(each)[1:-1].encode() for each in (usual, claims())]
    text = token(body % inner[1], algorithm=algorithm, header=head % inner[0])
    agree(text.encode(), algorithm)


@settings(max_examples=100)
@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=80))
def test_anything_in_three_parts(head: bytes, body: bytes, mark: bytes) -> None:
    assert not agree(f"{b64(head)}.{b64(body)}.{b64(mark)}".encode(), "RS256")


def test_it_would_find_what_we_should_not_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench itself: a reader of ours that took what is expired would be seen."""
    late = token(claims(time.time() - 3_600)).encode()
    monkeypatch.setattr("tests.schemas.kits.tokens.test_differential.ours", lambda text, algorithm: True)
    with pytest.raises(AssertionError):
        agree(late, "RS256")
