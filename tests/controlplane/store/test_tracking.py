"""The trace of a module's newest generation is stored with it, and only its steps are kept."""

import json
from dataclasses import replace

from controlplane.store import keeping, tracking
from controlplane.store.stores import Store
from controlplane.telemetry import tracing
from schemas.kits import tracecontext
from schemas.kits.clocks import SystemClock
from schemas.traces import Step
from tests.doubles import records
from tests.doubles.databases import opened


def step(trace: str, module: str = "", *, at: int = 1, name: str = "work", parent: str = "") -> Step:
    span = tracecontext.new_span_id()
    return Step(trace=trace, id=span, parent=parent, name=name, who="controlplane", module=module, start=at, micros=5)


async def trace_of(store: Store, name: str) -> tracking.Trace:
    found = await store.read(lambda reading: tracking.of(reading.ask, name))
    assert found is not None
    return found


async def test_a_generation_remembers_its_trace_also_after_a_restart(database_url: str) -> None:
    asked = tracecontext.start()
    async with opened(database_url) as store:
        with tracing.within(asked):
            stored = await store.write(lambda tx: tx.put(records.module("orders")))
        trace = await trace_of(store, "orders")
        assert (trace.uid, trace.generation, trace.position.trace_id) == (stored.uid, 1, asked.trace_id)
    async with opened(database_url) as store:
        assert await trace_of(store, "orders") == trace
        status = replace(stored, status={"state": "ACTIVE"})
        stored = await store.write(lambda tx: tx.put(status))
        assert await trace_of(store, "orders") == trace  # a status is nobody's change
        await store.write(lambda tx: tx.put(replace(stored, generation=2)))
        assert (await trace_of(store, "orders")).position.trace_id != asked.trace_id
        gone = await store.write(lambda tx: tx.remove(tx.get("Module", "orders")))  # type: ignore[arg-type]
        assert await store.read(lambda reading: tracking.of(reading.ask, gone.name)) is None


async def test_what_is_written_in_a_trace_carries_it_to_workers_and_readers(database_url: str) -> None:
    asked = tracecontext.start()
    async with opened(database_url) as store:
        with tracing.within(asked):
            stored = await store.write(lambda tx: tx.put(records.module("orders")))

            def register(tx: object) -> object:
                assert hasattr(tx, "desire")
                tx.transition(stored, "REGISTERED", "R", "", from_=None)  # type: ignore[attr-defined]
                return tx.desire(key="module.orders", kind="Module", name="orders", uid="u", generation=1, payload="{}")

            row = await store.write(register)
        (event,) = await store.read(lambda reading: reading.pending_outbox(10))
        held = await store.read(lambda reading: reading.desired_row("module.orders"))
    assert row == held
    assert held is not None
    for text in (held.traceparent, json.loads(event.body)["traceparent"]):
        at = tracecontext.read_traceparent(text)
        assert at is not None
        assert at.trace_id == asked.trace_id
    assert "traceparent" not in json.loads(event.body)["data"]


async def test_steps_are_kept_for_their_module_once_and_go_with_its_next_change(database_url: str) -> None:
    async with opened(database_url) as store:
        for name in ("orders", "users"):
            await store.write(lambda tx, name=name: tx.put(records.module(name)))  # type: ignore[misc]
        trace = (await trace_of(store, "orders")).position.trace_id
        common, own, strange = step(trace, at=1), step(trace, "orders", at=2), step(tracecontext.new_trace_id())
        other = step(trace, "users", at=3)
        assert await store.write(lambda tx: tx.keep_steps([own, common, strange, other])) == 3
        revision = store.revision
        assert await store.write(lambda tx: tx.keep_steps([own.model_copy(update={"micros": 9})])) == 1
        assert store.revision == revision
        found = await store.read(lambda reading: tracking.steps(reading.ask, trace, "orders"))
        assert [(each.id, each.micros) for each in found] == [(common.id, 5), (own.id, 9)]
        again = await store.read(lambda reading: reading.get("Module", "orders"))
        assert again is not None
        await store.write(lambda tx: tx.put(replace(again, generation=2)))
        await keeping.Keeper(store, SystemClock()).sweep()
        assert await store.read(lambda reading: tracking.steps(reading.ask, trace, "orders")) == []


async def test_steps_on_the_way_to_another_module_of_the_same_change_are_that_one_s(database_url: str) -> None:
    async with opened(database_url) as store:
        for name in ("orders", "users"):
            await store.write(lambda tx, name=name: tx.put(records.module(name)))  # type: ignore[misc]
        trace = (await trace_of(store, "orders")).position.trace_id
        call = step(trace, at=1, parent=tracecontext.new_span_id())  # in its client's span
        write = step(trace, at=2, parent=call.id)
        orders, users = (step(trace, name, at=3, parent=write.id) for name in ("orders", "users"))
        own, strange = step(trace, at=4, parent=orders.id), step(trace, at=4, parent=users.id)
        below, apart = step(trace, at=5, parent=own.id), step(trace, at=5, parent=strange.id)
        later = step(trace, "orders", at=6, parent=apart.id)
        every = [call, write, orders, users, own, strange, below, apart, later]
        await store.write(lambda tx: tx.keep_steps(every))
        found = await store.read(lambda reading: tracking.steps(reading.ask, trace, "orders"))
        assert [each.id for each in found] == [each.id for each in (call, write, orders, own, below, later)]
