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
