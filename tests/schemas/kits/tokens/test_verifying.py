"""Attacks on tokens that never get past the box, each with the reason that only the audit trail hears.

Sources: RFC 8725; CVE-2015-9235 and CVE-2016-10555 (algorithm confusion), CVE-2024-33663 (keys as secrets),
CVE-2018-0114 (``jwk`` in the header), CVE-2022-21449 (empty signatures); what python-jose 3.5 lets through.
"""

import ast
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from jose import jwk, jws

from schemas.kits.tokens import keys, sources
from schemas.kits.tokens.keys import Algorithm, VerifyingKey
from schemas.kits.tokens.refusing import Reason, TokenRefused
from schemas.kits.tokens.verifying import Issuer, Verifier
from tests.doubles import issuers
from tests.doubles.issuers import ISSUER, b64, claims, private, public_jwk, token
from tests.doubles.polling import until

ROOT = Path(__file__).resolve().parents[4]
NAMES = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


async def refused(text: str | bytes, box: Verifier | None = None) -> Reason:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(TokenRefused) as caught:
        await (box or issuers.verifier()).verify(raw, time.time())
    return caught.value.reason


async def subject(text: str, box: Verifier | None = None) -> str:
    proof = await (box or issuers.verifier()).verify(text.encode(), time.time())
    return proof.verified.principal.subject


@pytest.mark.parametrize("algorithm", NAMES)
async def test_a_good_token_is_believed(algorithm: str) -> None:
    box = issuers.verifier(issuers.issuer(algorithm))
    assert await subject(token(algorithm=algorithm), box) == "ada"
    assert await refused(token(algorithm=algorithm, name="two"), box) is Reason.SIGNATURE


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_shared_secret_works_when_it_was_configured(algorithm: str) -> None:
    box = issuers.verifier(issuers.issuer(algorithm))
    assert await subject(token(algorithm=algorithm, kid=None), box) == "ada"
    assert (
        await refused(token(algorithm=algorithm, kid=None, key=b"another secret of many bytes...."), box)
        is Reason.SIGNATURE
    )
    assert await refused(token(algorithm=algorithm, kid="k1"), box) is Reason.KEY
    assert await refused(token(), box) is Reason.ALGORITHM


@pytest.mark.parametrize("name", ["none", "NONE", "nOnE", "None", "RS384", "rs256", "HS256", "PS256", "ES256", "EdDSA",
                                  "RS256 ", "dir", "RSA-OAEP", "A256GCM"])  # fmt: skip
async def test_the_token_does_not_choose_the_algorithm(name: str) -> None:
    assert await refused(token(header={"alg": name})) is Reason.ALGORITHM


@pytest.mark.parametrize("value", ["", 256, None, ["RS256"], {"RS256": 1}, True])
async def test_an_algorithm_is_a_word(value: object) -> None:
    assert await refused(token(header={"alg": value})) is Reason.HEADER


async def test_no_algorithm_is_none() -> None:
    head = json.dumps({"typ": "JWT", "kid": "k1"}).encode()
    assert await refused(token(header=head)) is Reason.ALGORITHM
    body = b64(json.dumps(claims()).encode())
    for name in ("none", "None", ""):
        head = json.dumps({"alg": name, "kid": "k1"}).encode()
        assert await refused(f"{b64(head)}.{body}.") is Reason.MALFORMED


def public_forms() -> list[bytes]:
    key = private("RS256").public_key()
    spki, encoding = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding
    return [
        key.public_bytes(encoding.PEM, spki),
        key.public_bytes(encoding.PEM, spki).strip(),
        key.public_bytes(encoding.PEM, serialization.PublicFormat.PKCS1),
        key.public_bytes(encoding.DER, spki),
        key.public_bytes(encoding.DER, serialization.PublicFormat.PKCS1),
        key.public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        json.dumps(public_jwk("RS256", "k1")).encode(),
        b64(key.public_numbers().n.to_bytes(256)).encode(),
        key.public_numbers().n.to_bytes(256),
    ]


@pytest.mark.parametrize("form", range(9))
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_public_key_is_not_a_secret(form: int, algorithm: str) -> None:
    forged = token(algorithm=algorithm, key=public_forms()[form])
    assert await refused(forged) is Reason.ALGORITHM
    lying = token(algorithm=algorithm, key=public_forms()[form], header={"alg": "RS256"})
    assert await refused(lying) is Reason.SIGNATURE


@pytest.mark.parametrize(
    "member",
    [
        {"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil"},
        {"jwk": public_jwk("RS256", "k1", "two")}, {"x5c": ["AAAA"]}, {"zip": "DEF"}, {"enc": "A256GCM"},
        {"cty": "JWT"},
        {"epk": {}}, {"url": "https://evil.example"}, {"nonce": "x"}, {"exp": 1}, {"x5t": 7}, {"typ": 7}, {"typ": ""},
    ],
)  # fmt: skip
async def test_no_other_member_stands_in_the_header(member: dict[str, Any]) -> None:
    assert await refused(token(header=member)) is Reason.HEADER
    assert await refused(token(header=member, name="two")) is Reason.HEADER


