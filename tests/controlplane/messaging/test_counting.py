"""What workers counted reaches the rows, once."""

from datetime import UTC, datetime

from sqlalchemy import select

from controlplane.store.tables import ACCESS_ROWS
from schemas import names
from schemas.kits import buckets
from schemas.usage import AccessCount, UsageReport
from tests.controlplane.messaging.conftest import Leader
from tests.doubles import records
from tests.doubles.polling import until


async def say(leader: Leader, body: bytes, key: str) -> None:
    session = await leader.link.session()
    await until(lambda: buckets.info(session, names.BUCKET_USAGE))
    await buckets.put(session, names.BUCKET_USAGE, key, body, ttl=60)


async def tell(leader: Leader, boot: str, count: int, *, key: str = "") -> None:
    last = datetime(2030, 1, 1, tzinfo=UTC)
    each = AccessCount(organisation="acme", module="analytics-core", count=count, last=last)
    report = UsageReport(worker="w0", boot=boot, counts=[each])
    await say(leader, report.model_dump_json(by_alias=True).encode(), key or report.key)


async def counted(leader: Leader) -> int:
    found = await leader.store.read(lambda reading: reading.ask(select(ACCESS_ROWS.c.access_count)))
    return int(found[0][0])


async def test_counts_of_all_boots_are_added_also_by_the_next_leader(leader: Leader) -> None:
    await leader.store.write(lambda tx: tx.put(records.access()))
    leader.start()
    await say(leader, b"nonsense", "w0.b0.0")
    await tell(leader, "b1", 100, key="w0.other.0")
    await tell(leader, "b1", 3)
    await until(lambda: _is(leader, 3))
    await leader.tasks.stop()
    await tell(leader, "b1", 4)
    await tell(leader, "b2", 5)
    leader.start()
    await until(lambda: _is(leader, 9))
    assert await counted(leader) == 9


async def _is(leader: Leader, count: int) -> bool:
    return await counted(leader) == count
