"""Secrets by reference, on a running platform: the module has the value, and nothing that is kept or said does.

Canaries stand for the values; afterwards every byte that the platform wrote is searched for them.  The tests tell one
story, in order.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy

from schemas import names
from tests.doubles.platform import BY_HAND, Platform, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CANARIES = {
    "env-key": "canary-of-the-environment-7Q",
    "file-key": 'canary "of" a\\file-8R',
    "late-key": "canary-that-comes-late-9S",
    "new-file-key": "canary-of-a-changed-file-1T",
    "acme-key": "canary-of-the-tenant-acme-2U",
}

VAULT = '''"""A module that uses secrets, and one that tells them whenever it can."""

import hashlib
import logging
import sys
import threading

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, OrganisationConfiguration, require_module_auth


class Vault(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="vault", version="1.0.0")

    def register_routes(self, router):
        @router.get("/digests")
        @require_module_auth("NONE")
        async def digests():
            values = [self.config["env"], *self.config["files"], self.config["deep"]["late"]]
            return [hashlib.sha256(value.encode()).hexdigest() for value in values]

        @router.get("/blurt")
        @require_module_auth("NONE")
        async def blurt():
            print("printed", self.config, flush=True)
            print("printed", self.config, file=sys.stderr, flush=True)
            logging.getLogger("vault").warning("logged %s", self.config["env"], extra={"key": self.config["env"]})
            thread = threading.Thread(target=self.fail)
            thread.start()
            thread.join()
            self.fail()

    def fail(self):
        raise RuntimeError(f"raised {self.config['env']} {self.config['files']}")


class Shared(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="shared", version="1.0.0")

    def register_routes(self, router):
        @router.get("/digest")
        async def digest(own: OrganisationConfiguration):
            print("handed over", own, flush=True)
            return hashlib.sha256(own["key"].encode()).hexdigest()


class Leak(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="leak", version="1.0.0")

    def register_routes(self, router):
        if self.config["where"] == "register" and not self.config["env"].startswith("secret://"):
            raise ValueError(f"register {self.config}")

    async def on_startup(self):
        raise ValueError(f"startup {self.config}")
'''


def manifest(name: str, kind: str, config: dict[str, Any]) -> str:
    spec = {"entryPoint": f"vault:{kind}", "source": {"path": "vault"}, "config": config}
    return json.dumps({"apiVersion": names.API_VERSION, "kind": "Module", "metadata": {"name": name}, "spec": spec})


CONFIG: dict[str, Any] = {
    "env": "secret://env-key",
    "files": ["secret://file-key"],
    "deep": {"late": "secret://late-key"},
}


def confide(platform: Platform, name: str, value: str) -> None:
    file = platform.home / "secrets" / name
    fresh = file.with_name(f".{name}.new")
    fresh.write_text(value + "\n")
    fresh.chmod(0o600)
    fresh.replace(file)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("secrets")
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700)
    environment = {
        **BY_HAND,
        "MODPLANE_SECRET_ENV_KEY": CANARIES["env-key"],
        "MODPLANE_SECRETS_DIR": str(secrets),
    }
    (home / "modules").mkdir()
    (home / "modules" / "vault.py").write_text(VAULT)
    with running(home, examples=False, environment=environment) as started:
        confide(started, "file-key", CANARIES["file-key"])
        yield started


def said(platform: Platform, name: str) -> str:
    """Everything that the status of a module says."""
    return json.dumps((platform.object("modules", name) or {}).get("status", {}))


def wait_said(platform: Platform, name: str, words: str) -> None:
    wait_for(lambda: words in said(platform, name), timeout=60, what=lambda: said(platform, name))


def digests(*keys: str) -> list[str]:
    return [hashlib.sha256(CANARIES[key].encode()).hexdigest() for key in keys]


def test_a_missing_secret_waits_and_the_module_has_every_value_when_it_is_there(platform: Platform) -> None:
    platform.cli("apply", "-f", "-", stdin=manifest("vault", "Vault", CONFIG))
    wait_said(platform, "vault", "SecretMissing: secret://late-key: there is no file")
    assert platform.state("vault") == "REGISTERED"
    confide(platform, "late-key", CANARIES["late-key"])
    platform.wait_state("vault", "ACTIVE", timeout=90)
    assert platform.call("v1/vault/digests").json() == digests("env-key", "file-key", "late-key")


def test_what_fails_with_a_secret_in_its_mouth_is_told_with_the_reference(platform: Platform) -> None:
    for where in ("register", "startup"):
        text = manifest(f"leak-{where}", "Leak", {"env": "secret://env-key", "where": where})
        platform.cli("apply", "-f", "-", stdin=text)
    wait_said(platform, "leak-register", "register {'env': 'secret://env-key'")
    wait_said(platform, "leak-startup", "startup {'env': 'secret://env-key'")
    assert platform.state("leak-register") == "ERROR"
    assert "secret://env-key" in platform.cli("describe", "module", "leak-register")


def test_a_changed_secret_is_for_what_is_built_from_then_on(platform: Platform) -> None:
    confide(platform, "file-key", CANARIES["new-file-key"])
    assert platform.call("v1/vault/digests").json() == digests("env-key", "file-key", "late-key")
    platform.cli("apply", "-f", "-", stdin=manifest("vault", "Vault", {**CONFIG, "turn": 2}))
    expected = digests("env-key", "new-file-key", "late-key")
    wait_for(lambda: platform.call("v1/vault/digests").json() == expected, timeout=60)


TENANT = [
    {"kind": "Module", "name": "shared", "spec": {"entryPoint": "vault:Shared", "tenancy": "organisation"}},
    {"kind": "Organisation", "name": "acme", "spec": {}},
    {
        "kind": "ModuleAccess",
        "name": "acme--shared",
        "spec": {"organisation": "acme", "module": "shared", "configuration": {"key": "secret://acme-key"}},
    },
]


def test_a_tenants_secret_opens_its_access_when_it_is_there(platform: Platform) -> None:
    written = [
        {
            "apiVersion": names.API_VERSION,
            "kind": each["kind"],
            "metadata": {"name": each["name"]},
            "spec": each["spec"],
        }
        for each in TENANT
    ]
    platform.cli("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, written)))
    platform.wait_state("shared", "ACTIVE")
    words = ("--sub", "ann", "--org", "acme", "--data-dir", str(platform.data))
    headers = {"authorization": f"Bearer {platform.cli('token', 'create', *words).strip()}"}

    def answer() -> httpx.Response:
        return platform.call("v1/shared/digest", headers=headers)

    log = platform.data / "logs" / "w0.log"
    wait_for(lambda: "access closed" in log.read_text(), what="the worker says why the access is closed")
    assert answer().status_code == 403
    confide(platform, "acme-key", CANARIES["acme-key"])
    wait_for(lambda: answer().status_code == 200, timeout=90, what=lambda: answer().text)
    assert answer().json() == digests("acme-key")[0]
    wait_for(lambda: "handed over {'key': 'secret://acme-key'}" in log.read_text(), what="the log has the reference")


async def everything_said(platform: Platform) -> dict[str, str]:
    """What each door of the platform says, by door."""
    found = {}
    for plural in ("modules", "workers", "moduleevents", "organisations", "moduleaccesses"):
        found[plural] = platform.admin.get(f"{platform.control}/apis/modplane.dev/v1/{plural}").text
    for base in (platform.control, platform.door):
        for path in ("/modules/system/info", "/ready", "/openapi.json"):
            found[base + path] = platform.admin.get(base + path).text
    management = f"{platform.control}/api/v1/module-management/modules"
    found["management"] = platform.admin.get(management).text + platform.admin.get(f"{management}/vault/status").text
    found["problem"] = platform.call("v1/vault/blurt").text + platform.call("v1/leak-register/x").text
    found["get"] = platform.cli("get", "modules", "-o", "yaml")
    found["events"] = platform.cli("events")
    changed = manifest("vault", "Vault", {**CONFIG, "env": "secret://other-key", "turn": 2})
    (platform.home / "changed.json").write_text(changed)
    found["diff"] = platform.cli("diff", "-f", "changed.json", check=None)
    async with platform.nats("controlplane") as client:
        for stream in (names.STREAM_EVENTS, f"KV_{names.BUCKET_DESIRED}", f"KV_{names.BUCKET_WORKERS}"):
            reader = await client.jetstream().subscribe(
                ">", stream=stream, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL), ordered_consumer=True
            )
            count = (await client.jetstream().stream_info(stream)).state.messages
            found[stream] = "".join([(await reader.next_msg(timeout=10)).data.decode() for _ in range(count)])
            await reader.unsubscribe()
    return found


async def test_no_door_says_a_value_and_the_module_tells_it_to_nobody(platform: Platform) -> None:
    found = await everything_said(platform)
    for door in (
        "modules",
        "moduleaccesses",
        "get",
        "diff",
        f"KV_{names.BUCKET_DESIRED}",
        f"KV_{names.BUCKET_WORKERS}",
    ):
        assert "secret://" in found[door], door
    for door, text in found.items():
        for spelling in spellings():
            assert spelling not in text, door


def test_no_file_of_the_platform_holds_a_value(platform: Platform) -> None:
    platform.call("v1/vault/blurt")
    log = platform.data / "logs" / "w0.log"
    for words in (
        "printed {'deep': {'late': 'secret://late-key'}",
        "logged secret://env-key",
        "RuntimeError: raised secret://",
    ):
        wait_for(lambda words=words: words in log.read_text(), timeout=30, what=words)
    files = [file for file in platform.home.rglob("*") if file.is_file() and file.parent.name != "secrets"]
    assert {"modplane.db", "w0.db", "w0.log", "nats.log", "controlplane.log", "up.log"} <= {file.name for file in files}
    for file in files:
        data = file.read_bytes()
        for spelling in spellings():
            assert spelling.encode() not in data, file


def test_only_workers_are_given_the_secrets_of_the_environment(platform: Platform) -> None:
    for words in (("controlplane", "serve"), ("nats-server",)):
        environment = Path(f"/proc/{platform.child(*words).pid}/environ").read_bytes()
        assert b"MODPLANE_SECRET_" not in environment
    assert b"MODPLANE_SECRET_" in Path(f"/proc/{platform.child('dataplane', 'worker').pid}/environ").read_bytes()


def spellings() -> set[str]:
    """The values as they stand, and as JSON and Python write them."""
    return {spelling for value in CANARIES.values() for spelling in (value, json.dumps(value)[1:-1], repr(value)[1:-1])}


def test_an_inline_secret_is_refused_at_its_line_and_stored_nowhere(platform: Platform) -> None:
    key = f"-----BEGIN PRIVATE KEY-----\\n{time.time_ns()}-inline-canary"
    text = "\n".join(
        [
            *("apiVersion: modplane.dev/v1", "kind: Module", "metadata: {name: inline}", "spec:"),
            *("  entryPoint: vault:Vault", "  config:", f'    key: "{key}"', ""),
        ]
    )
    refused = platform.cli("apply", "-f", "-", stdin=text, check=1)
    assert "<stdin>:7:10: /spec/config/key: spec.config.key holds a private key" in refused
    assert "inline-canary" not in refused
    answer = platform.admin.post(
        f"{platform.control}/apis/modplane.dev/v1/modules",
        json={"metadata": {"name": "inline"}, "spec": {"entryPoint": "vault:Vault", "config": {"key": key}}},
    )
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["reason"] == "FieldValueSecret"
    assert "inline-canary" not in answer.text