async def test_a_thumbprint_beside_the_id_does_no_harm() -> None:
    assert await subject(token(header={"x5t": "abc", "x5t#S256": "abc"})) == "ada"


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt"])
async def test_types_that_are_taken(kind: str) -> None:
    assert await subject(token(header={"typ": kind})) == "ada"


@pytest.mark.parametrize("kind", ["dpop+jwt", "JWE", "logout+jwt", "JOSE", "at+jwt;x"])
async def test_types_that_are_not(kind: str) -> None:
    assert await refused(token(header={"typ": kind})) is Reason.TYPE


async def test_a_type_may_be_asked_for() -> None:
    usual = issuers.issuer()
    box = Verifier([Issuer(usual.expected, usual.algorithm, usual.keys, frozenset({"at+jwt"}))])
    assert await refused(token(), box) is Reason.TYPE
    assert await subject(token(header={"typ": "at+jwt"}), box) == "ada"


@pytest.mark.parametrize("kid", ["k2", "K1", "k1 ", "../../dev/null", "k1' OR '1'='1", "/proc/self/environ", "k1\x00",
                                 "https://evil.example/key", "k" * 256])  # fmt: skip
async def test_an_unknown_key_id_is_no_key(kid: str) -> None:
    assert await refused(token(kid=kid)) is Reason.KEY


@pytest.mark.parametrize("kid", ["", 7, ["k1"], {"k1": 1}, "k" * 257, None, True])
async def test_a_key_id_is_a_word(kid: object) -> None:
    assert await refused(token(header={"kid": kid})) is Reason.HEADER


async def test_a_key_id_is_needed() -> None:
    assert await refused(token(kid=None)) is Reason.KEY


async def test_a_key_of_one_issuer_is_none_of_another() -> None:
    other = Issuer(
        issuers.expectation(issuer="https://other.example/"),
        Algorithm.RS256,
        sources.FixedKeys(keys.read_set(issuers.jwks(public_jwk("RS256", "k2", "two")), Algorithm.RS256)),
    )
    box = Verifier([issuers.issuer(), other])
    assert await subject(token(), box) == "ada"
    assert await subject(token(claims(iss="https://other.example/"), kid="k2", name="two"), box) == "ada"
    assert await refused(token(claims(iss="https://other.example/")), box) is Reason.KEY
    assert await refused(token(kid="k2", name="two"), box) is Reason.KEY
    assert await refused(token(claims(iss="https://third.example/")), box) is Reason.ISSUER
    assert await refused(token(claims(iss=["https://other.example/"])), box) is Reason.ISSUER
    assert await refused(token(claims(iss=None)), box) is Reason.ISSUER


@pytest.mark.parametrize("raw", [
    b'{"iss":"https://issuer.example/","aud":"modplane","sub":"ada","sub":"eve","iat":1,"exp":2}',
    b"[]", b'"text"', b"null", b"", b"{", b'{"exp":1e400}', b'{"exp":NaN}', b'{"sub":"\xff"}', b"\xff\xfe",
    b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}", b'{"sub":"\\ud800"}',
])  # fmt: skip
async def test_a_body_is_one_json_object_in_one_spelling(raw: bytes) -> None:
    assert await refused(token(raw)) is Reason.MALFORMED


@pytest.mark.parametrize("raw", [b'{"alg":"RS256","kid":"k1","alg":"none"}', b"[]", b"{", b'{"alg":"RS256"}{}',
                                 b"[" * 4000 + b"]" * 4000, b'{"alg":' + b"[" * 2500 + b"]" * 2500 + b"}"])  # fmt: skip
async def test_a_header_is_one_json_object_in_one_spelling(raw: bytes) -> None:
    assert await refused(token(header=raw)) in {Reason.MALFORMED, Reason.TOO_LARGE}


def variants(good: str) -> list[str]:
    head, body, mark = good.split(".")
    return [
        f"{good}=", f"{good}==", f"{head}=.{body}.{mark}", f"{head}.{body}==.{mark}", f" {good}", f"{good} ",
        f"{good}\n",
        f"{head} .{body}.{mark}", f"{head}.{body}. {mark}", f"{head}.{body}.{mark[:10]}\t{mark[10:]}", f"{good}.",
        f".{good}", f"{head}..{body}.{mark}", f"{head}.{body}.{mark}.{mark}", f"{head}.{body}.{mark}.x.y", head,
        f"{head}.{body}", f"{head}.{body}.", f".{body}.{mark}", "..", "", f"{head}.{body}.{mark}\x00", f"%20{good}",
        f"{head}.{body}.{mark}#", good.replace("-", "+").replace("_", "/") + "/", good.replace(".", "%2E"), f'"{good}"',
        json.dumps({"payload": body, "protected": head, "signature": mark}), f"{head}.{body}.{mark}Ä",
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(29))
async def test_one_token_has_one_spelling(number: int) -> None:
    assert await refused(variants(token())[number]) is Reason.MALFORMED


