"""TLS of `modplane up`: its authority is all that a client needs, and nobody else's will do."""

import json
import shutil
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.doubles import tlsserver
from tests.doubles.platform import Platform

pytestmark = pytest.mark.processes


def test_endpoints_name_what_a_client_needs(platform: Platform) -> None:
    assert platform.control.startswith("https://127.0.0.1:")
    for key, mode in {"tokenFile": 0o600, "kubeconfig": 0o600, "caFile": 0o644}.items():
        assert stat.S_IMODE(Path(platform.endpoints[key]).stat().st_mode) == mode
    for name in ("ca.key", "server.pem"):
        assert stat.S_IMODE((platform.data / "tls" / name).stat().st_mode) == 0o600
    assert "w0" in platform.cli("get", "workers")
    info = platform.admin.get(f"{platform.control}/modules/system/info").json()
    assert info["certificate"]["ends"]


def test_the_authority_of_another_up_will_not_do(platform: Platform, tmp_path: Path) -> None:
    foreign = tlsserver.made(tmp_path)
    told = platform.cli("get", "modules", "--ca-file", str(foreign.certificate_file), check=4)
    assert "is not from the authority" in told
    trusted = ssl.create_default_context(cafile=str(foreign.certificate_file))
    with httpx.Client(verify=trusted) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get(f"{platform.control}/health")


def test_plain_http_is_told_what_to_do(platform: Platform) -> None:
    answer = httpx.get(platform.control.replace("https", "http") + "/health")
    assert answer.status_code == 400
    assert "https only" in answer.text
    told = platform.cli("get", "modules", "--server", platform.control.replace("https", "http"), check=3)
    assert "https only" in told


def test_a_kubeconfig_is_all_that_a_client_of_kubernetes_needs(platform: Platform, tmp_path: Path) -> None:
    found: dict[str, Any] = yaml.safe_load(Path(platform.endpoints["kubeconfig"]).read_text())
    assert found["clusters"][0]["cluster"]["server"] == platform.control
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [
            "kubectl", "--kubeconfig", platform.endpoints["kubeconfig"], "--cache-dir", str(tmp_path),
            "get", "wk", "-o", "json",
        ],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [each["metadata"]["name"] for each in json.loads(done.stdout)["items"]] == ["w0"]
