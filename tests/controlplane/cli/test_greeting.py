"""What `modplane up` prints when it is ready."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from controlplane.cli import endpoints, greeting
from schemas.meta import Json
from tests.doubles import apiparts
from tests.doubles.desk import Desk

FOUND = endpoints.Endpoints("http://127.0.0.1:7401", "http://127.0.0.1:8001", "nats://127.0.0.1:4223", ("a", "b"))


def module(name: str, state: str, *routes: tuple[str, str, str]) -> Json:
    listed = [{"method": method, "path": path, "auth": auth} for method, path, auth in routes]
    routing = {"apiVersion": "v2", "namespace": "shop"}
    return {"metadata": {"name": name}, "spec": {"routing": routing}, "status": {"state": state, "routes": listed}}


def test_what_to_try_has_real_ports_and_paths() -> None:
    modules = [
        module("a", "ACTIVE", ("GET", "/hello", "NONE"), ("GET", "/x/{id}", "NONE"), ("POST", "/do", "NONE")),
        module("b", "ERROR", ("GET", "/mine", "BASIC")),
    ]
    prefix = "http://127.0.0.1:8001/api/v1/modules/v2/shop"
    guarded = greeting.Guarded(f"{prefix}/mine", ("--permission", "read it"))
    text = "\n".join(greeting.suggestions(modules, FOUND, Path("/data"), guarded))
    assert "curl http://127.0.0.1:8001/api/v1/modules/v2/shop/hello\n" in text
    assert "{id}" not in text
    assert "/do" not in text
    assert f"curl -i {prefix}/mine   # 401" in text
    assert "token create --sub ada --permission 'read it')" in text
    assert f'curl -i {prefix}/mine -H "authorization: Bearer $TOKEN"   # 200' in text
    assert "describe module b" in text
    assert "MODPLANE_DATA_DIR=/data" in text


def operation(level: str, **more: object) -> Json:
    return {"get": {"x-auth": {"level": level, **more}}}


def test_the_guarded_route_is_one_that_a_token_opens() -> None:
    paths = {
        "/open": operation("NONE"),
        "/one/{id}": operation("BASIC"),
        "/post": {"post": {"x-auth": {"level": "BASIC"}}},
        "/flagged": operation("BASIC", featureFlags=["beta"]),
        "/mine": operation("ADMIN", permissions=[["a", "b"], ["c"]], roles=[["r", "s"]]),
    }
    found = greeting.guarded_route({"paths": paths}, "http://door")
    words = ("--permission", "a", "--permission", "c", "--role", "r", "--role", "admin")
    assert found == greeting.Guarded("http://door/mine", words)
    del paths["/mine"]
    assert greeting.guarded_route({"paths": paths}, "http://door") is None


def test_the_addresses_are_told() -> None:
    text = "\n".join(greeting.addresses(FOUND, Path("/data")))
    assert all(part in text for part in ("http://127.0.0.1:7401", "http://127.0.0.1:8001", "nats://", "2 workers"))


def test_the_control_plane_is_called_with_its_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/kubectl")
    token, kubeconfig = str(tmp_path / "d/admin.token"), str(tmp_path / "d/kubeconfig")
    found = dataclasses.replace(FOUND, token_file=token, kubeconfig=kubeconfig, ca_file="/far/ca.pem")
    text = "\n".join([*greeting.addresses(found, Path("/data")), *greeting.suggestions([], found, Path("/data"))])
    assert "http://127.0.0.1:7401  (CA: /far/ca.pem)" in text
    assert (
        'curl --cacert /far/ca.pem -H "authorization: Bearer $(cat d/admin.token)" http://127.0.0.1:7401/apis' in text
    )
    assert "kubectl --kubeconfig d/kubeconfig get modules" in text


async def test_it_greets_with_the_modules_there_are(desk: Desk) -> None:
    found = endpoints.Endpoints(desk.url, "http://door", "nats://x", ("a",))
    lines: list[str] = []
    await greeting.greet(found, Path(".modplane").absolute(), lines.append)
    assert any("no modules yet" in line for line in lines)
    desk.run(desk.parts.apply(apiparts.module("orders")))
    desk.report("orders", "ACTIVE")
    await greeting.greet(found, desk.home, lines.append)
    assert any("orders" in line and "ACTIVE" in line for line in lines)


async def test_it_waits_until_the_modules_have_settled(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    found = endpoints.Endpoints(desk.url, "http://door", "nats://x", ("a",))
    await greeting.settled(found, desk.home / "nowhere")
    monkeypatch.setattr(greeting, "SETTLE_SECONDS", 0.3)
    (desk.home / "orders.py").write_text("")
    await greeting.settled(found, desk.home)
    monkeypatch.setattr(greeting, "SETTLE_SECONDS", 20.0)
    desk.run(desk.parts.apply(apiparts.module("orders")))
    desk.report("orders", "ACTIVE")
    await greeting.settled(found, desk.home)
    gone = endpoints.Endpoints("http://127.0.0.1:9", "", "", ())
    monkeypatch.setattr(greeting, "SETTLE_SECONDS", 0.1)
    await greeting.settled(gone, desk.home)
