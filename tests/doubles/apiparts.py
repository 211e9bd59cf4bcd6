"""What the API needs around it: sources, a discoverer, and documents to write."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from controlplane import writing
from controlplane.api import apps, authenticating, authorising
from controlplane.store import stores
from controlplane.telemetry import measurements
from schemas import kinds
from schemas.kits.clocks import Clock
from schemas.kits.tokens.verifying import Verifier
from schemas.meta import Json
from tests.doubles.clock import FakeClock

MODULES = "/apis/modplane.dev/v1/modules"


def digest(character: str) -> str:
    return "sha256:" + character * 64


@dataclass
class Sources:
    """Paths and the digests of what lies there."""

    digests: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve_all(self, paths: Collection[str]) -> Mapping[str, writing.Digest]:
        self.asked += paths
        return {path: self.digests.get(path) for path in paths}


@dataclass
class Discoverer:
    """Remembers how often it was asked, and whether to prune."""

    asked: int = 0
    pruned: int = 0

    async def discover(self, *, prune: bool = False) -> Json:
        self.asked += 1
        self.pruned += prune
        return {"found": 2, "applied": []}


@dataclass
class Parts:
    """A running API without a network, and everything behind it."""

    store: stores.Store
    clock: Clock
    sources: Sources
    discoverer: Discoverer
    writer: writing.Writer
    api: apps.Api
    client: httpx.AsyncClient
    checks: Json
    measured: measurements.Measurements

    async def apply(self, document: Json, manager: str = "tester", **params: Any) -> httpx.Response:
        kind: str = kinds.BY_NAME[document["kind"]].plural
        return await self.client.patch(
            f"/apis/modplane.dev/v1/{kind}/{document['metadata']['name']}",
            params={"fieldManager": manager, **params},
            json=document,
            headers={"content-type": "application/apply-patch+yaml"},
        )


def module(name: str = "orders", labels: dict[str, str] | None = None, **spec: Any) -> Json:
    metadata: Json = {"name": name}
    if labels is not None:
        metadata["labels"] = labels
    entry = {"entryPoint": f"{name.replace('-', '_')}:Orders"}
    return {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": metadata, "spec": {**entry, **spec}}


def organisation(name: str = "acme", **spec: Any) -> Json:
    return {"apiVersion": "modplane.dev/v1", "kind": "Organisation", "metadata": {"name": name}, "spec": spec}


def flag(name: str = "beta", **spec: Any) -> Json:
    return {"apiVersion": "modplane.dev/v1", "kind": "FeatureFlag", "metadata": {"name": name}, "spec": spec}


_TEMPLATES: list[tempfile.TemporaryDirectory[str]] = []


async def _migrated() -> Path:
    """An empty database, migrated once for all tests of this process."""
    if not _TEMPLATES:
        _TEMPLATES.append(tempfile.TemporaryDirectory())
        store = await stores.open_store(f"sqlite:///{_TEMPLATES[0].name}/empty.db", clock=FakeClock())
        await store.close()
    return Path(_TEMPLATES[0].name) / "empty.db"


@asynccontextmanager
async def running(folder: Path, clock: Clock | None = None) -> AsyncIterator[Parts]:
    clock = clock or FakeClock()
    if not (folder / "modplane.db").exists():
        shutil.copyfile(await _migrated(), folder / "modplane.db")
    store = await stores.open_store(f"sqlite:///{folder / 'modplane.db'}", clock=clock)
    sources, discoverer = Sources(), Discoverer()
    writer = writing.Writer(store, clock, sources)
    measured = measurements.Measurements(folder / measurements.PATH, clock.now)
    checks: Json = {"store": {"ok": True, "reason": ""}}
    api = apps.create_app(
        store,
        clock=clock,
        sources=sources,
        discoverer=discoverer,
        readiness=lambda: checks,
        info=lambda: {"version": "1.2.3"},
        version="1.2.3",
        callers=authenticating.Callers(Verifier(()), clock, lambda *_: False, anonymous=authorising.Role.ADMIN),
        writer=writer,
        measured=measured,
    )
    transport = httpx.ASGITransport(app=api)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7400") as client:
            yield Parts(store, clock, sources, discoverer, writer, api, client, checks, measured)
    finally:
        api.close()
        await measured.close()
        await store.close()
