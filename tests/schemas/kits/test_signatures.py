"""Who signed is decided by the reader's own file, and every bit of the message counts."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.kits.signatures import KeyUnusableError, Signer, TrustedKeys
from tests.doubles.keys import SIGNER, STRANGER, TRUSTED


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing-key.pem"
    first = Signer.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.open(path).jwk == first.jwk
    assert [each.name for each in path.parent.iterdir()] == ["signing-key.pem"]


def test_the_thumbprint_is_that_of_the_specification() -> None:
    """RFC 8037, appendix A.3."""
    folder_key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    path = TRUSTED.path.with_name("rfc8037.json")
    path.write_text(json.dumps({"keys": [folder_key]}))
    trusted = TrustedKeys(path)
    refusal = trusted.refusal(b"x", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "AAAA")
    assert refusal is not None
    assert "altered" in refusal


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(b"nonsense", 0o600, "no PEM file"), (b"", 0o600, "no PEM file"), (None, 0o640, "chmod 600")],
)
def test_a_key_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    path = tmp_path / "signing-key.pem"
    Signer.open(path)
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(KeyUnusableError, match=said):
        Signer.open(path)


def test_a_signature_of_a_trusted_key_is_believed() -> None:
    assert TRUSTED.refusal(b"words", SIGNER.kid, SIGNER.sign(b"words")) is None


@given(message=st.binary(max_size=64), other=st.binary(max_size=64), flipped=st.integers(0, 511))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_nothing_else_is(message: bytes, other: bytes, flipped: int) -> None:
    signature = SIGNER.sign(message)
    if other != message:
        assert TRUSTED.refusal(other, SIGNER.kid, signature) is not None
    assert TRUSTED.refusal(message, SIGNER.kid, STRANGER.sign(message)) is not None
    assert TRUSTED.refusal(message, STRANGER.kid, STRANGER.sign(message)) is not None
    position, bit = divmod(flipped, 8)
    letters = bytearray(signature.encode())
    letters[position % len(letters)] ^= 1 << bit
    assert TRUSTED.refusal(message, SIGNER.kid, letters.decode("latin-1")) is not None


@pytest.mark.parametrize("signature", [None, "", "====", "ä", "A" * 85, "A" * 5000])
def test_what_is_no_signature_is_refused_with_a_word(signature: str | None) -> None:
    assert TRUSTED.refusal(b"words", SIGNER.kid, signature)


def test_padding_makes_another_spelling_and_is_refused() -> None:
    assert TRUSTED.refusal(b"words", SIGNER.kid, SIGNER.sign(b"words") + "==")


def test_a_key_that_is_added_later_counts_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "trusted-keys.json"
    reader = TrustedKeys(path)
    signature = SIGNER.sign(b"words")
    assert str(path) in str(reader.refusal(b"words", SIGNER.kid, signature))
    writer = TrustedKeys(path)
    writer.add(STRANGER.jwk)
    assert reader.refusal(b"words", SIGNER.kid, signature) is not None
    writer.add(SIGNER.jwk)
    writer.add(SIGNER.jwk)
    assert reader.refusal(b"words", SIGNER.kid, signature) is None
    assert len(json.loads(path.read_text())["keys"]) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": 7}',
        b'{"keys": [7, {}, {"kty": "OKP", "crv": "Ed25519", "x": "AA"}, {"kty": "RSA", "n": "AQAB"}]}',
        b"[" * 100_000,
    ],
)
def test_a_trust_file_of_nonsense_trusts_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trusted-keys.json"
    path.write_bytes(content)
    assert TrustedKeys(path).refusal(b"words", SIGNER.kid, SIGNER.sign(b"words")) is not None


def test_a_key_under_a_false_name_is_known_by_its_own() -> None:
    path = TRUSTED.path.with_name("named.json")
    path.write_text(json.dumps({"keys": [STRANGER.jwk | {"kid": SIGNER.kid}]}))
    os.utime(path)
    assert TrustedKeys(path).refusal(b"words", SIGNER.kid, STRANGER.sign(b"words")) is not None
