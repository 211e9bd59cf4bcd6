"""`dataplane.testing`: a module served for a test as it will be served, and what happens when it cannot be."""

import threading
from pathlib import Path

import pytest
from websockets.sync.client import connect

from dataplane import testing
from tests.doubles.sources import SMALL, write

RICH = (
    SMALL
    + """
        @router.get("/guarded")
        async def guarded():
            return {"secret": self.started}

        @router.get("/redirected")
        @require_module_auth("NONE")
        async def redirected():
            from fastapi.responses import RedirectResponse
            return RedirectResponse("hello")

        @router.websocket("/echo")
        @require_module_auth("NONE")
        async def echo(socket):
            await socket.accept()
            await socket.send_text(await socket.receive_text())

    started = stopped = False

    async def on_startup(self):
        self.started = True

    async def on_shutdown(self):
        self.stopped = True
""".replace("async def echo(socket)", "async def echo(socket: WebSocket)")
)
RICH = "from fastapi import WebSocket\n" + RICH


def test_a_module_is_called_below_its_own_address(tmp_path: Path) -> None:
    place = write(tmp_path, {"small.py": RICH}) / "small.py"
    with testing.load(place, config={"a": 1}) as client:
        assert client.get("/hello").json() == {"hello": "world", "config": {"a": 1}}
        assert client.get("hello").status_code == 200
        assert client.prefix == "/api/v1/modules/v1/small"
        assert client.get("/redirected").json()["hello"] == "world"
        assert client.get("/guarded").status_code == 401
        assert client.get("/nowhere").status_code == 404
        assert "/api/v1/modules/v1/small/hello" in client.get(f"{client.door}/openapi.json").json()["paths"]
        assert client.get(f"{client.door}/modules/system/info").json()["modules"][0]["name"] == "small"
        with connect(client.websocket("/echo"), proxy=None) as socket:
            socket.send("hi")
            assert socket.recv() == "hi"
        module = client.module
        assert getattr(module, "started", None) is True
    assert getattr(module, "stopped", None) is True
    assert not any(thread.name == "modplane-testing" for thread in threading.enumerate())


def test_handlers_can_be_tested_without_a_token(tmp_path: Path) -> None:
    write(tmp_path, {"small.py": RICH})
    with testing.load(str(tmp_path / "small.py"), guarded=False) as client:
        assert client.get("/guarded").json() == {"secret": True}


GUARDED = """
from typing import Annotated
from fastapi import Depends, WebSocket
from dataplane.sdk import (
    BaseModuleRouter, CurrentPrincipal, ModuleMetadata, OrganisationConfiguration, feature_flag, feature_value,
    require_module_auth,
)

class Guarded(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="guarded", version="1.0.0", permissions=["read"])

    def register_routes(self, router):
        @router.get("/me")
        async def me(caller: CurrentPrincipal, own: OrganisationConfiguration):
            return {"me": caller.subject, "org": caller.organisation, "roles": sorted(caller.roles),
                    "claims": dict(caller.claims), "own": dict(own)}

        @router.get("/read")
        @require_module_auth(permissions=["read"])
        async def read():
            return "read"

        @router.get("/admin")
        @require_module_auth("ADMIN")
        async def admin():
            return "admin"

        @router.get("/beta")
        @require_module_auth(feature_flags=["beta"])
        async def beta(limit: Annotated[int, Depends(feature_value("limit", 10))],
                       dark: Annotated[bool, Depends(feature_flag("dark_mode"))]):
            return {"limit": limit, "dark": dark}

        @router.websocket("/live")
        async def live(socket: WebSocket, caller: CurrentPrincipal):
            await socket.accept()
            await socket.send_text(caller.subject)
"""
TENANTED = """
apiVersion: modplane.dev/v1
kind: Module
metadata: {name: guarded}
spec: {entryPoint: "guarded:Guarded", tenancy: organisation, permissions: [read]}
"""


def test_guarded_routes_are_called_as_somebody(tmp_path: Path) -> None:
    place = write(tmp_path, {"guarded.py": GUARDED}) / "guarded.py"
    ada = testing.caller("ada", organisation="acme", roles=["editor"], permissions=["read"], claims={"level": 7})
    with testing.load(place, caller=ada) as client:
        found = client.get("/me").json()
        assert found == {"me": "ada", "org": "acme", "roles": ["editor"], "claims": {"level": 7}, "own": {}}
        assert client.get("/read").json() == "read"
        assert client.get("/admin").status_code == 403
        eve, admin, nobody = (
            client.acting(each) for each in (testing.caller("eve"), testing.caller("root", roles=["admin"]), None)
        )
        assert (eve.get("/me").json()["me"], eve.get("/read").status_code) == ("eve", 403)
        assert admin.get("/admin").json() == "admin"
        assert nobody.get("/me").status_code == 401
        assert client.get("/me", headers={"authorization": "Caller 99"}).status_code == 401
        assert client.get("/me", headers={"authorization": "Bearer x"}).status_code == 401
        with connect(client.websocket("/live"), additional_headers=client.credentials, proxy=None) as socket:
            assert socket.recv() == "ada"
    assert eve.is_closed


