"""What operators may say about issuers, and what is refused at the start because it is not safe."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.kits.tokens import fetching, issuing, sources
from schemas.kits.tokens.issuing import Ground, SettingsRefused, TokenOptions
from schemas.kits.tokens.verifying import Verifier
from tests.doubles import issuers
from tests.doubles.clock import FakeClock
from tests.doubles.issuers import ISSUER, jwks, public_jwk

GOOD = {"auth_issuer": ISSUER, "auth_audience": "modplane"}


def made(tmp_path: Path, **more: Any) -> Verifier:
    options = TokenOptions(_env_file=None, **more)
    return issuing.verifier(options, Ground(FakeClock(), tmp_path / "kept", tmp_path))


def file_of_keys(tmp_path: Path) -> str:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(public_jwk("RS256", "k1")))
    return str(path)


async def test_without_an_issuer_nobody_is_believed(tmp_path: Path) -> None:
    assert made(tmp_path).issuers == {}


async def test_a_file_of_keys(tmp_path: Path) -> None:
    box = made(tmp_path, **GOOD, auth_jwks_file=file_of_keys(tmp_path), auth_leeway_seconds=3, auth_claim_roles="/r/s")
    issuer = box.issuers[ISSUER]
    assert isinstance(issuer.keys, sources.FileKeys)
    assert (issuer.expected.leeway, issuer.expected.roles) == (3, "/r/s")
    assert issuer.types == {"jwt", "at+jwt"}
    proof = await box.verify(issuers.token().encode(), time.time())
    assert proof.verified.principal.subject == "ada"


def test_an_address_of_keys(tmp_path: Path) -> None:
    box = made(tmp_path, **GOOD, auth_jwks_url="https://issuer.example/keys", auth_types="AT+JWT")
    assert isinstance(box.issuers[ISSUER].keys, fetching.FetchedKeys)
    assert box.issuers[ISSUER].types == {"at+jwt"}


def test_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(issuers.b64(issuers.SECRET).encode() + b"\n")
    box = made(tmp_path, **GOOD, auth_secret_file=path, auth_algorithm="HS256")
    assert isinstance(box.issuers[ISSUER].keys, sources.FixedKeys)


def test_several_issuers(tmp_path: Path) -> None:
    more = [
        {
            "issuer": "https://two.example/",
            "audience": "a",
            "jwksUrl": "https://two.example/keys",
            "algorithm": "ES384",
        },
        {"issuer": "https://three.example/", "audience": "b", "jwksFile": file_of_keys(tmp_path), "types": ["JWT"]},
    ]
    box = made(tmp_path, **GOOD, auth_jwks_file=file_of_keys(tmp_path), auth_issuers=json.dumps(more))
    assert list(box.issuers) == [ISSUER, "https://two.example/", "https://three.example/"]
    assert box.issuers["https://two.example/"].algorithm == "ES384"


def test_an_issuer_may_be_held_to_some_organisations(tmp_path: Path) -> None:
    more = [
        {"issuer": "https://two.example/", "audience": "a", "jwksUrl": "https://c/", "organisations": ["globex"]},
        {"issuer": "https://any.example/", "audience": "a", "jwksUrl": "https://c/"},
    ]
    own = {**GOOD, "auth_jwks_file": file_of_keys(tmp_path), "auth_organisations": " acme, acme-labs ,"}
    box = made(tmp_path, **own, auth_issuers=json.dumps(more))
    assert [each.expected.organisations for each in box.issuers.values()] == [{"acme", "acme-labs"}, {"globex"}, None]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({**GOOD, "auth_jwks_url": "https://x.example/", "auth_organisations": ","}, "organisations: List should have"),
        ({"auth_organisations": "acme"}, "without MODPLANE_AUTH_ISSUER"),
        (
            {"auth_issuers": '[{"issuer":"a","audience":"b","jwksUrl":"https://c/","organisations":[]}]'},
            "organisations",
        ),
        ({"auth_issuer": ISSUER, "auth_jwks_url": "https://x.example/"}, "audience"),
        (GOOD, "one of jwksUrl, jwksFile and secretFile"),
        ({**GOOD, "auth_jwks_url": "http://x.example/keys"}, "not an https URL"),
        ({**GOOD, "auth_jwks_url": "https:///keys"}, "not an https URL"),
        ({**GOOD, "auth_jwks_url": "file:///etc/passwd"}, "not an https URL"),
        ({**GOOD, "auth_jwks_url": "https://me:secret@x.example/"}, "a user, a password"),
        ({**GOOD, "auth_jwks_url": "https://x.example/", "auth_jwks_file": "/x"}, "one of"),
        ({**GOOD, "auth_jwks_url": "https://x.example/", "auth_algorithm": "HS256"}, "take secretFile"),
        ({**GOOD, "auth_secret_file": "/x"}, "take secretFile"),
        ({**GOOD, "auth_jwks_file": "/no/such/file"}, "No such file"),
        ({"auth_jwks_url": "https://x.example/"}, "without MODPLANE_AUTH_ISSUER"),
        ({"auth_audience": "x"}, "without MODPLANE_AUTH_ISSUER"),
        ({"auth_issuers": "{"}, "not JSON"),
        ({"auth_issuers": "{}"}, "not a list"),
        ({"auth_issuers": "[{}]"}, "entry 0"),
        ({"auth_issuers": '[{"issuer":"a","audience":"b","jwksUrl":"https://c/","more":1}]'}, "more: Extra inputs"),
        ({"auth_issuers": '[{"issuer":"a","audience":"b","jwksUrl":"https://c/","algorithm":"none"}]'}, "algorithm"),
        (
            {"auth_issuers": json.dumps([{"issuer": "a", "audience": "b", "jwksUrl": "https://c/"}] * 2)},
            "'a' stands twice",
        ),
    ],
)
def test_what_is_not_safe_is_refused(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsRefused, match=why):
        made(tmp_path, **given)


def test_a_weak_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"correct horse battery staple")
    with pytest.raises(SettingsRefused, match="weak"):
        made(tmp_path, **GOOD, auth_secret_file=path, auth_algorithm="HS256")
