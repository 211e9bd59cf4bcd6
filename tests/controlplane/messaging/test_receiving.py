"""Worker reports become fleet news at once, and Worker objects when something changed."""

import asyncio
from datetime import UTC, datetime

import pytest

from controlplane.messaging import receiving, rolls
from controlplane.store.records import Record
from schemas import names
from schemas.kits import buckets
from schemas.reports import WorkerReport, WorkerState
from tests.controlplane.messaging.conftest import Leader
from tests.doubles.polling import until

START = datetime(2030, 1, 1, tzinfo=UTC)


def report(worker: str = "w0", boot: str = "b1", sequence: int = 1, **about: object) -> WorkerReport:
    """One report of a worker that is in sync."""
    base = WorkerReport(
        id=worker,
        boot=boot,
        sequence=sequence,
        state=WorkerState.SYNCED,
        synced=True,
        labels={"zone": "a"},
        started_at=START,
        reported_at=START,
    )
    return base.model_copy(update=about)


async def say(leader: Leader, said: WorkerReport, *, key: str | None = None) -> None:
    session = await leader.link.session()
    await until(lambda: buckets.info(session, names.BUCKET_WORKERS))
    body = said.model_dump_json(by_alias=True, exclude_none=True).encode()
    await buckets.put(session, names.BUCKET_WORKERS, key or said.id, body, ttl=60)


async def worker(leader: Leader, name: str = "w0") -> Record | None:
    return await leader.store.read(lambda reading: reading.get("Worker", name))


async def events_of(leader: Leader, name: str = "w0") -> list[str]:
    """What subscribers were told of a worker, oldest first."""
    session = await leader.link.session()
    info = await session.js.stream_info(names.STREAM_EVENTS)
    found = []
    for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
        message = await session.js.get_msg(names.STREAM_EVENTS, sequence)
        if message.subject is not None and message.subject.startswith(f"modplane.events.worker.{name}."):
            found.append(message.subject.rpartition(".")[2])
    return found


@pytest.fixture
async def heard(leader: Leader) -> Leader:
    """A leader that follows the reports already."""
    said = 0

    async def listens() -> bool:
        nonlocal said
        said += 1
        await say(leader, report("listener", sequence=said))
        return bool(leader.fleet.reports)

    await until(listens, step=0.05)
    await until(lambda: leader.fleet.reports[-1].sequence == said)
    leader.fleet.reports.clear()
    return leader


async def test_a_report_reaches_the_fleet_and_becomes_a_worker_object_and_an_event(heard: Leader) -> None:
    await say(heard, report())
    await until(lambda: [said.id for said in heard.fleet.reports] == ["w0"])
    found = await until(lambda: worker(heard))
    assert found is not None
    assert found.labels == {"zone": "a"}
    assert found.status["report"]["boot"] == "b1"
    assert found.status["lost"] is False
    await until(lambda: events_of(heard))
    assert await events_of(heard) == ["joined"]


async def test_a_report_with_nothing_new_is_told_but_not_written(heard: Leader) -> None:
    await say(heard, report())
    first = await until(lambda: worker(heard))
    await say(heard, report(sequence=2, loop_lag_seconds=0.5, memory_bytes=9, reported_at=datetime.now(UTC)))
    await say(heard, report("w1"))
    await until(lambda: worker(heard, "w1"))
    assert len(heard.fleet.reports) == 3
    assert await worker(heard) == first


async def test_a_changed_report_is_written(heard: Leader) -> None:
    await say(heard, report())
    await until(lambda: worker(heard))
    await say(heard, report(sequence=2, applied_epoch=1, applied_revision=4))

    async def applied() -> bool:
        found = await worker(heard)
        return found is not None and found.status["report"]["appliedRevision"] == 4

    await until(applied)


async def test_a_worker_that_leaves_is_gone_at_once(heard: Leader) -> None:
    await say(heard, report())
    await until(lambda: worker(heard))
    await say(heard, report(sequence=2, leaving=True))
    await until(lambda: heard.fleet.left == ["w0"])

    async def removed() -> bool:
        return await worker(heard) is None

    await until(removed)


