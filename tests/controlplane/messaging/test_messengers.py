"""The whole messaging under faults that come while commits go on."""

import asyncio

from schemas.documents import DesiredDocument
from tests.controlplane.messaging.conftest import Leader
from tests.doubles.polling import until

WALK = ("DISCOVERED", "VALIDATED", "REGISTERED", "ACTIVE")


async def all_told(leader: Leader, walks: list[list[str]]) -> None:
    """Every event is on the stream, those of one module in order; repeats only under the same id."""

    async def there() -> bool:
        found = list(dict.fromkeys(await leader.event_ids()))
        known = {event for ids in walks for event in ids}
        assert set(found) <= known
        return len(found) == len(known)

    await until(there, timeout=30, step=0.1)
    found = list(dict.fromkeys(await leader.event_ids()))
    for ids in walks:
        assert [event for event in found if event in set(ids)] == ids


async def test_commits_go_on_while_nats_is_killed_again_and_again(leader: Leader) -> None:
    walks: list[list[str]] = []

    async def commit(name: str) -> None:
        await leader.desire(name, "one")
        walks.append(await leader.transitions(name, *WALK))
        await leader.desire(name, "two")

    for round_ in range(3):
        work = asyncio.gather(*(commit(f"m{round_}-{n}") for n in range(15)))
        await leader.nats.kill()
        await work
        await leader.nats.start()
    await leader.settled(timeout=30)
    await all_told(leader, walks)
    entries = await leader.bucket()
    del entries["head"]
    assert len(entries) == 45
    assert {DesiredDocument.model_validate_json(entry.value).payload for entry in entries.values()} == {"two"}


async def test_a_client_whose_read_loop_died_holds_nothing_up_for_long(leader: Leader) -> None:
    await leader.settled()
    zombie = await leader.link.session()
    assert zombie.client._reading_task is not None
    zombie.client._reading_task.cancel()
    await leader.desire("a")
    walk = await leader.transitions("a", *WALK)
    await until(lambda: leader.link.generation > zombie.generation, timeout=30)
    await leader.settled()
    await all_told(leader, [walk])


async def test_stopping_under_load_leaves_the_rest_to_the_next_start(leader: Leader) -> None:
    await leader.settled()
    work = asyncio.gather(*(leader.transitions(f"m{n}", *WALK) for n in range(30)))
    await leader.desire_many(30)
    await leader.tasks.stop()
    walks = await work
    assert leader.messaging.projection.head is None
    leader.start()
    await leader.settled()
    await all_told(leader, walks)
