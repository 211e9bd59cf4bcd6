"""A module's source packed, inspected and built as the system does it, in this process."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from controlplane.discovery import packing
from dataplane.inspection import examining
from dataplane.runtime import building
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from tests.doubles import sources


class Packed:
    """One source of a modules path, in a code store of its own."""

    def __init__(self, modules: Path, name: str, code_root: Path) -> None:
        self.name = name
        self.code_root = code_root
        place = packing.locate(modules, name)
        assert place is not None, f"there is no source {name} in {modules}"
        self.digest, _ = packing.pack(place, code_root)

    def inspected(self, entry_point: str | None = None) -> InspectionReport:
        """What inspection says of it, or of one entry point."""
        root = self.code_root / digests.folder_name(self.digest)
        request = InspectionRequest(
            id="1", root=str(root), source_path=self.name, digest=self.digest, entry_point=entry_point
        )
        report = examining.examine(request)
        assert report.outcome is InspectionOutcome.OK, report.message
        return report

    def built(self, entry_point: str, config: dict[str, Any] | None = None) -> building.Instance:
        """An instance; every route of it is open here, as policies are the gateway's business."""
        routes = [("|".join(route.methods), route.path) for route in self.inspected(entry_point).routes]
        wanted = sources.desired(self.digest, entry_point, routes, config=config or {})
        return building.build(wanted, name=self.name, uid="u", generation=1, code_root=self.code_root)


def ask(instance: building.Instance, path: str, body: Any = None) -> httpx.Response:
    """Start the instance, GET ``path`` (with a body: POST), and stop it."""

    async def call() -> httpx.Response:
        await instance.start(5)
        transport = httpx.ASGITransport(instance.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            answer = await client.request("GET" if body is None else "POST", path, json=body)
        await instance.stop(5)
        return answer

    return asyncio.run(call())
