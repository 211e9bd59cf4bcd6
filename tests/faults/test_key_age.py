"""A20: while their server is away, known keys hold until they are too old, on a running worker, cold and warm."""

import time
from collections.abc import Iterator

import pytest

from tests.doubles import keyserver
from tests.doubles.issuers import AUDIENCE, ISSUER, claims, jwks, public_jwk, token
from tests.doubles.keyserver import KeyServer
from tests.doubles.platform import Platform, module_source, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

HARD_AGE = 10.0


class Aged:
    """A platform and the server of its keys."""

    def __init__(self, platform: Platform, server: KeyServer) -> None:
        self.platform = platform
        self.server = server

    def serve(self) -> None:
        """Give the keys again."""
        self.server.answer = keyserver.plain(jwks(public_jwk("RS256", "k1")))

    def age(self) -> float:
        """How long ago the worker saw the keys, by its own account."""
        info = self.platform.http.get(f"{self.platform.refresh()[0]}/modules/system/info").json()["auth"]
        return float(next(each["ageSeconds"] for each in info["issuers"] if each["issuer"] == ISSUER))

    def status(self, text: str) -> int:
        headers = {"authorization": f"Bearer {text}"}
        return self.platform.call("v1/aged/guarded", headers=headers).status_code


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aged]:
    home = tmp_path_factory.mktemp("aged")
    with keyserver.beside(home) as server:
        environment = {
            "MODPLANE_AUTH_ISSUER": ISSUER,
            "MODPLANE_AUTH_AUDIENCE": AUDIENCE,
            "MODPLANE_AUTH_JWKS_URL": server.url,
            "MODPLANE_AUTH_JWKS_PRIVATE": "true",
            "MODPLANE_AUTH_JWKS_CA_FILE": str(server.authorities),
            "MODPLANE_AUTH_JWKS_MAX_AGE_SECONDS": str(HARD_AGE),
        }
        (home / "modules").mkdir()
        (home / "modules" / "aged.py").write_text(module_source("aged"))
        with running(home, examples=False, environment=environment) as platform:
            platform.wait_state("aged", "ACTIVE")
            made = Aged(platform, server)
            wait_for(lambda: made.status(token()) == 200, what="a good token gets in")
            yield made


@pytest.mark.parametrize("temperature", ["cold", "warm"])
def test_known_keys_hold_until_they_are_too_old_and_count_again_when_they_are_seen(
    aged: Aged, temperature: str
) -> None:
    text = token(claims(sub=temperature))
    if temperature == "warm":
        wait_for(lambda: aged.status(text) == 200, what="the worker remembers its caller")
    aged.server.answer = keyserver.plain(b"", "503 Away")
    away, number = time.monotonic(), 0
    while True:
        number += 1
        asked = time.monotonic()
        status = aged.status(text if temperature == "warm" else token(claims(sub=f"cold-{number}")))
        if status == 401:
            break
        assert status == 200
        assert asked < away + HARD_AGE + 1.0, "keys are believed that nobody has seen for too long"
    assert aged.age() >= HARD_AGE, "good keys were dropped too early"
    assert aged.status(text) == 401
    aged.serve()
    wait_for(lambda: aged.status(text) == 200, timeout=120, what="the keys count again")
