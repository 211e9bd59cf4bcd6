"""`modplane trace`: a tree of steps with their times, and who was slowest."""

import json

from controlplane.store import tracking
from schemas.kits import tracecontext
from schemas.traces import Step
from tests.doubles import apiparts
from tests.doubles.desk import Desk


def kept(desk: Desk, name: str) -> tuple[str, str]:
    """A module that was applied, with steps of two workers; its trace, and the call's span."""
    desk.run(desk.parts.apply(apiparts.module(name)))
    trace = desk.run(desk.parts.store.read(lambda reading: tracking.of(reading.ask, name)))
    assert trace is not None
    span = tracecontext.new_span_id
    root = Step(trace=trace.position.trace_id, id=span(), name="POST", who="controlplane", start=1_000, micros=9_000)
    apply = [
        root.model_copy(update={"id": span(), "parent": root.id, "name": "apply", "who": who, "module": name, **more})
        for who, more in (("w0", {"start": 3_000, "micros": 1_000}), ("w1", {"start": 4_000, "micros": 90_000}))
    ]
    load = apply[1].model_copy(update={"id": span(), "parent": apply[1].id, "name": "load", "error": "ImportFailed"})
    desk.run(desk.parts.store.write(lambda tx: tx.keep_steps([root, *apply, load])))
    return trace.position.trace_id, root.id


def test_steps_are_shown_as_a_tree(desk: Desk) -> None:
    trace, _ = kept(desk, "orders")
    lines = desk.type("trace", "orders").out.splitlines()
    assert lines[0].startswith(f"module/orders generation 1, trace {trace}, ")
    assert [line.split()[0:2] for line in lines[2:5]] == [["POST", "0.0"], ["├─", "apply"], ["└─", "apply"]]
    assert lines[3].split()[2:] == ["[w0]", "2.0", "1.0"]
    assert lines[5].split() == ["└─", "load", "3.0", "90.0", "ImportFailed"]
    assert lines[6] == "Slowest worker: w1, done after 93.0 ms."


def test_the_whole_answer(desk: Desk) -> None:
    trace, root = kept(desk, "orders")
    answer = json.loads(desk.type("trace", "orders", "-o", "json").out)
    assert (answer["module_id"], answer["trace_id"], answer["generation"]) == ("orders", trace, 1)
    assert answer["slowest_worker"] == {"id": "w1", "done_after_ms": 93.0}
    first, second = answer["steps"][0], answer["steps"][1]
    assert (first["id"], first["parent"], first["start_ms"], first["duration_ms"]) == (root, None, 0.0, 9.0)
    assert (second["parent"], second["who"]) == (root, "w0")


def test_a_module_that_is_not_there_is_refused(desk: Desk) -> None:
    assert "'nobody'" in desk.type("trace", "nobody", code=1).err