async def test_a_deleted_report_means_the_same_and_an_expired_one_means_nothing(heard: Leader) -> None:
    session = await heard.link.session()
    await say(heard, report("w0"))
    await say(heard, report("w1"))
    await until(lambda: worker(heard, "w1"))
    body = report("w1", sequence=2).model_dump_json(by_alias=True).encode()
    await buckets.put(session, names.BUCKET_WORKERS, "w1", body, ttl=1)
    bucket = await session.js.key_value(names.BUCKET_WORKERS)
    await bucket.delete("w0")
    await until(lambda: heard.fleet.left == ["w0"])

    async def expired() -> bool:
        return (await buckets.read(session, names.BUCKET_WORKERS))["w1"].operation is buckets.Operation.EXPIRED

    await until(expired)
    assert await worker(heard, "w1") is not None
    assert heard.fleet.left == ["w0"]


async def test_nonsense_is_refused_and_harms_nobody(heard: Leader) -> None:
    session = await heard.link.session()
    await buckets.put(session, names.BUCKET_WORKERS, "w0", b"{")
    await buckets.put(session, names.BUCKET_WORKERS, "w0", b'{"id": "w0"}')
    await say(heard, report("w1"), key="w2")
    await say(heard, report("w3"))
    await until(lambda: [said.id for said in heard.fleet.reports] == ["w3"])
    assert await worker(heard) is None


async def test_a_new_boot_joins_again(heard: Leader) -> None:
    await say(heard, report())
    await until(lambda: worker(heard))
    await say(heard, report(boot="b2"))

    async def twice() -> bool:
        return await events_of(heard) == ["joined", "joined"]

    await until(twice)


async def test_a_silent_worker_is_lost_and_can_come_back(heard: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    await say(heard, report())
    await until(lambda: worker(heard))
    await until(lambda: heard.fleet.beats)
    monkeypatch.setattr(rolls, "LOST_SECONDS", 0.5)

    async def lost() -> bool:
        found = await worker(heard)
        return found is not None and found.status["lost"]

    await until(lost)
    monkeypatch.setattr(rolls, "LOST_SECONDS", 10.0)
    await say(heard, report(sequence=2))

    async def back() -> bool:
        found = await worker(heard)
        return found is not None and not found.status["lost"]

    await until(back)

    async def told() -> bool:
        return await events_of(heard) == ["joined", "lost", "joined"]

    await until(told)


async def restarted(leader: Leader) -> list[str]:
    """Who is heard first by a control plane that starts while the report of `old` lies in the bucket."""
    await say(leader, report("old"))
    await until(lambda: worker(leader, "old"))
    await leader.tasks.stop()
    leader.fleet.reports.clear()
    leader.start()

    async def listens() -> bool:
        await say(leader, report("new", sequence=len(leader.fleet.reports) + 1))
        return "new" in {said.id for said in leader.fleet.reports}

    await until(listens, step=0.05)
    return sorted({said.id for said in leader.fleet.reports} - {"listener"})


async def test_a_stale_report_from_before_the_start_is_no_sign_of_life(
    heard: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "FRESH_SECONDS", -100.0)
    assert await restarted(heard) == ["new"]


async def test_a_fresh_report_from_before_the_start_is_as_good_as_a_new_one(heard: Leader) -> None:
    assert await restarted(heard) == ["new", "old"]


async def test_reports_go_on_after_nats_forgot_everything(heard: Leader) -> None:
    await heard.nats.kill()
    heard.nats.wipe()
    await heard.nats.start()
    heard.fleet.reports.clear()

    async def hears() -> bool:
        try:
            await say(heard, report(sequence=len(heard.fleet.reports) + 1))
        except Exception:  # noqa: BLE001 - the bucket may be on its way back
            return False
        return bool(heard.fleet.reports)

    await until(hears, timeout=30, step=0.05)


async def test_a_worker_of_our_store_that_is_ahead_of_the_database_is_noticed(heard: Leader) -> None:
    await heard.settled()
    await say(heard, report(store="another", applied_epoch=5, applied_revision=99))
    await say(heard, report("w1", store=heard.store.id, applied_epoch=5, applied_revision=99))

    async def raised() -> bool:
        lease = await heard.store.read(lambda reading: reading.lease())
        return lease is not None and lease.epoch == 6

    await until(raised)


async def test_two_hundred_workers_are_written_together(heard: Leader) -> None:
    before = heard.store.commits
    await asyncio.gather(*(say(heard, report(f"w{n}")) for n in range(200)))

    async def all_there() -> bool:
        return await heard.store.read(lambda reading: reading.count("Worker")) == 201

    await until(all_there)
    assert heard.store.commits - before < 150
