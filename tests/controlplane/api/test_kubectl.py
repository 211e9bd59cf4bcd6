"""The real kubectl, where there is one, drives the real server."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.doubles.apiparts import Parts, module
from tests.doubles.apiserver import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


class Kubectl:
    def __init__(self, url: str, folder: Path) -> None:
        self._base = ["kubectl", "--server", url, "--cache-dir", str(folder / "cache")]
        self._environment = {"KUBECONFIG": "/dev/null", "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}

    async def __call__(self, *arguments: str, code: int = 0, given: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            *self._base,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )
        output, _ = await asyncio.wait_for(process.communicate(given.encode()), 60)
        assert process.returncode == code, output.decode()
        return output.decode()


async def test_kubectl_works_as_on_any_cluster(parts: Parts, tmp_path: Path) -> None:
    async with serving(parts.api) as served:
        kubectl = Kubectl(served.url, tmp_path)
        manifest = tmp_path / "orders.yaml"
        manifest.write_text(yaml.safe_dump(module(labels={"team": "a"})))
        assert "modules          mod" in await kubectl("api-resources")
        assert "created" in await kubectl("apply", "-f", str(manifest))
        assert "unchanged" in await kubectl("apply", "-f", str(manifest))
        assert "DISCOVERED" in await kubectl("get", "mod", "-l", "team in (a)")
        assert "GENERATION" in await kubectl("get", "modules", "-o", "wide")
        manifest.write_text(yaml.safe_dump(module(labels={"team": "a"}, version="1.1.0")))
        assert "+  version: 1.1.0" in await kubectl("diff", "-f", str(manifest), code=1)
        assert "configured" in await kubectl("apply", "-f", str(manifest))
        assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", str(manifest))
        manifest.write_text(yaml.safe_dump(module(version="3.0.0")))
        conflict = await kubectl("apply", "--server-side", "--field-manager=other", "-f", str(manifest), code=1)
        assert "spec.version belongs to kubectl" in conflict
        assert "--force-conflicts" in conflict
        await kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", str(manifest))
        assert "patched" in await kubectl("patch", "mod", "orders", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        assert "maxThreads" in await kubectl("explain", "module.spec.limits")
        bad = await kubectl("apply", "-f", "-", code=1, given=json.dumps(module("bad", typo=1)))
        assert 'The Module "bad" is invalid' in bad
        assert "spec.typo" in bad
        found = json.loads(await kubectl("get", "module", "orders", "-o", "json"))
        assert found["spec"]["version"] == "3.0.0"
        assert "condition met" in await kubectl(
            "wait", "mod/orders", "--for=jsonpath={.status.state}=DISCOVERED", "--timeout=10s"
        )
        assert "deleted" in await kubectl("delete", "mod", "orders", "--wait=false")
        organisation = json.dumps(
            {"apiVersion": "modplane.dev/v1", "kind": "Organisation", "metadata": {"name": "acme"}}
        )
        await kubectl("create", "-f", "-", given=organisation)
        assert "deleted" in await kubectl("delete", "org", "acme", "--timeout=10s")
