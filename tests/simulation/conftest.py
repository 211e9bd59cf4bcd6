"""Runs scenarios in a simulated world; the seed is in the failure."""

import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.virtualloop import VirtualLoop
from tests.simulation.world import World

Scenario = Callable[[World], Coroutine[Any, Any, None]]
Simulate = Callable[..., VirtualLoop]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where simulated databases lie: in memory, if the machine has such a place."""
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="modplane-sim-", dir=memory if memory.is_dir() else None))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def simulate(folder: Path) -> Simulate:
    """Run a scenario in a world of its own on a virtual loop."""

    def run(
        scenario: Scenario,
        seed: int = 0,
        on_turn: Callable[[VirtualLoop, World], None] | None = None,
        **options: Any,
    ) -> VirtualLoop:
        loop = VirtualLoop(seed)

        async def body() -> None:
            world = World(folder, seed, **options)
            if on_turn is not None:
                loop.on_turn = lambda _: on_turn(loop, world)
            try:
                await scenario(world)
            finally:
                loop.on_turn = None
                await world.close()

        loop.run(body())
        return loop

    return run
