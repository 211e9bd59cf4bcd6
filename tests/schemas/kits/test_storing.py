"""A server that answers and stores nothing is told from one that is slow, frozen or away."""

import contextlib
from dataclasses import dataclass, field

import pytest
from nats.errors import Error as NatsError

from schemas.kits import storing
from schemas.kits.natslink import LinkAmbiguousError, LinkError
from tests.doubles.clock import FakeClock


@dataclass
class Link:
    """As much of a connection as is looked at."""

    generation: int = 1
    connected: bool = True


@dataclass
class Rig:
    """Writes by hand."""

    link: Link = field(default_factory=Link)
    clock: FakeClock = field(default_factory=FakeClock)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.storage = storing.Storing(self.link, self.clock, self.told.append)  # type: ignore[arg-type]  # a part of it

    async def write(self, error: Exception | None = None, stream: str = "S", seconds: float = 5.0) -> None:
        with contextlib.suppress(NatsError, LinkError), self.storage.write(stream):
            await self.clock.advance(seconds)
            if error is not None:
                raise error


LOST = LinkAmbiguousError("no answer in 5.0 s")


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_two_deadlines_without_any_acknowledgement_are_told_and_then_counted_anew(rig: Rig) -> None:
    await rig.write(LOST)
    assert rig.told == []
    await rig.write(LOST)
    assert rig.told == ["no write to S was acknowledged for 10 s"]
    await rig.write(LOST)
    assert len(rig.told) == 1
    await rig.write(LOST)
    assert len(rig.told) == 2


async def test_one_acknowledgement_begins_the_count_anew(rig: Rig) -> None:
    await rig.write(LOST)
    await rig.write()
    await rig.write(LOST)
    assert rig.told == []


async def test_what_another_stream_stores_says_nothing_of_this_one(rig: Rig) -> None:
    await rig.write(LOST)
    await rig.write(stream="T")
    await rig.write(LOST)
    assert len(rig.told) == 1


async def test_another_connection_begins_the_count_anew(rig: Rig) -> None:
    await rig.write(LOST)
    rig.link.generation += 1
    await rig.write(LOST)
    assert rig.told == []


async def test_a_connection_that_has_ended_explains_it(rig: Rig) -> None:
    await rig.write(LOST)
    rig.link.connected = False
    await rig.write(LOST)
    assert rig.told == []


@pytest.mark.parametrize("error", [LinkError("nothing was sent"), NatsError("no such stream")])
async def test_a_write_that_was_answered_or_never_sent_is_none_of_it(rig: Rig, error: Exception) -> None:
    for _ in range(4):
        await rig.write(error)
    assert rig.told == []
