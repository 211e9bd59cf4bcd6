"""Whatever becomes of messages, each call is counted once; and what is old is thinned out without changing a total."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import errors
from controlplane.api import measuring
from controlplane.telemetry import measurements, totals
from controlplane.telemetry.totals import Asked, Total
from schemas import measures
from schemas.kits import sketches
from schemas.measures import AccessMeasure, Measures, RouteMeasure
from tests.doubles.clock import FakeClock

HOUR, DAY = 3_600, 24 * 3_600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def kept(tmp_path: Path, clock: FakeClock) -> AsyncIterator[measurements.Measurements]:
    kept = measurements.Measurements(tmp_path / measurements.PATH, clock.now)
    yield kept
    await kept.close()


def route(calls: int, *, number: int = 1, module: str = "pricing", path: str = "/a") -> RouteMeasure:
    durations = sketches.text({sketches.bucket(0.1): calls} if calls else {})
    return RouteMeasure(
        number=number, module=module, uid="u1", version="1.0.0", method="GET", route=path, calls=calls,
        client_errors=calls // 2, seconds=calls * 0.1, received=calls, sent=2 * calls, last=float(calls), inside=1,
        durations=durations,
    )  # fmt: skip


def message(
    at: float, sequence: int, *routes: RouteMeasure, boot: str = "b1", worker: str = "w0", accesses: int = 0
) -> tuple[str, bytes]:
    told = [AccessMeasure(organisation="acme", module="pricing", calls=accesses, last=at)] if accesses else []
    report = Measures(worker=worker, boot=boot, sequence=sequence, at=at, routes=list(routes), accesses=told)
    return worker, report.model_dump_json(by_alias=True).encode()


async def ask(kept: measurements.Measurements, asked: Asked | None = None) -> list[tuple[totals.Series, Total]]:
    found = await kept.ask(lambda connection: totals.read(connection, asked or Asked()))
    return [(series, total) for _, series, total in found]


async def calls(kept: measurements.Measurements, asked: Asked | None = None) -> int:
    return sum(total.calls for _, total in await ask(kept, asked))


async def test_a_message_is_kept_as_it_was_told(kept: measurements.Measurements, clock: FakeClock) -> None:
    now = clock.now().timestamp()
    (told,) = await kept.take([message(now, 1, route(10), accesses=4)])
    assert told.accesses[0].calls == 4
    ((series, total),) = await ask(kept)
    assert (series.worker, series.module, series.uid, series.route) == ("w0", "pricing", "u1", "/a")
    assert (total.calls, total.errors, total.received, total.sent, total.last) == (10, 5, 10, 20, 10.0)
    assert sketches.quantile(total.buckets, 0.5) == pytest.approx(0.1, rel=sketches.ERROR)
    ((series, total),) = await ask(kept, Asked(organisations=True))
    assert (series.organisation, series.module, total.calls) == ("acme", "pricing", 4)
    assert list((await kept.inside()).values()) == [1]
    await kept.take([message(now, 1, boot="b2")])
    assert await kept.inside() == {}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_lost_late_and_repeated_messages_and_restarts_count_each_call_once(
    tmp_path: Path, data: st.DataObject
) -> None:
    clock = FakeClock()
    (tmp_path / measurements.PATH).unlink(missing_ok=True)
    kept = measurements.Measurements(tmp_path / measurements.PATH, clock.now)
    at, told, sums = clock.now().timestamp(), [], {}
    for boot in ("b1", "b2", "b3"):
        counts = {1: 0, 2: 0}
        for sequence in range(1, data.draw(st.integers(2, 6))):
            number, more = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(0, 5))
            counts[number] += more
            at += data.draw(st.sampled_from([1.0, 40.0, 4_000.0]))
            told.append(message(at, sequence, route(counts[number], number=number), boot=boot))
        told.append(message(at + 1, 99, *(route(calls, number=n) for n, calls in counts.items()), boot=boot))
        sums[boot] = (told[-1], sum(counts.values()))
    lasts = [last for last, _ in sums.values()]
    arriving = data.draw(st.lists(st.sampled_from(told), max_size=20)) + lasts
    arriving = data.draw(st.permutations(arriving))
    try:
        for start in range(0, len(arriving), 4):
            await kept.take(arriving[start : start + 4])
            if data.draw(st.booleans()):
                await kept.close()
                kept = measurements.Measurements(tmp_path / measurements.PATH, clock.now)
            if data.draw(st.booleans()):
                await kept.prune()
        assert await calls(kept) == sum(count for _, count in sums.values())
    finally:
        await kept.close()


async def test_a_range_tells_what_came_within_it(kept: measurements.Measurements, clock: FakeClock) -> None:
    start = clock.now().timestamp() // HOUR * HOUR
    for minute in range(10):
        await kept.take([message(start + 60 * minute + 30, minute + 1, route(10 * (minute + 1)))])
    assert await calls(kept) == 100
    assert await calls(kept, Asked(since=start + 120)) == 80
    assert await calls(kept, Asked(since=start + 120, until=start + 300)) == 30
    assert await calls(kept, Asked(until=start + 60)) == 10
    assert await calls(kept, Asked(since=start + 600)) == 0
    ((_, total),) = await ask(kept, Asked(since=start + 120, until=start + 180))
    assert (total.calls, total.client_errors, sum(total.buckets.values())) == (10, 5, 10)


async def test_what_is_asked_for_is_chosen(kept: measurements.Measurements, clock: FakeClock) -> None:
    now = clock.now().timestamp()
    await kept.take(
        [
            message(now, 1, route(1), route(2, number=2, module="shop")),
            message(now, 1, route(4), worker="w1"),
        ]
    )
    assert await calls(kept, Asked(module="pricing")) == 5
    assert await calls(kept, Asked(worker="w0")) == 3
    found = totals.merged(await ask(kept), lambda series: series.module)
    assert {module: total.calls for module, total in found.items()} == {"pricing": 5, "shop": 2}


async def test_old_minutes_become_hours_and_old_hours_go(kept: measurements.Measurements, clock: FakeClock) -> None:
    start = clock.now().timestamp() // HOUR * HOUR
    for minute in range(120):
        await kept.take([message(start + 60 * minute, minute + 1, route(minute + 1))])
    assert await rows(kept) == 120
    await clock.advance(DAY + HOUR)
    await kept.prune()
    assert await rows(kept) == 61, "the minutes of the second hour are not a day old yet"
    await clock.advance(HOUR)
    await kept.prune()
    assert await rows(kept) == 2
    assert await calls(kept) == 120
    assert await calls(kept, Asked(since=start + HOUR)) == 60
    await kept.take([message(clock.now().timestamp(), 121, route(121))])
    await clock.advance(29.5 * DAY)
    await kept.prune()
    assert (await rows(kept), await calls(kept)) == (2, 121)
    await clock.advance(DAY)
    await kept.prune()
    assert (await rows(kept), await calls(kept)) == (0, 0), "a boot that told nothing for 30 days"


async def rows(kept: measurements.Measurements) -> int:
    return int(await kept.ask(lambda connection: connection.execute("SELECT count(*) FROM readings").fetchone()[0]))


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ('"durations":"[[', '"durations":"[[540,'),
        ('"durations":"[[', '"durations":"[[07,'),
        ('"durations":"[[', '"durations":"[[-1,'),
        ('"durations":"[[', '"durations":"[[1.0,'),
        ('"durations":"[[', '"durations":"[[[1],'),
        ('"durations":"[[', f'"durations":"[[{"7," * 9_999}'),
        ('"durations":"[[', '"durations":" [['),
        ('"durations":"[[', '"durations":"\\u0000[['),
        ("],[1]]", "],[0]]"),
        ("],[1]]", "],[01]]"),
        ("],[1]]", "],[1e9]]"),
        ("],[1]]", "],[10000000000000000]]"),
        ("],[1]]", "],[null]]"),
        ("],[1]]", "],[1,]]"),
        ("],[1]]", "],[1]],[]"),
        ("],[1]]", "],[1]]\\n"),
        ("],[1]]", "]]"),
        ('"calls":1', '"calls":-1'),
        ('"calls":1', '"calls":9007199254740993'),
        ('"calls":1', '"calls":1e30'),
        ('"calls":1', f'"calls":{10**30}'),
        ('"number":1', f'"number":{2**63}'),
        ('"sequence":1', f'"sequence":{2**63}'),
        ('"seconds":0.1', '"seconds":1e999'),
        ('"seconds":0.1', '"seconds":NaN'),
        ('"last":1.0', '"last":1e300'),
        ('"at":', '"at":1e300,"was":'),
        ('"at":', '"at":253402300800,"was":'),
        ('"route":"/a"', '"route":"\\ud800"'),
        ('"route":"/a"', f'"route":"/{"a" * 2_048}"'),
    ],
)
async def test_what_cannot_be_kept_or_shown_is_refused(
    kept: measurements.Measurements, clock: FakeClock, said: str, instead: str
) -> None:
    now = clock.now().timestamp()
    worker, good = message(now, 1, route(1))
    odd = good.replace(said.encode(), instead.encode())
    assert odd != good
    await kept.take([(worker, odd), message(now, 2, route(3, number=2))])
    assert await calls(kept) == 3, "the others of a batch are kept"


async def test_the_largest_numbers_are_kept_and_shown(kept: measurements.Measurements, clock: FakeClock) -> None:
    most = dict.fromkeys(("number", "calls", "seconds", "received", "sent", "inside"), measures.MOST)
    worst = sketches.text(dict.fromkeys(range(540), 10**16 - 1))
    largest = route(1).model_copy(update={**most, "last": 253_402_300_799.0, "durations": worst})
    await kept.take([message(clock.now().timestamp(), measures.MOST, largest)])
    ((_, total),) = await ask(kept)
    assert (total.calls, total.received, len(total.buckets)) == (measures.MOST, measures.MOST, 540)
    assert measuring.told(total)["last_access"].startswith("9999-12-31")


async def test_what_another_version_tells_is_counted(kept: measurements.Measurements, clock: FakeClock) -> None:
    worker, body = message(clock.now().timestamp(), 1, route(5))
    other = body.replace(b'"durations":"', b'"sizes":{"p50":1},"buckets":"')
    assert other != body
    await kept.take([(worker, other)])
    ((_, total),) = await ask(kept)
    assert (total.calls, total.buckets) == (5, {})


async def test_what_cannot_be_trusted_is_refused(kept: measurements.Measurements, clock: FakeClock) -> None:
    now = clock.now().timestamp()
    worker, good = message(now, 1, route(1))
    late = message(now - timedelta(days=8).total_seconds(), 1, route(9), boot="b0")
    assert await kept.take([(worker, b"{"), (worker, b"[1]"), (worker, b"\xff"), ("w7", good), late]) == []
    assert len(await kept.take([(worker, good), (worker, late[1].replace(b'"b0"', b'"b1"'))])) == 2
    assert await calls(kept) == 1, "what is late of a boot that is known can only be older"


async def test_a_file_that_is_none_is_put_aside(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / measurements.PATH
    path.write_bytes(b"nonsense" * 1000)
    kept = measurements.Measurements(path, clock.now)
    await kept.take([message(clock.now().timestamp(), 1, route(1))])
    assert await calls(kept) == 1
    await kept.close()
    assert (tmp_path / "metrics.db.refused").exists()


async def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / measurements.PATH).mkdir()
    kept = measurements.Measurements(tmp_path / measurements.PATH, clock.now)
    with pytest.raises(errors.StoreBusy, match=r"metrics\.db"):
        await kept.take([message(clock.now().timestamp(), 1, route(1))])
    await kept.close()