async def test_unused_bits_are_zero() -> None:
    """A last character that decodes to the same bytes would be the same token in another spelling."""
    good = token(algorithm="HS256", kid=None)
    box = issuers.verifier(issuers.issuer("HS256"))
    assert await subject(good, box) == "ada"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [good[:-1] + each for each in alphabet if each != good[-1]]
    reasons = {await refused(each, box) for each in others}
    assert reasons == {Reason.MALFORMED, Reason.SIGNATURE}


async def test_a_token_has_8_kib_at_most() -> None:
    room = 8_192 - len(token(claims(x="")))
    assert await subject(token(claims(x="y" * (room * 3 // 4 - 4)))) == "ada"
    assert await refused(token(claims(x="y" * room))) is Reason.TOO_LARGE
    assert await refused(b"x" * 5_000_000) is Reason.TOO_LARGE


@pytest.mark.parametrize("cut", [0, 1, 32, 64, 255])
async def test_a_signature_is_whole(cut: int) -> None:
    head, body, mark = token().split(".")
    raw = b64(b"\x00" * cut) or "AA"
    assert await refused(f"{head}.{body}.{raw}") is Reason.SIGNATURE
    assert await refused(f"{head}.{body}.{mark}AAAA") is Reason.SIGNATURE


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
async def test_an_elliptic_signature_of_zeroes_or_in_der_is_none(algorithm: str) -> None:
    box = issuers.verifier(issuers.issuer(algorithm))
    head, body, mark = token(algorithm=algorithm).split(".")
    size = len(mark) * 3 // 4
    for raw in (bytes(size), bytes(size - 1) + b"\x01", b"\xff" * size, b"\x30\x06\x02\x01\x01\x02\x01\x01"):
        assert await refused(f"{head}.{body}.{b64(raw)}", box) is Reason.SIGNATURE


async def test_what_python_jose_lets_through_is_refused_here() -> None:
    """Each of these passes the library alone: why it stands in a box."""
    ready = jwk.construct(private("RS256").public_key(), "RS256")
    for text in (
        token(header={"crit": ["x"], "x": 1}),
        token(header={"b64": False}),
        f"{token()}==",
        token(kid="other"),
    ):
        assert jws.verify(text, ready, ["RS256"])
        await refused(text)


async def test_a_proof_holds_while_the_issuer_has_the_key() -> None:
    keeping = issuers.issuer()
    box = Verifier([keeping])
    proof = await box.verify(token().encode(), time.time())
    assert proof.holds
    assert isinstance(keeping.keys, sources.FixedKeys)
    keeping.keys._keys = keys.read_set(issuers.jwks(public_jwk("RS256", "k1", "two")), Algorithm.RS256)
    assert not proof.holds
    keeping.keys._keys = keys.KeySet()
    assert not proof.holds
    assert (box.verified, box.refused) == (1, 0)
    assert box.wire()["issuers"][0]["issuer"] == ISSUER


async def test_good_tokens_do_not_wait_for_a_key_that_somebody_else_makes_us_seek() -> None:
    found, seeking = asyncio.Event(), list[str | None]()

    class Seeking(sources.FixedKeys):
        async def seek(self, kid: str | None) -> VerifyingKey | None:
            seeking.append(kid)
            await found.wait()
            return None

    usual = issuers.issuer()
    assert isinstance(usual.keys, sources.FixedKeys)
    box = Verifier([Issuer(usual.expected, usual.algorithm, Seeking(usual.keys._keys))])
    unknown = [asyncio.create_task(refused(token(kid=f"r{number}"), box)) for number in range(10)]
    await until(lambda: len(seeking) == 10)
    for _ in range(3):
        assert await subject(token(), box) == "ada"
    assert not any(task.done() for task in unknown)
    found.set()
    assert await asyncio.gather(*unknown) == [Reason.KEY] * 10


async def test_an_error_inside_is_a_refusal_like_any_other() -> None:
    class Broken(sources.FixedKeys):
        def find(self, kid: str | None) -> Any:
            raise RecursionError("of a library")

    usual = issuers.issuer()
    box = Verifier([Issuer(usual.expected, usual.algorithm, Broken(keys.KeySet()))])
    assert await refused(token(), box) is Reason.MALFORMED
    assert box.refused == 1


def test_only_the_box_imports_python_jose_and_never_its_encryption() -> None:
    found = set()
    for room in ("schemas", "controlplane", "dataplane"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                words = {f"{module}.{name}".strip(".") for name in names}
                if any(word.split(".")[0] == "jose" for word in words):
                    found.add(file.relative_to(ROOT).parent.as_posix())
                assert not any(word.startswith("jose.jwe") for word in words), file
    assert found == {"schemas/kits/tokens"}
    code = "import sys; from schemas.kits.tokens import issuing; sys.exit('jose.jwe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
