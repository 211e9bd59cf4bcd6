"""A whole modplane as a user runs it: `modplane up` in its own folders, driven from outside.

Real processes, real NATS, real SQLite.  Everything is on free ports of 127.0.0.1 and ends with the test.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import nats
import psutil
from nats.aio.client import Client

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
MODPLANE = [sys.executable, "-m", "controlplane.cli.main"]


BY_HAND = {"MODPLANE_AUTO_DISCOVER": "false"}
"""For tests that apply manifests of code in the modules path: discovery does not come first or between."""


class Platform:
    """One running `modplane up`."""

    def __init__(
        self,
        home: Path,
        *,
        workers: int = 1,
        examples: bool = True,
        environment: dict[str, str] | None = None,
        words: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.environment = {**os.environ, **(environment or {})}
        self.data = home / "data"
        self.modules = home / "modules"
        self.workers = workers
        self.words = list(words)
        self.endpoints: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        """For https to the control plane: knows its authority once it has started."""
        self.http = httpx.Client(timeout=30, verify=self.trust)
        self.admin = self.administrator()
        """For the control plane, with an administrator's token."""
        home.mkdir(parents=True, exist_ok=True)
        if examples:
            shutil.copytree(EXAMPLES, self.modules, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            self.modules.mkdir(exist_ok=True)

    def start(self, *, timeout: float = 110.0) -> None:
        """Start it and wait until ``endpoints.json`` says where it is."""
        (self.data / "endpoints.json").unlink(missing_ok=True)
        self.log = (self.home / "up.log").open("ab")
        self.process = subprocess.Popen(
            [
                *MODPLANE, "up", "--data-dir", str(self.data), "--modules", str(self.modules),
                "--workers", str(self.workers), "--control-port", "0", "--data-port", "0", "--nats-port", "0",
                *self.words,
            ],
            stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.home,
            env=self.environment,
        )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not (self.data / "endpoints.json").exists():
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with {self.process.returncode}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"up is not ready after {timeout} s:\n{self.output()}")
            pause()
        self.endpoints = json.loads((self.data / "endpoints.json").read_text())
        self.trust.load_verify_locations(self.endpoints["caFile"])

    def administrator(self) -> httpx.Client:
        """A client of one's own with an administrator's token."""

        def with_token(request: httpx.Request) -> httpx.Request:
            token = Path(self.endpoints["tokenFile"]).read_text().strip()
            request.headers["authorization"] = f"Bearer {token}"
            return request

        return httpx.Client(timeout=30, auth=with_token, verify=self.trust)

    def stop(self, sign: signal.Signals = signal.SIGTERM, *, timeout: float = 60.0) -> int:
        """Ask it to stop and wait; returns its exit code.

        Our own connections go first: a worker that drains gives an idle client its whole keep-alive time.
        """
        if self.process is None:
            return 0
        for client in (self.http, self.admin):
            client.close()
        self.http, self.admin = httpx.Client(timeout=30, verify=self.trust), self.administrator()
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            for child in [*self.children(), psutil.Process(self.process.pid)]:
                child.kill()
            raise AssertionError(f"up did not stop within {timeout} s:\n{self.output()}") from None
        self.log.close()
        return code

    def output(self) -> str:
        """Everything that it printed."""
        return (self.home / "up.log").read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Every process below `up`."""
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def child(self, *words: str) -> psutil.Process:
        """The child whose command line has all ``words``."""
        for child in self.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(child.cmdline())
                if all(word in line for word in words):
                    return child
        raise AssertionError(f"no child with {words}")

    def refresh(self) -> list[str]:
        """Read ``endpoints.json`` again; returns the workers' own addresses, by slot."""
        self.endpoints = json.loads((self.data / "endpoints.json").read_text())
        return list(self.endpoints["workers"])

    @property
    def control(self) -> str:
        """The control plane's URL."""
        return str(self.endpoints["controlPlane"])

    @property
    def door(self) -> str:
        """The data plane's URL."""
        return str(self.endpoints["dataPlane"])

    def cli(self, *words: str, check: int | None = 0, stdin: str | None = None, timeout: float = 60) -> str:
        """Run ``modplane WORDS`` as a user; returns stdout."""
        done = subprocess.run(
            [*MODPLANE, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self.environment, "MODPLANE_SERVER": self.control, "MODPLANE_DATA_DIR": str(self.data)},
            cwd=self.home,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, (
                f"{words} → {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.output()}"
            )
        return done.stdout if check in (None, 0) else done.stdout + done.stderr

    def object(self, plural: str, name: str) -> dict[str, Any] | None:
        """One object as the API shows it, or None."""
        answer = self.admin.get(f"{self.control}/apis/modplane.dev/v1/{plural}/{name}")
        return answer.json() if answer.status_code == 200 else None

    def state(self, name: str) -> str | None:
        """A module's state, or None."""
        found = self.object("modules", name)
        return found["status"].get("state") if found else None

    def wait_state(self, name: str, state: str | None, *, timeout: float = 60.0) -> None:
        """Wait until a module is in ``state`` (None: gone)."""
        wait_for(
            lambda: self.state(name) == state,
            timeout=timeout,
            what=lambda: f"{name} {state}: {self.object('modules', name)}\n{self.output()}",
        )

    def call(self, path: str, method: str = "GET", **more: Any) -> httpx.Response:
        """Call a module's route on the data port; ``path`` from the version on."""
        return self.http.request(method, f"{self.door}/api/v1/modules/{path}", **more)

    def database(self) -> sqlite3.Connection:
        """The database as a person opens it."""
        return sqlite3.connect(self.data / "modplane.db", timeout=30, isolation_level=None)

    @contextlib.asynccontextmanager
    async def nats(self, user: str = "") -> AsyncIterator[Client]:
        """A NATS client: a reader's as everybody may have it, or with the key of ``user``."""
        seed = str(self.data / "nats" / "keys" / f"{user}.nk") if user else None
        address = self.endpoints["nats"].rpartition("@")[2] if user else self.endpoints["nats"]
        prefix = f"_INBOX_{user}" if user else "_INBOX"
        client = await nats.connect(address, nkeys_seed=seed, inbox_prefix=prefix)
        try:
            yield client
        finally:
            await client.close()


def lives(process: psutil.Process) -> bool:
    """Whether a process still does something; it may end between any two questions."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pause(seconds: float = 0.05) -> None:
    """The step of polling for a real process."""
    import threading

    threading.Event().wait(seconds)


def wait_for(predicate: Any, *, timeout: float = 60.0, what: Any = "", step: float = 0.05) -> Any:
    """Poll until ``predicate()`` is true; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        pause(step)


@contextlib.contextmanager
def running(home: Path, **options: Any) -> Iterator[Platform]:
    """A platform for one test; everything it started is gone afterwards."""
    platform = Platform(home, **options)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()
        platform.http.close()


PLAIN = '''"""A module with one open route."""

from typing import Any

from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth


class {cls}(BaseModuleRouter):
    @classmethod
    def create_instance(cls) -> "{cls}":
        return cls(ModuleMetadata(module_id="{id}", name="{id}", version="{version}", module_type=ModuleType.CORE))

    def register_routes(self, router: APIRouter) -> None:
        @router.get("{path}")
        @require_module_auth(auth_level="NONE")
        async def hello() -> dict[str, Any]:
            return {{"module": "{id}", "say": "{say}"}}

        @router.get("/guarded")
        async def guarded() -> dict[str, Any]:
            return {{"secret": True}}
'''


def module_source(module_id: str, *, path: str = "/hello", say: str = "hello", version: str = "1.0.0") -> str:
    """Source of a plain module."""
    cls = "".join(word.title() for word in module_id.split("_")) + "Module"
    return PLAIN.format(cls=cls, id=module_id, path=path, say=say, version=version)


def manifest(module_id: str, **spec: Any) -> str:
    """A manifest (JSON is YAML) of a plain module."""
    cls = "".join(word.title() for word in module_id.split("_")) + "Module"
    return json.dumps(
        {
            "apiVersion": "modplane.dev/v1",
            "kind": "Module",
            "metadata": {"name": module_id.replace("_", "-")},
            "spec": {"entryPoint": f"{module_id}:{cls}", "version": "1.0.0", **spec},
        }
    )
