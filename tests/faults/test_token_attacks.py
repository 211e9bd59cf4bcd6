"""Attacks on tokens against a running worker: nothing reaches the handler, whether the caches are cold or warm.

The numbers are those of the fault catalogue's group A; the vectors are of RFC 7515 appendix A, RFC 8725 and the CVEs
named in `tests.schemas.kits.tokens.test_verifying`.  One platform for the file: its issuers are a key server of this
process (over TLS on 127.0.0.1) and a file of keys.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from schemas.kits.tokens import development, fetching
from tests.doubles import keyserver, wire
from tests.doubles.issuers import AUDIENCE, ISSUER, b64, claims, jwks, private, public_jwk, token
from tests.doubles.keyserver import KeyServer
from tests.doubles.platform import Platform, running, wait_for
from tests.doubles.wire import Line, bearer

pytestmark = pytest.mark.processes

FILED = "https://filed.example/"
TENANTS = "https://tenant.example/"
"""An issuer that may speak for acme only."""
BASE = "/api/v1/modules/v1/vault"

MODULE = '''"""Counts who gets in."""

from typing import Any

from fastapi import APIRouter, Request, WebSocket

from dataplane.sdk import BaseModuleRouter, CurrentPrincipal, ModuleMetadata, optional_principal, require_module_auth


class Vault(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="vault", version="1.0.0", permissions=["open", "empty"])

    def register_routes(self, router: APIRouter) -> None:
        inside = {"calls": 0}

        @router.get("/count")
        @require_module_auth("NONE")
        async def count() -> int:
            return inside["calls"]

        @router.get("/seen")
        @require_module_auth("NONE")
        async def seen(request: Request) -> dict[str, Any]:
            caller = optional_principal(request)
            return {"caller": None if caller is None else caller.subject, "headers": sorted(request.headers)}

        @router.api_route("/basic", methods=["GET", "HEAD", "OPTIONS", "POST"])
        async def basic(caller: CurrentPrincipal, request: Request) -> dict[str, Any]:
            inside["calls"] += 1
            return {"subject": caller.subject, "organisation": caller.organisation, "headers": sorted(request.headers)}

        @router.get("/open")
        @require_module_auth(permissions=["open"])
        async def opened() -> str:
            inside["calls"] += 1
            return "open"

        @router.get("/both")
        @require_module_auth(permissions=["open", "empty"], roles=["keeper", "owner"])
        async def both() -> str:
            inside["calls"] += 1
            return "both"

        @router.get("/admin")
        @require_module_auth("ADMIN")
        async def admin() -> str:
            inside["calls"] += 1
            return "admin"

        @router.get("/item/{name}")
        async def item(name: str) -> str:
            inside["calls"] += 1
            return name

        @router.websocket("/live")
        async def live(socket: WebSocket, caller: CurrentPrincipal) -> None:
            inside["calls"] += 1
            await socket.accept()
            await socket.send_text(caller.subject)
            await socket.close()
'''


class Vault:
    """The running platform, its issuers, and a connection to its worker."""

    def __init__(self, platform: Platform, server: KeyServer, keys: Path) -> None:
        self.platform = platform
        self.server = server
        self.keys = keys
        self.line = Line(platform.door)
        self.let_in = 0
        """How many calls got in, as far as the tests know."""

    def count(self) -> int:
        """How many calls got in."""
        return int(self.line.get(f"{BASE}/count").body)

    def get(self, path: str, *headers: bytes) -> wire.Raw:
        """One call of a guarded route."""
        answer = self.line.get(BASE + path, *headers)
        self.let_in += answer.status == 200
        return answer

    def status(self, text: str | bytes, path: str = "/basic") -> int:
        """What one call with a token comes to."""
        return self.get(path, bearer(text)).status

    def refuse(self, text: str | bytes) -> wire.Raw:
        """The token is refused."""
        answer = self.get("/basic", bearer(text))
        assert answer.status in {400, 401, 431}, (text, answer)
        if answer.status == 401:
            assert 'www-authenticate: bearer realm="modplane", error="invalid_token"' in answer.head
        return answer


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    home = tmp_path_factory.mktemp("vault")
    keys = home / "filed.json"
    keys.write_bytes(jwks(public_jwk("RS256", "f1", "filed")))
    (home / "tenant.json").write_bytes(jwks(public_jwk("RS256", "t1", "tenant")))
    with keyserver.beside(home) as server:
        server.answers = lies(server)
        others: list[dict[str, Any]] = [{"issuer": FILED, "audience": AUDIENCE, "jwksFile": str(keys)}]
        tenants = {"issuer": TENANTS, "audience": AUDIENCE, "jwksFile": str(home / "tenant.json")}
        others.append({**tenants, "organisations": ["acme"]})
        for path in server.answers:
            own: dict[str, Any] = {"issuer": f"https://lies.example{path}", "audience": AUDIENCE, "jwksPrivate": True}
            where = f"https://localhost:{server.port}{path}"
            others.append({**own, "jwksUrl": where, "jwksCaFile": str(server.authorities)})
        environment = {
            "MODPLANE_AUTH_ISSUER": ISSUER,
            "MODPLANE_AUTH_AUDIENCE": AUDIENCE,
            "MODPLANE_AUTH_JWKS_URL": server.url,
            "MODPLANE_AUTH_JWKS_PRIVATE": "true",
            "MODPLANE_AUTH_JWKS_CA_FILE": str(server.authorities),
            "MODPLANE_AUTH_LEEWAY_SECONDS": "0",
            "MODPLANE_AUTH_ISSUERS": json.dumps(others),
        }
        (home / "modules").mkdir()
        (home / "modules" / "vault.py").write_text(MODULE)
        with running(home, examples=False, environment=environment) as platform:
            platform.wait_state("vault", "ACTIVE")
            made = Vault(platform, server, keys)
            wait_for(lambda: made.status(token()) == 200, what="a good token gets in")
            yield made
            made.line.close()


def lies(server: KeyServer) -> dict[str, keyserver.Answer]:
    """Key servers that do what they should not, each of an issuer of its own."""
    good = jwks(public_jwk("RS256", "k1"))
    return {
        "/redirect": keyserver.plain(b"", "302 Found", f"location: https://localhost:{server.port}/stolen"),
        "/metadata": keyserver.plain(b"", "307 Away", "location: http://169.254.169.254/latest/meta-data/"),
        "/bomb": keyserver.endless(),
        "/gzip": keyserver.plain(good, "200 OK", "content-encoding: gzip"),
        "/drip": keyserver.dripping(),
        "/many": keyserver.plain(jwks(*(public_jwk("RS256", f"k{n}") for n in range(101)))),
        "/twice": keyserver.plain(jwks(public_jwk("RS256", "k1"), public_jwk("RS256", "k1", "two"))),
        "/secret": keyserver.plain(jwks(public_jwk("RS256", "k1"), {"kty": "oct", "kid": "s", "k": b64(b"x" * 32)})),
        "/text": keyserver.plain(b"<html>"),
        "/nested": keyserver.plain(b'{"keys":' + b"[" * 50_000),
        "/encryption": keyserver.plain(jwks(public_jwk("RS256", "k1", use="enc"))),
        "/signing": keyserver.plain(jwks(public_jwk("RS256", "k1", key_ops=["sign"]))),
        "/other": keyserver.plain(jwks(public_jwk("RS256", "k1", alg="RS512"))),
        "/exponent": keyserver.plain(jwks(public_jwk("RS256", "k1", e=b64(b"\x03")))),
        "/curve": keyserver.plain(jwks(public_jwk("ES256", "k1", alg="RS256"))),
    }


@pytest.fixture(autouse=True)
def nobody_else(vault: Vault) -> Iterator[None]:
    """The handlers ran for those that were answered with 200, and for nobody else."""
    before, vault.let_in = vault.count(), 0
    yield
    assert vault.count() - before == vault.let_in


@pytest.fixture(params=["cold", "warm"])
def good(vault: Vault, request: pytest.FixtureRequest) -> str:
    """A good token; warm: the worker remembers its caller."""
    text = token(claims(sub="ada", org="acme", permissions=["open"], roles=["keeper"]))
    if request.param == "warm":
        assert vault.status(text) == 200
        assert vault.status(text) == 200
    return text


def header(text: str, **change: Any) -> str:
    """The token with another header under the same signature."""
    head, body, mark = text.split(".")
    found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) | change
    return f"{b64(json.dumps(found).encode())}.{body}.{mark}"


# --- what a good token may do, and no more


def test_levels_are_kept(vault: Vault, good: str) -> None:
    assert vault.status(good) == 200
    assert vault.status(good, "/open") == 200
    assert vault.status(good, "/both") == 403
    assert vault.status(good, "/admin") == 403
    whole = token(claims(permissions="open empty", roles=["owner"]))
    assert [vault.status(whole, path) for path in ("/open", "/both", "/admin")] == [200, 200, 403]
    assert vault.status(token(claims(roles=["keeper"], permissions=["empty"])), "/both") == 403
    assert vault.status(token(claims(roles=["other"], permissions=["open", "empty"])), "/both") == 403
    assert vault.status(token(claims(roles=["admin"])), "/admin") == 200
    assert vault.status(token(claims(roles=["Admin", "administrator"], permissions=["admin"])), "/admin") == 403


def test_a15_a_remembered_permission_is_of_one_route_and_one_caller(vault: Vault, good: str) -> None:
    for _ in range(3):
        assert vault.status(good, "/open") == 200
        assert vault.status(good, "/admin") == 403
        assert vault.status(token(claims(sub="eve")), "/open") == 403


def test_a_refusal_says_nothing_of_what_is_missing(vault: Vault, good: str) -> None:
    answer = vault.get("/admin", bearer(good))
    assert 'www-authenticate: bearer realm="modplane", error="insufficient_scope"' in answer.head
    assert json.loads(answer.body)["detail"] == "this caller may not call this route"
    assert b"admin" not in answer.body.replace(b"/admin", b"")


def test_without_a_token_nobody_gets_in(vault: Vault) -> None:
    for path in ("/basic", "/open", "/both", "/admin", "/item/a"):
        answer = vault.get(path)
        assert answer.status == 401
        assert 'www-authenticate: bearer realm="modplane"\r\n' in f"{answer.head}\r\n"


# --- A1 to A12: tokens that are not what they should be


# RFC 7515 appendix A.1 and A.5, and the token that every tutorial shows
_JOE = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
_JOHN = "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ"
PUBLISHED = [
    f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{_JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    f"eyJhbGciOiJub25lIn0.{_JOE}.",
    f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{_JOHN}.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
]
ALGORITHMS: list[Any] = [
    "none",
    "NONE",
    "nOnE",
    "",
    "RS384",
    "rs256",
    "HS256",
    "ES256",
    "PS256",
    "EdDSA",
    None,
    ["RS256"],
    {},
]
KIDS: list[Any] = [
    "",
    "K1",
    "k1 ",
    "../../../../dev/null",
    "k1' OR '1'='1' --",
    "f1",
    "x" * 257,
    "x" * 5_000,
    ["k1"],
    1,
    None,
]
ISSUERS: list[Any] = [
    "https://issuer.example",
    "https://ISSUER.example/",
    "https://issuer.example//",
    "",
    None,
    [ISSUER],
    7,
]


@pytest.mark.parametrize("text", PUBLISHED)
def test_a1_published_tokens(vault: Vault, text: str) -> None:
    vault.refuse(text)


def test_a2_no_algorithm_or_another(vault: Vault, good: str) -> None:
    head, body, mark = good.split(".")
    for name in ALGORITHMS:
        vault.refuse(header(good, alg=name))
        bare = b64(json.dumps({"alg": name, "kid": "k1"}).encode())
        vault.refuse(f"{bare}.{body}.")
        vault.refuse(f"{bare}.{body}.{mark}")
    vault.refuse(f"{head}.{body}.")


def forms() -> list[bytes]:
    """Every form in which a public key may be had."""
    key = private("RS256").public_key()
    spki, encoding = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding
    return [
        key.public_bytes(encoding.PEM, spki), key.public_bytes(encoding.PEM, spki).strip(),
        key.public_bytes(encoding.DER, spki), key.public_bytes(encoding.DER, serialization.PublicFormat.PKCS1),
        key.public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        json.dumps(public_jwk("RS256", "k1")).encode(), jwks(public_jwk("RS256", "k1")),
    ]  # fmt: skip


@pytest.mark.usefixtures("good")
def test_a3_the_public_key_as_a_secret(vault: Vault) -> None:
    for form in forms():
        for algorithm in ("HS256", "HS384", "HS512"):
            vault.refuse(token(algorithm=algorithm, key=form))
            vault.refuse(token(algorithm=algorithm, key=form, header={"alg": "RS256"}))


@pytest.mark.usefixtures("good")
def test_a4_headers_that_bring_keys_or_change_the_rules(vault: Vault) -> None:
    own = public_jwk("RS256", "k1", "two")
    members: list[dict[str, Any]] = [
        {"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}, {"jwk": own},
        {"x5c": ["AAAA"]},
        {"jku": f"https://localhost:{vault.server.port}/evil"}, {"x5u": f"https://localhost:{vault.server.port}/evil"},
        {"zip": "DEF"}, {"enc": "A256GCM"}, {"cty": "JWT"}, {"typ": "dpop+jwt"}, {"typ": 1}, {"unknown": "x"},
    ]  # fmt: skip
    for more in members:
        vault.refuse(token(header=more))
        vault.refuse(token(header=more, name="two"))
    assert "/evil" not in vault.server.paths


@pytest.mark.usefixtures("good")
def test_a5_key_ids(vault: Vault) -> None:
    for kid in KIDS:
        vault.refuse(token(header={"kid": kid}))
        vault.refuse(token(header={"kid": kid}, name="filed"))
    vault.refuse(token(kid=None))


@pytest.mark.usefixtures("good")
def test_a6_times(vault: Vault) -> None:
    now = int(time.time())
    times: list[dict[str, Any]] = [
        {"exp": None}, {"iat": None}, {"exp": str(now + 600)}, {"exp": True}, {"exp": -1}, {"exp": now - 1},
        {"exp": 1e300},
        {"exp": now + 10**9}, {"iat": now + 3_600, "exp": now + 7_200}, {"nbf": now + 3_600}, {"nbf": "x"},
        {"iat": "x"},
        {"exp": [now + 600]}, {"exp": {}},
    ]  # fmt: skip
    for change in times:
        vault.refuse(token(claims(**change)))
    usual = json.dumps(claims(exp=None))[1:-1]
    for text in ("1e400", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5_000, "0x7fffffff"):
        vault.refuse(token(f'{{{usual},"exp":{text}}}'.encode()))


@pytest.mark.usefixtures("good")
def test_a7_audiences(vault: Vault) -> None:
    for audience in (None, "", "other", [], ["other"], {"modplane": 1}, "modplane ", "MODPLANE", [AUDIENCE, 7], 7):
        vault.refuse(token(claims(aud=audience)))
    assert vault.status(token(claims(aud=["other", AUDIENCE]))) == 200


@pytest.mark.usefixtures("good")
def test_a8_a_key_of_one_issuer_under_the_name_of_another(vault: Vault) -> None:
    assert vault.status(token(claims(iss=FILED), kid="f1", name="filed")) == 200
    vault.refuse(token(claims(iss=FILED)))
    vault.refuse(token(claims(iss=FILED), kid="f1"))
    vault.refuse(token(kid="f1", name="filed"))
    vault.refuse(token(name="filed"))
    for name in ISSUERS:
        vault.refuse(token(claims(iss=name)))
    vault.refuse(token(claims(iss=development.ISSUER)))
    vault.refuse(token(claims(iss=ISSUER), algorithm="ES256", kid="k1"))


@pytest.mark.usefixtures("good")
def test_a8_an_issuer_of_one_tenant_that_names_another(vault: Vault) -> None:
    def of(organisation: str | None) -> str:
        return token(claims(iss=TENANTS, org=organisation, roles=["admin"]), kid="t1", name="tenant")

    assert vault.status(of("acme")) == 200
    for organisation in ("globex", "ACME", "acme ", None):
        vault.refuse(of(organisation))
    assert vault.status(token(claims(org="globex"))) == 200


@pytest.mark.usefixtures("good")
def test_a9_claims_that_stand_twice(vault: Vault) -> None:
    usual = json.dumps(claims())[1:-1]
    for more in ('"sub":"eve"', '"exp":99999999999', '"iss":"x"', '"roles":["admin"],"roles":[]', '"\\u0073ub":"eve"'):
        vault.refuse(token(f"{{{usual},{more}}}".encode()))
        vault.refuse(token(f"{{{more},{usual}}}".encode()))


def spellings(text: str) -> list[str | bytes]:
    """Other spellings of one token."""
    head, body, mark = text.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    found: list[str | bytes] = [
        f"{text}=", f"{text}==", f"{head}=.{body}.{mark}", f"{head}.{body}=.{mark}", f"{text}.", f".{text}",
        f"{text} x",
        f"{head} .{body}.{mark}", f"{head}.{body}.{mark[:9]} {mark[9:]}", f"{head}.{body}.\t{mark}", f"{text},{text}",
        f"{head}..{body}.{mark}", text.replace(".", "%2e"), f"{text}#x", f"{text}\xe4".encode("latin-1"),
        text.encode() + b"\x80", f'"{text}"', f"{text};", f"{text}/", f"{text}+",
    ]  # fmt: skip
    found += [text[:-1] + each for each in alphabet if each != text[-1]]
    return found


def test_a10_no_second_spelling(vault: Vault, good: str) -> None:
    for text in spellings(good):
        vault.refuse(text)


def test_a11_other_numbers_of_parts(vault: Vault, good: str) -> None:
    head, body, mark = good.split(".")
    whole = json.dumps({"payload": body, "protected": head, "signature": mark})
    jwe = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AAAA.AAAA.AAAA.AAAA"
    for text in (
        f"{head}.{body}",
        f"{good}.{mark}",
        f"{head}.{body}.{mark}.x.y",
        jwe,
        whole,
        "",
        ".",
        "..",
        "a.b.c",
        "a",
    ):
        vault.refuse(text)


def test_a12_sizes(vault: Vault, good: str) -> None:
    vault.refuse(token(claims(x="y" * 8_000)))
    vault.refuse(good + "A" * 8_192)
    vault.refuse("A" * 31_000)
    vault.refuse("A" * 100_000)
    vault.refuse(token(header=b'{"alg":"RS256","kid":"k1","x":' + b"[" * 2_000 + b"]" * 2_000 + b"}"))
    vault.refuse(token(header=b"[" * 5_000))
    vault.refuse(token(b'{"x":' + b"[" * 2_500 + b"]" * 2_500 + b"}"))
    assert vault.status(good) == 200


# --- A13, A14, A16: what was good a moment ago


def revocation(name: str, **spec: str) -> str:
    return json.dumps(
        {
            "apiVersion": "modplane.dev/v1",
            "kind": "Revocation",
            "metadata": {"name": name},
            "spec": {"issuer": ISSUER, **spec},
        }
    )


@pytest.mark.parametrize("temperature", ["cold", "warm"])
def test_a13_a_revoked_token_is_refused_also_while_it_is_remembered(vault: Vault, temperature: str) -> None:
    jti = f"t-{temperature}"
    text, other = token(claims(jti=jti)), token(claims(jti=f"{jti}-other"))
    if temperature == "warm":
        assert vault.status(text) == 200
        assert vault.status(other) == 200
    vault.platform.cli("apply", "-f", "-", stdin=revocation(f"stolen-{temperature}", tokenId=jti))
    # whether the worker heard of it shows another token of the same id, so that a cold one stays cold
    probe = token(claims(jti=jti, nonce="x"))
    wait_for(lambda: vault.status(probe) == 401, what="the revocation reaches the worker")
    vault.refuse(text)
    for spelling in spellings(text)[:20]:
        vault.refuse(spelling)
    assert vault.status(other) == 200


def test_a14_a_token_ends_while_it_is_remembered(vault: Vault) -> None:
    ends = int(time.time()) + 3
    text = token(claims(ends - 8, exp=ends))
    while True:
        asked = time.time()
        if vault.status(text) == 401:
            break
        assert asked < ends
    assert time.time() >= ends
    vault.refuse(text)


def test_a16_a_key_that_is_rotated_out(vault: Vault) -> None:
    old = token(claims(iss=FILED), kid="f1", name="filed")
    new = token(claims(iss=FILED), kid="f2", name="refiled")
    assert (vault.status(old), vault.status(new)) == (200, 401)
    replace(vault.keys, jwks(public_jwk("RS256", "f1", "filed"), public_jwk("RS256", "f2", "refiled")))
    wait_for(lambda: vault.status(new) == 200, what="the new key counts")
    assert vault.status(old) == 200
    replace(vault.keys, jwks(public_jwk("RS256", "f2", "refiled")))
    wait_for(lambda: vault.status(old) == 401, what="the old key counts no more")
    assert vault.status(new) == 200
    # the same id with another key: what was remembered with the old one is not believed
    replace(vault.keys, jwks(public_jwk("RS256", "f2", "filed"), public_jwk("RS256", "f1", "filed")))
    wait_for(lambda: vault.status(new) == 401, what="the key behind the id is another")
    assert vault.status(old) == 200
    replace(vault.keys, b"{}")
    assert vault.status(old) == 200


def replace(path: Path, raw: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(raw)
    os.replace(part, path)


# --- A17 to A20: the servers of keys


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a17_ten_thousand_unknown_key_ids(vault: Vault) -> None:
    good = token()
    _, body, mark = good.split(".")
    began, before = time.monotonic(), vault.server.paths.count("/keys")
    for number in range(10_000):
        head = b64(json.dumps({"alg": "RS256", "kid": f"r{number}"}).encode())
        assert vault.status(f"{head}.{body}.{mark}") == 401
        if number % 100 == 0:
            assert vault.status(good) == 200
            assert vault.status(token()) == 200
    # at most one fetch in 30 s for unknown ids, however many; one more comes by itself every 5 minutes
    allowed = 2 + (time.monotonic() - began) / fetching.SEEK_SECONDS
    assert vault.server.paths.count("/keys") - before <= allowed


def test_a18_a19_key_servers_that_redirect_drip_bomb_or_lie(vault: Vault, good: str) -> None:
    for path in lies(vault.server):
        vault.refuse(token(claims(iss=f"https://lies.example{path}")))
        assert vault.status(good) == 200
    assert "/stolen" not in vault.server.paths
    info = vault.platform.http.get(f"{vault.platform.refresh()[0]}/modules/system/info").json()["auth"]
    lying = {each["issuer"]: each for each in info["issuers"] if "lies" in each["issuer"]}
    assert len(lying) == len(lies(vault.server))
    for issuer, shown in lying.items():
        wait_for(lambda issuer=issuer: trouble(vault, issuer), what=f"{issuer} is told")
        assert shown["keys"] == 0


def trouble(vault: Vault, issuer: str) -> str:
    info = vault.platform.http.get(f"{vault.platform.refresh()[0]}/modules/system/info").json()["auth"]
    return str(next(each["trouble"] for each in info["issuers"] if each["issuer"] == issuer))


def test_a20_known_keys_hold_while_their_server_is_away(vault: Vault) -> None:
    usual = vault.server.answer
    vault.server.answer = keyserver.plain(b"", "503 Away")
    try:
        vault.refuse(token(kid="new"))
        assert vault.status(token()) == 200
    finally:
        vault.server.answer = usual


# --- A21, A22 and the routes


def test_a21_a_token_stands_in_one_place_only(vault: Vault, good: str) -> None:
    raw = good.encode()
    for path, *headers in (
        (f"/basic?access_token={good}",), (f"/basic?token={good}",), (f"/basic?authorization=Bearer%20{good}",),
        ("/basic", b"cookie: access_token=" + raw), ("/basic", b"cookie: authorization=Bearer " + raw),
        ("/basic", b"x-authorization: Bearer " + raw), ("/basic", b"proxy-authorization: Bearer " + raw),
        ("/basic", b"x-forwarded-access-token: " + raw), ("/basic", b"authorization_: Bearer " + raw),
        ("/basic", b"authorization: bearer " + raw), ("/basic", b"authorization: BEARER " + raw),
        ("/basic", b"authorization: Bearer  " + raw), ("/basic", b"authorization: Bearer\t" + raw),
        ("/basic", b"authorization: Bearer"), ("/basic", b"authorization: " + raw), ("/basic",
        b"authorization: Bearer:" + raw),
        ("/basic", b"authorization: Basic " + raw), ("/basic", b"authorization: Token " + raw), ("/basic",
        b"authorization:"),
        ("/basic", b"authorization: ApiKey " + raw), ("/basic", b"authorization: Bearer " + raw + b", Bearer " + raw),
        ("/basic", bearer(good), bearer(good)), ("/basic", b"Authorization: Bearer x", bearer(good)),
        ("/basic", bearer(good), b"AUTHORIZATION: Bearer " + token(claims(sub="eve")).encode()),
    ):  # fmt: skip
        assert vault.get(path, *headers).status in {400, 401}, (path, headers)


def test_a22_every_refused_token_gets_the_same_answer(vault: Vault, good: str) -> None:
    head, body, mark = good.split(".")
    texts = [
        f"{head}.{body}.{'A' * len(mark)}", token(claims(sub="nobody"), name="two"), token(claims(exp=1, iat=0)), "x",
        token(kid="unknown"), token(claims(iss="https://nobody.example/")), header(good, alg="none"),
        token(claims(aud="x")),
    ]  # fmt: skip
    answers = [vault.refuse(text) for text in texts]
    assert len({answer.body for answer in answers}) == 1
    assert len({tuple(line for line in answer.head.split("\r\n") if "date:" not in line) for answer in answers}) == 1


def test_head_and_options_follow_their_route(vault: Vault, good: str) -> None:
    for method in ("HEAD", "OPTIONS", "POST"):
        assert vault.platform.call("v1/vault/basic", method).status_code == 401
    for method in ("HEAD", "OPTIONS", "TRACE", "get", "PROPFIND", "DELETE"):
        path = f"{vault.platform.door}{BASE}/open"
        more = {"x-http-method-override": "GET", "x-method-override": "GET"}
        answer = vault.platform.http.request(method, path, headers=more)
        assert answer.status_code in {400, 401, 405, 501}, method
    preflight = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    answer = vault.platform.call("v1/vault/basic", "OPTIONS", headers=preflight)
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers
    allowed = vault.platform.call("v1/vault/basic", "OPTIONS", headers={"authorization": f"Bearer {good}"})
    assert allowed.status_code == 200
    vault.let_in += 1


def test_a_websocket_is_refused_before_it_is_accepted(vault: Vault, good: str) -> None:
    url = f"{vault.platform.door.replace('http', 'ws', 1)}{BASE}/live"
    for headers in (
        {},
        {"Authorization": f"Bearer {good}="},
        {"Authorization": f"bearer {good}"},
        {"Cookie": f"token={good}"},
    ):
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers, proxy=None):
            pass
        assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused, connect(url, subprotocols=[good], proxy=None):  # type: ignore[list-item]
        pass
    assert refused.value.response.status_code == 401
    with connect(url, additional_headers={"Authorization": f"Bearer {good}"}, proxy=None) as socket:
        assert socket.recv() == "ada"
    vault.let_in += 1


def test_paths_that_another_reader_might_read_otherwise(vault: Vault, good: str) -> None:
    """R1 to R3: whatever the spelling, a guarded handler never runs without a token, and not with the wrong one."""
    for path in (
        "/basic/", "//basic", "/./basic", "/x/../basic", "/basic%2f", "/%62asic", "/basic%00", "/basic;x=1", "/BASIC",
        "/open/../basic", "/basic%20", "/basic?", "/basic#x", "/item/..%2fbasic", "/item/%2e%2e/basic", "/item/a%252fb",
        "/item/%c0%ae%c0%ae/basic", "/item/%c0%afbasic", "/item/%e0%80%afbasic", "/item/%ff", "/item/a\\basic",
        "/item/%5cbasic",
    ):  # fmt: skip
        answer = vault.get(path)
        assert answer.status in {307, 400, 401, 404, 405}, path
        other = path.replace("%62asic", "%61dmin").replace("basic", "admin")
        assert vault.get(other, bearer(good)).status in {307, 400, 403, 404, 405}, other


SPOOFED = [
    "x-user-id", "x-user", "x-org-id", "x-organisation", "x-organisation-id", "x-roles", "x-permissions", "x-auth-user",
    "x-auth-request-user", "x-remote-user", "remote-user", "x-internal-token", "x-modplane-principal", "x_user_id",
    "X-USER-ID", "X-Org_Id", "x-remote-groups",
]  # fmt: skip


def test_identities_in_headers_are_nobody(vault: Vault, good: str) -> None:
    """R5, in every spelling: they neither let in nor reach the module."""
    headers = [f"{name}: admin".encode() for name in SPOOFED]
    assert vault.get("/basic", *headers).status == 401
    assert vault.get("/admin", bearer(good), *headers).status == 403
    answer = vault.get("/basic", bearer(good), *headers)
    assert answer.status == 200
    found = json.loads(answer.body)
    assert (found["subject"], found["organisation"]) == ("ada", "acme")
    assert set(found["headers"]) == {"host", "authorization"}
    seen = json.loads(vault.line.get(f"{BASE}/seen", bearer(good), *headers).body)
    assert seen == {"caller": None, "headers": ["authorization", "host"]}


def test_the_development_key_is_another_issuer_like_any_other(vault: Vault) -> None:
    own = vault.platform.cli(
        "token", "create", "--sub", "dev", "--permission", "open", "--data-dir", str(vault.platform.data)
    )
    assert vault.status(own.strip(), "/open") == 200
    assert vault.status(own.strip(), "/admin") == 403
    head, _, mark = own.strip().split(".")
    forged = json.dumps(claims(iss=ISSUER)).encode()
    vault.refuse(f"{head}.{b64(forged)}.{mark}")


def test_r10_a_removed_module_is_gone_for_who_was_remembered(vault: Vault) -> None:
    (vault.platform.modules / "fleeting.py").write_text(
        MODULE.replace('"vault"', '"fleeting"').replace("Vault", "Fleeting")
    )
    path = "/api/v1/modules/v1/fleeting/basic"
    warm, cold = token(), token(claims(sub="eve"))
    wait_for(lambda: vault.line.get(path, bearer(warm)).status == 200, what="the module serves")
    (vault.platform.modules / "fleeting.py").unlink()
    vault.platform.cli("delete", "module/fleeting")
    assert [vault.line.get(path, bearer(text)).status for text in (warm, cold)] == [404, 404]
    assert [vault.status(text) for text in (warm, cold)] == [200, 200]


def test_the_worker_tells_how_it_goes(vault: Vault) -> None:
    info = httpx.get(f"{vault.platform.refresh()[0]}/modules/system/info").json()["auth"]
    assert info["cache"]["tokens"] <= info["cache"]["tokensMax"]
    assert info["verified"] > 0
    assert info["refused"] > 0
    assert not Path(vault.platform.data / "auth" / "issuers").exists() or all(
        file.stat().st_mode & 0o077 == 0 for file in (vault.platform.data / "auth" / "issuers").glob("*.json")
    )


def test_each_decision_of_all_these_tests_is_one_record_of_the_audit_trail(vault: Vault) -> None:
    info = httpx.get(f"{vault.platform.refresh()[0]}/modules/system/info").json()
    url = f"{vault.platform.control}/api/v1/module-management/audit"

    def newest() -> int:
        """Number of the last record; the first one opened the chain."""
        page = vault.platform.admin.get(url, params={"writer": "w0", "limit": 1}).json()
        return sum(int(each["seq"]) for each in page["records"])

    def decided() -> list[dict[str, Any]]:
        found, after = [], 0
        while after is not None:
            asked: dict[str, str | int] = {"kind": "decision", "newest": "false", "after": after, "limit": 10_000}
            page = vault.platform.admin.get(url, params=asked).json()
            found += page["records"]
            after = page["next"]
        return [each for each in found if each["boot"] == info["worker"]["boot"]]

    wait_for(lambda: newest() == info["audit"]["noted"] + 1, what=lambda: f"{newest()} of {info['audit']}")
    records = decided()
    assert len({each["seq"] for each in records}) == len(records) == info["audit"]["noted"]
    outcomes = {(each["outcome"], each["status"]) for each in records}
    assert outcomes <= {("allow", 200), ("deny", 401), ("deny", 403)}
    let_in = [each for each in records if each["outcome"] == "allow" and each["module"] == "vault"]
    assert len(let_in) == vault.count()
    assert all(each["subject"] for each in let_in)
    assert all(each["reason"] not in {"", "Allowed"} for each in records if each["outcome"] == "deny")
    assert json.loads(vault.platform.cli("audit", "verify", "-o", "json"))["ok"]
