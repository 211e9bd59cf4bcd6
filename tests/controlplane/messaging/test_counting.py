"""What workers counted reaches the measurements and the rows, once, whatever is lost, late, repeated or restarted."""

import time

from sqlalchemy import select

from controlplane.messaging import streams
from controlplane.store.tables import ACCESS_ROWS
from controlplane.telemetry import totals
from schemas import names
from schemas.kits import buckets
from schemas.measures import AccessMeasure, Measures, RouteMeasure
from tests.controlplane.messaging.conftest import Leader
from tests.doubles import records
from tests.doubles.polling import until

NOW = time.time()


def measures(boot: str, sequence: int, calls: int, worker: str = "w0") -> bytes:
    route = RouteMeasure(
        number=1, module="analytics-core", version="1.0.0", method="GET", route="/x", calls=calls, seconds=1.0, last=NOW
    )
    access = AccessMeasure(organisation="acme", module="analytics-core", calls=calls, last=NOW)
    report = Measures(worker=worker, boot=boot, sequence=sequence, at=NOW, routes=[route], accesses=[access])
    return report.model_dump_json(by_alias=True).encode()


async def say(leader: Leader, body: bytes) -> None:
    session = await leader.link.session()
    await until(lambda: buckets.stream_info(session, names.STREAM_METRICS))
    await session.js.publish(names.metrics_subject("w0"), body)


async def counted(leader: Leader) -> tuple[int, int]:
    """By the row, and by the measurements."""
    rows = await leader.store.read(lambda reading: reading.ask(select(ACCESS_ROWS.c.access_count)))
    found = await leader.measured.ask(lambda connection: totals.read(connection, totals.Asked()))
    return int(rows[0][0]), sum(total.calls for _, _, total in found)


async def waiting(leader: Leader) -> int:
    """Messages that nobody has taken."""
    info = await buckets.stream_info(await leader.link.session(), names.STREAM_METRICS)
    return -1 if info is None else info.messages


async def test_counts_of_all_boots_are_added_once_also_by_the_next_leader(leader: Leader) -> None:
    await leader.store.write(lambda tx: tx.put(records.access()))
    leader.start()
    await say(leader, b"nonsense")
    await say(leader, measures("b1", 1, 100, worker="another"))
    await say(leader, measures("b1", 2, 3))
    await until(lambda: _is(leader, 3))
    await leader.tasks.stop()
    await say(leader, measures("b1", 5, 7))
    await say(leader, measures("b1", 3, 4))
    await say(leader, measures("b1", 5, 7))
    await say(leader, measures("b2", 1, 5))
    assert await waiting(leader) == 4
    leader.start()
    await until(lambda: _is(leader, 12))
    await until(lambda: _is_empty(leader))
    assert await counted(leader) == (12, 12)


async def test_a_stream_that_is_lost_is_made_anew(leader: Leader) -> None:
    await leader.store.write(lambda tx: tx.put(records.access()))
    leader.start()
    await say(leader, measures("b1", 1, 3))
    await until(lambda: _is(leader, 3))
    session = await leader.link.session()
    assert streams.METRICS.name is not None
    await session.js.delete_stream(streams.METRICS.name)
    await say(leader, measures("b1", 2, 9))
    await until(lambda: _is(leader, 9))


async def _is(leader: Leader, count: int) -> bool:
    return await counted(leader) == (count, count)


async def _is_empty(leader: Leader) -> bool:
    return await waiting(leader) == 0