def test_flags_have_the_values_that_are_given_and_are_off_otherwise(tmp_path: Path) -> None:
    place, ada = write(tmp_path, {"guarded.py": GUARDED}) / "guarded.py", testing.caller("ada")
    with testing.load(place, caller=ada) as client:
        assert client.get("/beta").status_code == 403
    with testing.load(place, caller=ada, flags={"beta": True, "limit": 3, "dark-mode": True}) as client:
        assert client.get("/beta").json() == {"limit": 3, "dark": True}
    with testing.load(place, caller=ada, flags={"beta": False}) as client:
        assert client.get("/beta").status_code == 403


def test_organisations_have_access_with_their_configuration(tmp_path: Path) -> None:
    place = write(tmp_path, {"m/guarded.py": GUARDED, "m/guarded.yaml": TENANTED}) / "m"
    organisations = {"acme": {"plan": "gold", "key": "secret://acme-key"}, "globex": {}}
    secrets = {"acme-key": "of acme"}
    ada = testing.caller("ada", organisation="acme")
    with testing.load(place, caller=ada, organisations=organisations, secrets=secrets) as client:
        assert client.get("/me").json()["own"] == {"plan": "gold", "key": "of acme"}
        assert client.acting(testing.caller("bob", organisation="globex")).get("/me").json()["own"] == {}
        for stranger in (testing.caller("eve", organisation="initech"), testing.caller("eve")):
            assert client.acting(stranger).get("/me").status_code == 403
    with (
        pytest.raises(testing.ModuleRefused, match=r"organisations: secret://acme-key"),
        testing.load(place, organisations=organisations),
    ):
        pass


def test_one_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    write(tmp_path, {"small.py": SMALL, "other.py": SMALL.replace('"small"', '"other"')})
    with pytest.raises(testing.ModuleRefused, match="has other, small; name one of them"), testing.load(tmp_path):
        pass
    with testing.load(tmp_path, "other") as client:
        assert client.name == "other"
    with pytest.raises(testing.ModuleRefused, match="no module 'third'"), testing.load(tmp_path, "third"):
        pass


def test_a_module_that_cannot_be_served_says_where(tmp_path: Path) -> None:
    place = write(tmp_path, {"small.py": SMALL + "1 / 0\n"}) / "small.py"
    with pytest.raises(testing.ModuleRefused) as caught, testing.load(place):
        pass
    line = len(SMALL.splitlines()) + 1
    assert caught.value.reason == "ImportFailed"
    assert f"{place}:{line}: ZeroDivisionError" in caught.value.message
    with (
        pytest.raises(testing.ModuleRefused, match="neither a Python file nor a folder"),
        testing.load(tmp_path / "no"),
    ):
        pass


CONFIDED = SMALL.replace(
    'version="1.0.0"', 'version="1.0.0", default_config={"key": "secret://api-key", "other": ["secret://other"]}'
)


def test_secrets_are_given_by_name_or_found_where_a_worker_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(tmp_path, {"small.py": CONFIDED}) / "small.py"
    monkeypatch.setenv("MODPLANE_SECRET_OTHER", "of the environment")
    with testing.load(place, secrets={"api-key": "given here"}) as client:
        assert client.get("/hello").json()["config"] == {"key": "given here", "other": ["of the environment"]}
    with pytest.raises(testing.ModuleRefused, match="secret://api-key: ") as caught, testing.load(place):
        pass
    assert caught.value.reason == "SecretMissing"


def test_a_refusal_does_not_tell_a_secret(tmp_path: Path) -> None:
    failing = CONFIDED.replace(
        "    def register_routes(self, router):",
        "    def register_routes(self, router):\n"
        "        path = '/' + self.config['key']\n"
        "        if 'secret:' not in path: router.add_api_route(path, lambda: 1)",
    )
    place = write(tmp_path, {"small.py": failing}) / "small.py"
    with (
        pytest.raises(testing.ModuleRefused) as caught,
        testing.load(place, secrets={"api-key": "path-of-c4nary", "other": ""}, config={"key": "secret://api-key"}),
    ):
        pass
    assert caught.value.reason == "RoutesDiffer"
    assert "GET /secret://api-key" in caught.value.message
    assert "c4nary" not in caught.value.message
