"""A worker that has grown too large asks for a successor: once, with a reason, and not because of a peak."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from dataplane import recycling
from tests.doubles import sources

MIB = 2**20


class Asked:
    def __init__(self, limit: int, pinned: int = 0) -> None:
        self.reasons: list[str] = []
        self.recycler = recycling.Recycler(limit * MIB, lambda: pinned, self.reasons.append)

    def look(self, *mebibytes: int) -> int:
        for each in mebibytes:
            self.recycler.look(each * MIB)
        return len(self.reasons)


def test_without_a_limit_nothing_is_asked() -> None:
    assert Asked(0).look(*range(1, 10_000, 100)) == 0


def test_it_asks_once_when_memory_stays_above_the_limit() -> None:
    asked = Asked(100)
    assert asked.look(50, 101, 99, 101, 102, 99) == 0
    assert asked.look(101, 102, 103) == 1
    assert asked.recycler.asked
    assert asked.look(200, 300, 400) == 1
    assert asked.reasons == ["memory is 103 MiB, above the limit of 100 MiB"]


def test_the_reason_names_what_could_not_be_unloaded() -> None:
    asked = Asked(100, pinned=3)
    asked.look(50, 101, 101, 101)
    assert "3 unloaded generations are still held" in asked.reasons[0]


def test_a_worker_that_needs_the_limit_from_the_start_does_not_ask_at_once_and_for_ever() -> None:
    asked = Asked(100)
    assert asked.look(120, 121, 122, 123, 149) == 0
    assert asked.look(151, 152, 153) == 1


@pytest.mark.slow
@pytest.mark.processes
async def test_a_worker_process_asks_on_standard_output_and_serves_on(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow = """
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

class Small(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="small", version="1.0.0")

    def register_routes(self, router):
        kept = []

        @router.post("/grow")
        @require_module_auth("NONE")
        async def grow():
            kept.append(b"x" * 2**27)
            return len(kept)
"""
    digest = sources.store(workers.code_root, {"small.py": grow})
    await workers.leader.desire("small", sources.desired(digest, "small:Small", [("POST", "/grow")]))
    monkeypatch.setenv("MODPLANE_MEMORY_LIMIT_BYTES", str(128 * MIB))
    process = await workers.start()
    own = (await process.ready())["address"]
    async with httpx.AsyncClient() as client:
        path = f"{own}/api/v1/modules/v1/small/grow"
        assert (await client.post(path)).json() == 1
        line = await asyncio.wait_for(process.process.stdout.readline(), 60)
        said = json.loads(line)
        assert (said["event"], said["id"]) == ("recycle", "w0")
        assert "above the limit of 128 MiB" in said["reason"]
        assert (await client.post(path)).json() == 2
    assert await process.end() == 0
