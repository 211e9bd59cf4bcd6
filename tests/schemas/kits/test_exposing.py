"""What Prometheus reads is made aside: whoever scrapes holds up nobody, however often."""

import asyncio
import threading
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from schemas.kits import exposing


async def test_rendering_is_aside_and_shared() -> None:
    loop_thread, threads, gate = threading.get_ident(), list[int](), threading.Event()

    def families() -> Iterator[Metric]:
        threads.append(threading.get_ident())
        assert gate.wait(30)
        yield exposing.gauge("modplane_things", "Things.", {"a": 1.0, 'b"': 2.0}, "kind")
        yield exposing.counter("modplane_events", "Events.", 3)

    exposition = exposing.Exposition(families)
    asked = [asyncio.create_task(exposition.text()) for _ in range(20)]
    while not threads:
        await asyncio.sleep(0)
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 100, "the loop turns while a text is made"
    gate.set()
    texts = await asyncio.gather(*asked)
    assert len(threads) == 1
    assert threads[0] != loop_thread
    assert len(set(texts)) == 1
    lines = texts[0].decode().splitlines()
    assert 'modplane_things{kind="b\\""} 2.0' in lines
    assert "modplane_events_total 3.0" in lines
    assert any(line.startswith("process_cpu_seconds_total") for line in lines)
    exposition.close()


async def test_a_text_grows_old() -> None:
    made = 0

    def families() -> Iterator[Metric]:
        nonlocal made
        made += 1
        yield exposing.gauge("modplane_made", "How often.", made)

    exposition = exposing.Exposition(families)
    first = await exposition.text()
    assert await exposition.text() is first
    exposition._asked -= exposing.FRESH_SECONDS
    assert b"modplane_made 2.0" in await exposition.text()
    exposition.close()


def test_who_is_on_this_machine() -> None:
    for client, local in ((("127.0.0.1", 5), True), (("::1", 5), True), (("10.1.2.3", 5), False), (None, False)):
        assert exposing.is_local({"client": client}) is local
    assert not exposing.is_local({"client": ("testclient", 5)})
