"""A generation whose code is known goes forward in the commit that brings it, and nothing else does."""

import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from sqlalchemy import Connection, Executable

from controlplane.reconcile import deciding
from controlplane.store import executing
from controlplane.store.records import Record
from controlplane.store.transactions import Transaction
from schemas import names
from tests.doubles import planes
from tests.doubles.inspectors import digest, route
from tests.doubles.planes import Plane, manifest
from tests.doubles.polling import until


@pytest.fixture
async def plane(database_url: str) -> AsyncIterator[Plane]:
    async with planes.leading(database_url) as running:
        yield running


async def applied(plane: Plane, number: int = 1, name: str = "one", **spec: object) -> str:
    """Apply a manifest; the state in which the write left the module."""
    (outcome,) = await plane.writer.apply([manifest(name, number, **spec)], manager="test")
    assert outcome.record is not None, outcome.error
    return str(outcome.record.status["state"])


async def active(plane: Plane, generation: int, name: str = "one") -> None:
    async def serves() -> bool:
        record = await plane.store.read(lambda reading: reading.get("Module", name))
        assert record is not None
        return record.status.get("state") == "ACTIVE" and record.status.get("observedGeneration") == generation

    await until(serves)


async def test_known_code_is_registered_and_desired_by_the_commit_that_stores_it(plane: Plane) -> None:
    assert await applied(plane) == "DISCOVERED", "its code was never seen"
    await active(plane, 1)
    assert await applied(plane, 1, limits={"timeoutSeconds": 7}) == "REGISTERED"
    events = await plane.store.read(lambda reading: reading.events_of("one", 100))
    last = [event.spec for event in events][4:7]
    assert [(event["to"], event["generation"]) for event in last] == [
        ("DISCOVERED", 2), ("VALIDATED", 2), ("REGISTERED", 2),
    ]  # fmt: skip
    row = await plane.store.read(lambda reading: reading.desired_row(names.module_key("one")))
    assert row is not None
    assert (row.generation, row.epoch) == (2, plane.leadership.epoch)
    await active(plane, 2)
    assert plane.inspector.asked.total() == 1


async def test_an_apply_of_known_code_takes_two_commits_until_it_is_active(plane: Plane) -> None:
    await applied(plane)
    await active(plane, 1)
    before = plane.store.commits
    await applied(plane, 1, limits={"timeoutSeconds": 7})
    await active(plane, 2)
    renewals = 1
    assert plane.store.commits - before <= 2 + renewals


async def test_going_forward_asks_the_database_seven_questions_and_none_twice(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await applied(plane)
    await active(plane, 1)
    forward, rows = plane.reconciler.forwarder(), executing.rows
    asked: list[str] = []

    def counted(tx: Transaction, record: Record) -> Record:
        asked.clear()  # a unit may run twice
        writer = threading.get_ident()

        def noted(connection: Connection, statement: Executable, values: Mapping[str, object]) -> list[object]:
            if threading.get_ident() == writer:
                asked.append(str(statement))
            return rows(connection, statement, values)

        with monkeypatch.context() as patched:
            patched.setattr(executing, "rows", noted)
            return forward(tx, record)

    plane.writer.forward = lambda: counted
    assert await applied(plane, 1, limits={"timeoutSeconds": 7}) == "REGISTERED"
    assert len(asked) == len(set(asked)), asked
    assert len(asked) <= 7, "lease, desired row, row's error, own claims, inspection, neighbours, head"


async def test_what_is_not_settled_is_left_to_the_loop(plane: Plane) -> None:
    plane.inspector.answers[digest(2)] = [route("/taken")]
    shared = {"routing": {"namespace": "shared"}}
    await applied(plane, 2, "owner", **shared)
    await active(plane, 1, "owner")
    assert await applied(plane, 2, "rival", **shared) == "DISCOVERED"
    assert await applied(plane, 2, "needy", dependencies=[{"name": "rival", "version": "^1"}]) == "DISCOVERED"
    row = await plane.store.read(lambda reading: reading.desired_row(names.module_key("rival")))
    assert row is None


async def test_nothing_goes_forward_under_an_epoch_that_is_over(plane: Plane) -> None:
    await applied(plane)
    await active(plane, 1)
    late = replace(plane.reconciler.forwarder(), epoch=plane.leadership.epoch - 1)
    plane.writer.forward = lambda: late
    assert await applied(plane, 1, limits={"timeoutSeconds": 7}) == "DISCOVERED"
    await active(plane, 2)


async def test_a_decision_that_fails_fails_no_apply(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await applied(plane)
    await active(plane, 1)
    with monkeypatch.context() as patched:
        patched.setattr(deciding, "decide", lambda facts: 1 / 0)
        assert await applied(plane, 1, limits={"timeoutSeconds": 7}) == "DISCOVERED"
    await active(plane, 2)
