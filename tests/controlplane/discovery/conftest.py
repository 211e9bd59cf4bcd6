"""A real store and writer with discovery over folders of the test's own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controlplane import writing
from controlplane.discovery import discovering, rows
from controlplane.store import stores
from controlplane.store.records import Record
from schemas.inspections import InspectionReport, InspectionRequest
from schemas.kits.clocks import SystemClock


@dataclass
class InProcess:
    """Inspects in this process: quick, for code that behaves."""

    host_version: str = "test"
    asked: list[str] = field(default_factory=list)

    async def inspect(self, request: InspectionRequest) -> InspectionReport:
        from dataplane.inspection import examining  # the plane under test never imports the other one

        self.asked.append(request.source_path)
        return examining.examine(request)


@dataclass
class World:
    """Everything that discovery works with."""

    folder: Path
    store: stores.Store
    writer: writing.Writer
    inspector: InProcess
    discovery: discovering.Discovery
    rows: rows.RowEdits
    woken: list[str]

    @property
    def modules(self) -> Path:
        return self.folder / "modules"

    async def module(self, name: str, kind: str = "Module") -> Record:
        record = await self.store.read(lambda reading: reading.get(kind, name))
        assert record is not None, f"{kind} {name} is not there"
        return record

    async def absent(self, name: str, kind: str = "Module") -> bool:
        return await self.store.read(lambda reading: reading.get(kind, name)) is None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = SystemClock()
    store = await stores.open_store(f"sqlite:///{tmp_path / 'modplane.db'}", clock=clock, data_dir=tmp_path)
    inspector = InProcess()
    (tmp_path / "modules").mkdir()
    discovery = discovering.Discovery(
        store, clock, inspector, modules_path=tmp_path / "modules", data_dir=tmp_path / "data", quiet=0.02
    )
    woken: list[str] = []
    edits = rows.RowEdits(store, discovery.writer, clock, wake=woken.append)
    yield World(tmp_path, store, discovery.writer, inspector, discovery, edits, woken)
    await store.close()
